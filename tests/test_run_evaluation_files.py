"""`run.evaluate`: its files say what the logits say, and each protocol has a folder of its own."""

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from random_checkpoint import random_checkpoint

import run.evaluate
from data.annotations.video_folders import Videos
from data.data_error import DataError
from data.store import DATABASE
from network.network_error import NetworkError
from network.pretrained.sources import find_source
from run.command_line import complete
from run.evaluate import ORDERS
from run.evaluation import evaluation, result_files
from run.evaluation.evaluation import possible_orders
from run.evaluation.predictions_csv import NAME, read_predictions, write_predictions
from run.evaluation.result_card import file_digest, licence_of
from run.evaluation.result_folder import free_folder, publish
from run.exit_codes import command

ROOT = Path(__file__).parent.parent
SHAPE = ["--clip-length", "4", "--clip-size", "32", "--gpus", "0", "--workers", "0"]
VIEWS, CROPS = 2, 3


@pytest.fixture(scope="module")
def checkpoint(tiny, tmp_path_factory) -> Path:
    return random_checkpoint(tiny, tmp_path_factory.mktemp("plain"), network="ir_csn_50")


def words_for(checkpoint: Path, tiny: Path, *more: object) -> list[str]:
    where = ["--checkpoint", checkpoint, "--dataset", tiny, "--labels", tiny / "labels"]
    return [*map(str, where), *SHAPE, *map(str, more)]


@pytest.fixture(scope="module")
def results(checkpoint, tiny, tmp_path_factory) -> tuple[Path, dict]:
    """The folder of an evaluation with everything in it, and what `main` returns."""
    out = tmp_path_factory.mktemp("out")
    words = words_for(checkpoint, tiny, "--views", VIEWS, "--crops", CROPS, "--order", "all")
    scores = run.evaluate.main([*words, "--save-logits", "--out", str(out)])
    (folder,) = out.iterdir()
    return folder, scores


@pytest.fixture(scope="module")
def logits(results) -> dict[str, np.ndarray]:
    with np.load(results[0] / "logits.npz") as file:  # without pickles
        return dict(file)


@pytest.fixture(scope="module")
def shares(logits) -> np.ndarray:
    """The mean probabilities of each video."""
    powers = np.exp(logits["logits"].astype(np.float64))
    return (powers / powers.sum(-1, keepdims=True)).mean((1, 2))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_name_of_the_folder_says_the_protocol(results, tiny):
    assert results[0].name == f"last-{tiny.name}-4x32-interval2-2views-3crops"


def test_the_logits_are_of_every_clip(logits, tiny):
    assert logits["logits"].shape == (6, VIEWS, CROPS, 3) and logits["logits"].dtype == np.float32
    actions = ("grow", "move_left", "darken")
    assert logits["ids"].tolist() == [f"{actions[i % 3]}/val{i}" for i in range(6)]
    assert [logits["classes"][label] for label in logits["labels"]] == [*actions, *actions]
    first = logits["logits"][:, 0, 0]
    for view, crop in ((0, 1), (0, 2), (1, 0)):
        assert not np.allclose(first, logits["logits"][:, view, crop])


def test_the_predictions_are_those_of_the_logits(results, logits, shares):
    rows = rows_of(results[0] / NAME)
    assert [row["Video"] for row in rows] == logits["ids"].tolist()
    for row, share, label in zip(rows, shares, logits["labels"], strict=True):
        assert row["Label"] == logits["classes"][label] and row["Start"] == row["End"] == ""
        order = np.argsort(-share)
        assert [row[f"Top{k}"] for k in (1, 2, 3)] == logits["classes"][order].tolist()
        for k in (1, 2, 3):
            assert float(row[f"Probability{k}"]) == pytest.approx(share[order[k - 1]], rel=1e-4)
        assert float(row["LabelProbability"]) == pytest.approx(share[label], rel=1e-4)
        assert float(row["Loss"]) == pytest.approx(-np.log(share[label]), rel=1e-4)


def test_the_scores_are_those_of_the_logits(results, logits, shares):
    folder, scores = results
    assert list(scores) == list(ORDERS)
    labels, predicted = logits["labels"], shares.argmax(1)
    top1 = 100 * (predicted == labels).mean()
    forward = scores["forward"]
    assert forward["top1"] == pytest.approx(top1) and forward["clips"] == 6
    assert forward["top5"] == 100
    recall = [(predicted[labels == c] == c).mean() for c in range(3)]
    assert forward["mean_class_accuracy"] == pytest.approx(100 * np.mean(recall))
    classes = rows_of(folder / "classes.csv")
    for number, row in enumerate(classes):
        assert row["Class"] == logits["classes"][number] and row["Videos"] == "2"
        assert float(row["Accuracy"]) == pytest.approx(100 * recall[number], abs=1e-3)
        assert float(row["Low"]) <= float(row["Accuracy"]) <= float(row["High"])
    by_views = rows_of(folder / "views.csv")
    assert [(row["Views"], row["Crops"]) for row in by_views] == [
        ("1", "1"), ("2", "1"), ("1", "3"), ("2", "3"),
    ]  # fmt: skip
    assert float(by_views[-1]["Top1"]) == pytest.approx(top1, abs=1e-3)
    powers = np.exp(logits["logits"].astype(np.float64))
    centre = (powers / powers.sum(-1, keepdims=True))[:, 1, 1].argmax(1)
    assert float(by_views[0]["Top1"]) == pytest.approx(100 * (centre == labels).mean(), abs=1e-3)
    probe = {row["Order"]: float(row["Top1"]) for row in rows_of(folder / "time_probe.csv")}
    assert probe == {o: pytest.approx(s["top1"], abs=1e-3) for o, s in scores.items()}


def test_the_card_says_what_was_scored_and_how(results, checkpoint, tiny):
    folder, scores = results
    card = json.loads((folder / "card.json").read_text())
    assert card["protocol"] == {
        "views": 2, "crops": 3, "frames": 4, "size": 32, "fps": None, "interval": 2,
        "short_side": 37, "short_videos": "loop", "order": "forward",
        "averaging": "mean of the softmax probabilities of all clips of a video",
    }  # fmt: skip
    assert card["checkpoint"]["sha256"] == file_digest(checkpoint)
    assert card["checkpoint"]["network"] == "ir_csn_50"
    assert card["data"]["videos"] == card["data"]["scored"] == 6
    assert set(card["data"]["fingerprint"]) == {"labels", "frames", "pictures", "sizes"}
    assert card["scores"]["top1"]["value"] == pytest.approx(scores["forward"]["top1"])
    assert card["command"].startswith("python -m run.evaluate --checkpoint ")
    assert card["command"].endswith(f"--out {folder.parent}")
    page = (folder / "card.md").read_text()
    for said in ("# ir_csn_50 on", "| top1 |", "## Time probe", "## By number of views",
                 card["command"], card["checkpoint"]["sha256"], "- views: 2\n"):  # fmt: skip
        assert said in page


def test_the_pictures_are_pictures(results):
    drawn = {path.name for path in results[0].glob("*.png")}
    assert drawn >= {"confusion.png", "views.png", "time_probe.png"}
    for name in drawn:
        with Image.open(results[0] / name) as picture:
            assert min(picture.size) > 100 and len(picture.convert("L").getcolors()) > 5
    card = json.loads((results[0] / "card.json").read_text())
    assert ("mistakes.png" in drawn) == (card["scores"]["top1"]["value"] < 100)


def test_every_protocol_has_a_folder_of_its_own_and_the_same_one_is_replaced(
    results, checkpoint, tiny, capsys
):
    folder, _ = results
    out = folder.parent
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    words = words_for(checkpoint, tiny, "--out", out)
    single = run.evaluate.main(words)["forward"]
    assert single["clips"] == 6
    again = run.evaluate.main([*words, "--workers", "1", "--batch-size", "5"])["forward"]
    for name, value in single.items():
        assert again[name] == pytest.approx(value, rel=1e-5)
    assert run.evaluate.main([*words, "--crop-share", "1", "--order", "centre"])["centre"]["clips"]
    said = capsys.readouterr().out
    assert f"results: {out}/last-{tiny.name}-4x32-interval2-1view-1crop\n" in said
    names = sorted(path.name for path in out.iterdir())
    assert names == sorted(
        f"last-{tiny.name}-4x32-interval2-{rest}"
        for rest in ("2views-3crops", "1view-1crop", "1view-1crop-centre")
    )
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert not (out / names[0] / "time_probe.png").exists()


def test_the_time_probe_leaves_out_a_single_frame_where_a_network_cannot_take_it():
    config = complete(
        "custom", dataset="x", network="torchvision:mvit_v2_s", clip_length=16, clip_size=224
    )
    assert possible_orders(ORDERS, config) == [order for order in ORDERS if order != "single"]
    with pytest.raises(NetworkError, match="takes clips of"):
        possible_orders(["single"], config)
    config = complete("custom", dataset="x", network="srtg_r3d_18", clip_length=16, clip_size=112)
    assert possible_orders(ORDERS, config) == list(ORDERS)


def test_a_video_that_cannot_be_read_has_no_row(checkpoint, tiny, tmp_path, capsys):
    root = shutil.copytree(tiny, tmp_path / "damaged")
    store = root / "jpg" / "move_left" / "val1" / DATABASE
    store.write_bytes(store.read_bytes()[:5000])
    words = words_for(checkpoint, root, "--views", "2", "--out", tmp_path / "out")
    assert command(lambda: run.evaluate.main(words)) == 2
    assert not list(tmp_path.glob("out/*"))
    assert command(lambda: run.evaluate.main([*words, "--skip-bad"])) == 0
    assert "only 5 of the videos can be read" in capsys.readouterr().out
    (folder,) = (tmp_path / "out").iterdir()
    card = json.loads((folder / "card.json").read_text())
    assert card["data"]["videos"] == 6 and card["data"]["scored"] == 5
    assert len(read_predictions(folder).videos) == 5


def test_a_failure_while_writing_leaves_the_old_results(results, checkpoint, tiny, monkeypatch):
    folder, _ = results
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    names = sorted(path.name for path in folder.parent.iterdir())

    def fail(folder, card):
        assert (folder / NAME).exists()
        raise RuntimeError("killed")

    monkeypatch.setattr(result_files, "write_card", fail)
    words = words_for(checkpoint, tiny, "--views", VIEWS, "--crops", CROPS)
    with pytest.raises(RuntimeError, match="killed"):
        run.evaluate.main([*words, "--out", str(folder.parent)])
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert names == sorted(path.name for path in folder.parent.iterdir())


def test_a_place_that_cannot_be_written_to_is_one_line_before_the_scoring(
    checkpoint, tiny, tmp_path, capsys, monkeypatch
):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(evaluation, "open_checkpoint", lambda *_: pytest.fail("too late"))
    words = words_for(checkpoint, tiny, "--out", tmp_path / "file")
    assert command(lambda: run.evaluate.main(words)) == 2
    assert f"error: {tmp_path / 'file'}: File exists" in capsys.readouterr().err


def test_a_full_disk_is_one_line_that_names_the_folder(tmp_path, capsys):
    def write(folder):
        (folder / "a").write_text("a")
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "b"))

    assert command(lambda: publish(tmp_path / "x", write)) == 2
    assert f"error: {tmp_path / 'x'}: No space left on device" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_else_is_not_replaced(tmp_path):
    def card(text: str):
        return lambda folder: (folder / "card.json").write_text(text)

    publish(tmp_path / "a", card('{"asked": {"labels": "x"}}'))
    assert free_folder(tmp_path, "a", {"labels": "x"}) == tmp_path / "a"
    assert free_folder(tmp_path, "a", {"labels": "y"}) == tmp_path / "a-2"
    publish(tmp_path / "a-2", card("damaged"))
    assert free_folder(tmp_path, "a", {"labels": "y"}) == tmp_path / "a-3"
    publish(tmp_path / "a", lambda folder: (folder / "new").touch())
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a-2"]


PUBLISH = """
import itertools, sys
from pathlib import Path
from run.evaluation.result_folder import publish
for number in itertools.count():
    def write(folder):
        for name in "abcdef":
            (folder / name).write_text(str(number))
    publish(Path(sys.argv[1]), write)
    print(number, flush=True)
"""


def test_a_killed_process_leaves_one_whole_result(tmp_path, trials):
    trial = trials("an evaluation is written as a whole or not at all", "SIGKILL while it is")
    rng = np.random.default_rng(0)
    for _ in range(trial.number(3, 50)):
        with subprocess.Popen(
            [sys.executable, "-c", PUBLISH, str(tmp_path / "out" / "x")],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ) as process:
            process.stdout.readline()
            time.sleep(rng.uniform(0, 0.05))
            process.kill()
        folders = [path for path in (tmp_path / "out").glob("x*") if len(list(path.iterdir())) == 6]
        contents = [{file.read_text() for file in path.iterdir()} for path in folders]
        trial.add(bool(contents) and all(len(texts) == 1 for texts in contents), contents)
    publish(tmp_path / "out" / "x", lambda folder: (folder / "new").touch())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x"]


def test_predictions_of_segments_and_odd_names_are_read_as_they_were_written(tmp_path):
    classes = ('a "b", c', "gr\udcfcn")
    times = np.array([[np.nan, np.nan], [1.5, 3]])
    videos = Videos(
        tmp_path, np.array(["x, y/1", "z\udcff/2"]), np.array([0, 1]), classes, [], tmp_path,
        times=times,
    )  # fmt: skip
    write_predictions(
        tmp_path, videos, np.array([0, 1]),
        labels=np.array([0, 1]), top=np.array([[0, 1], [0, 1]]), probabilities=np.full((2, 2), 0.5),
        label_probabilities=np.array([0.5, 0.5]), losses=np.array([0.7, 0.7]),
    )  # fmt: skip
    found = read_predictions(tmp_path)
    assert found.videos == ["x, y/1", "z\udcff/2 1.5-3 s"] and found.labels == list(classes)
    assert found.predicted == [classes[0]] * 2 and found.hits.tolist() == [True, False]


@pytest.mark.parametrize(
    "text", ["", "Video,Start,End,Label\na,,,b\n", "Video,Start,End,Label,Top1\na,,,b\n", "\0\n"]
)
def test_a_damaged_table_of_predictions_is_an_error(tmp_path, text):
    (tmp_path / NAME).write_text(text)
    with pytest.raises(DataError, match=r"predictions.csv: cannot be read .* evaluate again"):
        read_predictions(tmp_path)


def test_the_licence_of_weights_is_said_where_it_is_known():
    assert licence_of(None, None) == "not stated; trained with this project from random weights"
    name = "ig65m:r2plus1d_34_clip8_kinetics"
    source = find_source(name)
    for known in (licence_of(source, None), licence_of(None, name), licence_of(source, "/x.pth")):
        assert known == f"{source.licence}, of {name}"
    assert licence_of(None, "/x/best.pth") == "not stated; the weights come from /x/best.pth"
