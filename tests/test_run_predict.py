"""`run.predict` and `run.evaluate` where some of the videos are damaged."""

import csv
import json
import logging
import shutil
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import torch

import run.convert
import run.evaluate
import run.predict
from data.clips.clip_dataset import ClipDataset
from data.store import DATABASE, write_store
from data.synthetic import render, write_video
from run.command_line import complete
from run.exit_codes import command
from train.checkpoint.saving import save_checkpoint
from train.devices import open_devices
from train.evaluation import evaluate
from train.loaders import validation_batches
from train.setup import prepare
from train.training_run import TrainingRun


@pytest.fixture(scope="module")
def training(tiny) -> Iterator[TrainingRun]:
    """A run of a small network with random weights and --skip-bad True."""
    config = complete(
        "custom",
        dataset=str(tiny),
        labels=str(tiny / "labels" / "tiny_train.csv"),
        network="ir_csn_50",
        clip_length=4,
        clip_size=32,
        batch_size=4,
        gpus=0,
        workers=0,
        skip_bad=True,
    )
    with open_devices(0, "fp32") as devices:
        yield prepare(config, devices)


@pytest.fixture(scope="module")
def checkpoint(training, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("run") / "last.pth"
    save_checkpoint(path, training.state_dict())
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> dict[str, Path]:
    """Two stores, a video file, and a damaged one of each."""
    folder = tmp_path_factory.mktemp("videos")
    for name, action in (("a", "grow"), ("b", "move_left"), ("bad", "darken")):
        frames = [simplejpeg.encode_jpeg(frame) for frame in render(action, 0)]
        write_store(folder / name, name, frames)
    content = bytearray((folder / "bad" / DATABASE).read_bytes())
    content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    (folder / "bad" / DATABASE).write_bytes(content)
    write_video(folder / "c.mp4", render("shrink", 0))
    whole = (folder / "c.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    return {name: folder / name for name in ("a", "b", "bad", "c.mp4", "cut.mp4")}


def predict(checkpoint: Path, sources: list[Path], out: Path) -> tuple[int, list[dict]]:
    """The command's exit code and its json."""
    words = ["--checkpoint", str(checkpoint), "--gpus", "0", "--json", str(out)]
    code = command(lambda: run.predict.main([*words, *map(str, sources)]))
    return code, json.loads(out.read_text())["videos"]


@pytest.mark.fault
def test_each_input_gets_its_own_answer(checkpoint, videos, tmp_path, trials, capsys):
    trial = trials("run.predict names each video's own answer", "damaged videos among good ones")
    alone = {}
    for name in ("a", "b", "c.mp4"):
        code, (row,) = predict(checkpoint, [videos[name]], tmp_path / "alone.json")
        assert code == 0 and row.pop("video") == str(videos[name])
        alone[name] = row
    assert len({json.dumps(row) for row in alone.values()}) == 3
    capsys.readouterr()
    # damaged ones first, in the middle and last, in every order
    orders = list(permutations(["a", "b", "c.mp4", "bad", "cut.mp4"]))
    few = [
        order for order in orders if order[1::2] == ("a", "b") or order[::2] == ("a", "b", "c.mp4")
    ]
    for order in [few, orders][trial.full]:
        code, rows = predict(checkpoint, [videos[name] for name in order], tmp_path / "all.json")
        said = capsys.readouterr()
        held = code == 2 and [row.pop("video") for row in rows] == [str(videos[n]) for n in order]
        for name, row in zip(order, rows, strict=True):
            held &= row == alone[name] if name in alone else str(videos[name]) in row["error"]
        shown = [line.split(": ")[0] for line in said.out.splitlines()]
        held &= shown == [str(videos[name]) for name in order if name in alone]
        held &= all(said.err.count(f"ERROR {videos[name]}") == 1 for name in ("bad", "cut.mp4"))
        trial.add(held and "Traceback" not in said.err, order)


def test_folders_of_videos_and_stores(checkpoint, videos, tmp_path):
    folder = tmp_path / "new"
    for name, place in (("a", "jpg/x/a"), ("b", "b"), ("c.mp4", "class/c.mp4")):
        copy = shutil.copytree if videos[name].is_dir() else shutil.copy
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        copy(videos[name], folder / place)
    code, rows = predict(checkpoint, [folder], tmp_path / "all.json")
    assert code == 0
    assert [row["video"] for row in rows] == [
        str(folder / place) for place in ("b", "jpg/x/a", "class/c.mp4")
    ]
    code, rows = predict(checkpoint, [folder / "class"], tmp_path / "one.json")
    assert code == 0 and len(rows) == 1
    (tmp_path / "empty").mkdir()
    code, (row,) = predict(checkpoint, [tmp_path / "empty"], tmp_path / "none.json")
    assert code == 2 and "is neither a video file nor" in row["error"]


def test_evaluation_and_prediction_read_the_clips_of_validation(
    training, checkpoint, tiny, tmp_path, monkeypatch
):
    """Byte for byte the same, also from shards, where the folders do not exist."""
    read = ClipDataset.__getitem__
    seen: dict[str, list[bytes]] = {}

    def noted(clips, request):
        sample = read(clips, request)
        seen.setdefault(clips.videos.folder(request.index).name, []).append(
            sample.clip.numpy().tobytes()
        )
        return sample

    monkeypatch.setattr(ClipDataset, "__getitem__", noted)
    root = shutil.copytree(tiny, tmp_path / "packed")
    assert command(lambda: run.convert.main(["--pack", "--dataset", str(root)])) == 0
    assert not list(root.rglob(DATABASE))
    for _ in validation_batches(training):
        pass
    words = ["--checkpoint", str(checkpoint), "--gpus", "0"]
    for dataset in (tiny, root):
        where = ["--dataset", str(dataset), "--labels", str(dataset / "labels" / "tiny_train.csv")]
        more = [*where, "--workers", "0", "--out", str(tmp_path / "out")]
        assert command(lambda more=more: run.evaluate.main([*words, *more])) == 0
        stores = [dataset / "jpg" / folder for folder in training.val_clips.videos.folders]
        sources = [*words, "--views", "1", *map(str, stores)]
        assert command(lambda sources=sources: run.predict.main(sources)) == 0
    assert len(seen) == 6
    for clips in seen.values():
        # the film strips of the mistakes may show a clip once more in each evaluation
        assert 5 <= len(clips) <= 7 and len(set(clips)) == 1


@pytest.fixture
def damaged(tiny, tmp_path) -> Path:
    """The dataset `tiny` with one damaged validation video."""
    root = shutil.copytree(tiny, tmp_path / "damaged")
    store = root / "jpg" / "move_left" / "val1" / DATABASE
    store.write_bytes(store.read_bytes()[:5000])
    return root


@pytest.mark.parametrize("trained_so", [True, False])
@pytest.mark.parametrize("asked", [True, False])
def test_evaluate_skips_bad_videos_if_it_is_told_to(
    checkpoint, damaged, tmp_path, capsys, trained_so, asked
):
    state = torch.load(checkpoint, weights_only=True)
    state["config"]["skip_bad"] = trained_so
    save_checkpoint(tmp_path / "x.pth", state)
    words = ["--checkpoint", str(tmp_path / "x.pth"), "--dataset", str(damaged), "--gpus", "0"]
    words += ["--labels", str(damaged / "labels" / "tiny_train.csv"), "--workers", "0"]
    results = {}
    code = command(lambda: results.update(run.evaluate.main([*words, "--skip-bad", str(asked)])))
    said = capsys.readouterr()
    if asked:
        assert code == 0 and results["forward"]["clips"] == 5
        assert "only 5 of the videos can be read" in said.out
    else:
        assert code == 2 and not results
        assert [str(damaged / "jpg") in line for line in said.err.splitlines()].count(True) == 1


class NotFinite(torch.nn.Module):
    """A network whose answers to the clips at `bad` places of a batch are not finite."""

    def __init__(self, net: torch.nn.Module, bad: list[int]):
        super().__init__()
        self.net, self.bad = net, bad

    def forward(self, clips):
        logits = self.net(clips)
        logits[self.bad] = torch.inf
        return logits


def test_class_names_that_are_not_utf8_or_look_like_formulas(
    checkpoint, tiny, videos, tmp_path, capsys
):
    state = torch.load(checkpoint, weights_only=True)
    root = shutil.copytree(tiny, tmp_path / "data")
    for number, name in enumerate(("gr\udcfcn", "$x", 'a "b", c$')):
        (root / "jpg" / state["classes"][number]).rename(root / "jpg" / name)
        for path in (root / "labels").iterdir():
            text = path.read_text(errors="surrogateescape")
            written = '"{}",'.format(name.replace('"', '""'))
            text = text.replace(f"{state['classes'][number]},", written)
            path.write_text(text, errors="surrogateescape")
        state["classes"][number] = name
    save_checkpoint(tmp_path / "x.pth", state)
    words = ["--checkpoint", str(tmp_path / "x.pth"), "--gpus", "0"]
    assert command(lambda: run.predict.main([*words, str(videos["a"])])) == 0
    assert "gr\\udcfcn" in capsys.readouterr().out
    words += ["--dataset", str(root), "--labels", str(root / "labels"), "--workers", "0"]
    assert command(lambda: run.evaluate.main(words)) == 0
    (folder,) = (tmp_path / "evaluation").iterdir()
    with (folder / "classes.csv").open(errors="surrogateescape", newline="") as file:
        assert [row["Class"] for row in csv.DictReader(file)] == state["classes"]


def test_a_validation_loss_that_is_not_finite_is_a_warning_that_names_the_clips(training, caplog):
    batches, seen = validation_batches(training), training.val_clips.videos
    with caplog.at_level(logging.WARNING):
        scores = evaluate(training.net, batches, training.devices, seen).scores
        assert not caplog.messages and np.isfinite(scores["loss"])
        net = NotFinite(training.net, [1])
        scores = evaluate(net, batches, training.devices, seen, title="validation").scores
    assert scores["clips"] == 6 and not np.isfinite(scores["loss"])
    (message,) = caplog.messages
    assert "validation: the loss of 2 of 6 videos is not finite" in message
    assert message.endswith(f"the videos are {seen.folders[1]}, {seen.folders[5]}")
