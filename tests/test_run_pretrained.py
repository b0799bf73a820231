"""Commands that take a trained network also take pretrained weights, with their own clips."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import torch
from reference_networks import CSN, randomised
from torchvision.models import get_model, get_model_weights

import run.evaluate
import run.evaluation.evaluation
import run.explain
import run.features
import run.predict
import run.recogniser
from data.store import write_store
from data.synthetic import render
from network.input_profile import InputProfile
from network.pretrained.opening import find_weights
from network.pretrained.sources import LAYOUT_PROFILES, find_source
from run.exit_codes import command
from run.shared_options import folder_beside
from run.single_clip import read_clip
from run.trained_network import Trained, open_checkpoint
from train.devices import open_devices

R3D = "torchvision:r3d_18"
KINETICS = get_model_weights("r3d_18").DEFAULT.meta["categories"]
RENAMED = {"grow": KINETICS[7], "move_left": "Air_Drumming", "darken": KINETICS[399]}


@pytest.fixture(scope="module")
def theirs() -> torch.nn.Module:
    """torchvision's r3d_18 with random weights."""
    return randomised(get_model("r3d_18", num_classes=400)).eval()


@pytest.fixture(scope="module")
def opened(theirs, tmp_path_factory) -> Trained:
    """What commands open where these weights are in the place of the published ones."""
    home = tmp_path_factory.mktemp("hub")
    folder = home / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(theirs.state_dict(), folder / find_source(R3D).file_name)
    with pytest.MonkeyPatch.context() as patch, open_devices(0, "fp32") as devices:
        patch.setenv("TORCH_HOME", str(home))
        return open_checkpoint(Path(R3D), devices)


@pytest.fixture
def once(opened, tmp_path, monkeypatch) -> None:
    """Lets the commands use the network that is open already, and write into a folder."""
    for module in (run.recogniser, run.evaluation.evaluation):
        monkeypatch.setattr(module, "open_checkpoint", lambda *given: opened)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def csn(tmp_path_factory) -> Path:
    """A file of mmaction2's ircsn_50 for 3 classes, without their names."""
    path = tmp_path_factory.mktemp("csn") / "csn.pth"
    torch.save({"state_dict": randomised(CSN((3, 4, 6, 3), 3)).state_dict()}, path)
    return path


@pytest.fixture
def small(monkeypatch):
    """mmaction2's input profile with smaller clips, which take less time."""
    profile = InputProfile(mean=(0.5, 0.4, 0.3), std=(0.3, 0.2, 0.1), frames=4, interval=2,
                           resize=40, crop=32)  # fmt: skip
    monkeypatch.setitem(LAYOUT_PROFILES, "mmaction2", profile)
    return profile


def test_predictions_are_torchvisions_on_clips_as_its_weights_expect_them(
    theirs, opened, once, tmp_path
):
    frames = [simplejpeg.encode_jpeg(frame) for frame in render("grow", 3)]
    video = tmp_path / "video"
    write_store(video, "video", frames, times=[number / 30 for number in range(len(frames))])
    words = ["--checkpoint", R3D, "--gpus", "0", "--views", "1", "--json", "p.json", str(video)]
    assert command(lambda: run.predict.main([*words, "--top", "400"])) == 0
    (row,) = json.loads(Path("p.json").read_text())["videos"]
    found = {one["class"]: one["score"] for one in row["top"]}
    assert sorted(found) == sorted(KINETICS) and list(opened.classes) == KINETICS
    clip = read_clip(opened, video, tmp_path / "scratch").clip
    assert clip.shape == (3, 16, 112, 112)
    assert (opened.config.clip_fps, opened.config.crop_share) == (15, 112 / 128)
    asked = get_model_weights("r3d_18").DEFAULT.transforms()
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (asked.mean, asked.std))
    with torch.no_grad():
        expected = theirs(((clip / 255 - mean) / std)[None])[0].softmax(0)
    shares = [found[name] for name in KINETICS]  # rounded to six digits
    np.testing.assert_allclose(shares, expected.numpy(), rtol=1e-4, atol=1e-6)


def renamed(tiny: Path, root: Path) -> Path:
    """The dataset `tiny` with names of Kinetics in place of its classes."""
    shutil.copytree(tiny, root)
    for path in (root / "labels").iterdir():
        rows = list(csv.reader(path.open()))
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([[RENAMED.get(row[0], row[0]), *row[1:]] for row in rows])
    for old, new in RENAMED.items():
        (root / "jpg" / old).rename(root / "jpg" / new)
    return root


def scored(checkpoint: object, root: Path, *words: object) -> tuple[int, dict]:
    """Exit code and scores of run.evaluate."""
    options = ["--checkpoint", checkpoint, "--dataset", root, "--gpus", 0, "--workers", 0, *words]
    results: dict = {}
    code = command(lambda: results.update(run.evaluate.main(list(map(str, options)))))
    return code, results


def test_evaluation_with_some_of_the_weights_classes(once, tiny, tmp_path):
    root = renamed(tiny, tmp_path / "renamed")
    with (root / "labels" / "tiny_val.csv").open() as file:
        rows = list(csv.reader(file))[:2]
    with (root / "labels" / "tiny_val.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    code, results = scored(R3D, root)
    assert code == 0 and results["forward"]["clips"] == 1
    (folder,) = Path("results/pretrained/torchvision_r3d_18/evaluation").iterdir()
    assert folder.name.startswith("torchvision_r3d_18-renamed-16x112-interval2-1view")
    card = json.loads((folder / "card.json").read_text())
    assert card["checkpoint"]["licence"] == f"{find_source(R3D).licence}, of {R3D}"
    with (folder / "classes.csv").open() as file:
        counts = {row["Class"]: row["Videos"] for row in csv.DictReader(file)}
    assert len(counts) == 400 and counts[RENAMED["grow"]] == "1"


def test_evaluation_with_other_classes_is_one_line(once, tiny, capsys):
    code, results = scored(R3D, tiny)
    assert (code, results) == (2, {})
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(said) == 1 and "tiny_val.csv:2: has the unknown class 'grow'" in said[0]


def test_weights_without_class_names_take_them_from_the_training_labels(csn, small, tiny, tmp_path):
    code, results = scored(csn, tiny, "--out", tmp_path)
    assert code == 0 and results["forward"]["clips"] == 6
    (path,) = tmp_path.glob("csn-*/classes.csv")
    with path.open() as file:
        counts = [(row["Class"], row["Videos"]) for row in csv.DictReader(file)]
    assert counts == [("grow", "2"), ("move_left", "2"), ("darken", "2")]


def test_weights_without_class_names_for_another_number_of_classes(csn, tiny, tmp_path, capsys):
    (tmp_path / "labels").mkdir()
    for part in ("train", "val"):
        rows = (tiny / "labels" / f"tiny_{part}.csv").read_text().splitlines()
        kept = [row for row in rows if not row.startswith("darken")]
        (tmp_path / "labels" / f"two_{part}.csv").write_text("\n".join(kept))
    code, _ = scored(csn, tiny, "--labels", tmp_path / "labels")
    said = capsys.readouterr().err
    assert code == 2 and "two_train.csv: has 2 classes, but" in said and "csn.pth has 3" in said


def test_features_of_weights_from_a_file(csn, small, tiny, tmp_path, caplog):
    words = ["--checkpoint", str(csn), "--gpus", "0", "--out", str(tmp_path)]
    data = ["--dataset", str(tiny), "--workers", "0"]
    caplog.set_level("INFO")
    assert command(lambda: run.features.main([*words, *data])) == 0
    assert f"weights from {csn}: ir_csn_50, 3 classes" in caplog.text
    with np.load(tmp_path / "features.npz") as file:
        assert file["features"].shape == (6, 2048)
        assert (file["last_frame"] - file["first_frame"]).tolist() == [6] * 6


@pytest.mark.slow
def test_an_explanation_of_weights_from_a_file(csn, small, tiny, tmp_path):
    words = ["--checkpoint", str(csn), "--gpus", "0", "--out", str(tmp_path), "--class", "class 2"]
    video = str(tiny / "jpg" / "grow" / "val0")
    assert command(lambda: run.explain.main([*words, "--random-networks", "1", video])) == 0
    facts = json.loads((tmp_path / "explanation.json").read_text())
    assert facts["class"] == "class 2" and len(facts["frames"]) == 4


def test_a_file_is_known_by_its_published_name(tmp_path):
    path = tmp_path / find_source(R3D).file_name
    file, source = find_weights(path)
    assert file == path and list(source.class_names) == KINETICS
    assert find_weights(tmp_path / "mine.pth")[1] is None


def test_a_source_that_cannot_be_had_is_one_line(tmp_path, monkeypatch, capsys):
    def offline(*args, **kwargs):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr("urllib.request.OpenerDirector.open", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name, why in (
        ("torchvision:mvit_v2_s", f"{os.sep}mvit_v2_s-ae3be167.pth"),
        ("torchvision:r3d_19", "the nearest are torchvision:r3d_18, "),
    ):
        words = ["--checkpoint", name, "clip.mp4", "--gpus", "0"]
        assert command(lambda words=words: run.predict.main(words)) == 2
        (said,) = [
            line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")
        ]
        assert name in said and why in said


def test_a_classifier_without_its_biases_is_refused(tmp_path, csn, capsys):
    state = torch.load(csn)["state_dict"]
    del state["cls_head.fc_cls.bias"]
    torch.save(state, tmp_path / "x.pth")
    words = ["--checkpoint", str(tmp_path / "x.pth"), "clip.mp4", "--gpus", "0"]
    assert command(lambda: run.predict.main(words)) == 2
    assert "x.pth: its classifier fc is not complete" in capsys.readouterr().err


def test_results_of_a_named_source_have_a_folder_of_their_own(tmp_path):
    assert folder_beside(Path("a", "best.pth")) == Path("a")
    assert folder_beside(Path(R3D)) == Path("results", "pretrained", "torchvision_r3d_18")
