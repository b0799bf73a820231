"""Each script of examples/ runs and says what it promises."""

import runpy
import sys
from pathlib import Path

import pytest

from data.synthetic import render, write_video
from network import build_network
from run.command_line import complete
from train.checkpoint.saving import save_checkpoint
from train.devices import open_devices
from train.setup import prepare

EXAMPLES = Path(__file__).parent.parent / "examples"
NETWORK = "ir_csn_50"


@pytest.fixture
def run_example(monkeypatch, capsys):
    """A function that runs one script with some arguments and returns what it prints."""

    def run(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.fixture(scope="module")
def checkpoint(tiny, tmp_path_factory) -> Path:
    """A checkpoint of a small network with random weights and three classes."""
    config = complete(
        "custom",
        dataset=str(tiny),
        labels=str(tiny / "labels" / "tiny_train.csv"),
        network=NETWORK,
        clip_length=4,
        clip_size=32,
        batch_size=4,
        gpus=0,
        workers=0,
    )
    path = tmp_path_factory.mktemp("examples") / "last.pth"
    with open_devices(0, "fp32") as devices:
        save_checkpoint(path, prepare(config, devices).state_dict())
    return path


@pytest.fixture(scope="module")
def store(tiny) -> Path:
    return tiny / "jpg" / "grow" / "train0"


def test_read_store(run_example, store):
    said = run_example("read_store.py", store)
    assert said.startswith("24 frames of ") and "last   frame: mean colour [" in said


@pytest.mark.parametrize("recipe", ["readme", "none"])
def test_augmented_clip(run_example, store, tmp_path, recipe):
    picture = tmp_path / "clip.png"
    assert str(picture) in run_example(
        "augmented_clip.py", store, "--picture", picture, "--recipe", recipe
    )
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_load_weights(run_example, checkpoint):
    said = run_example("load_weights.py", NETWORK, checkpoint)
    tensors = len(build_network(NETWORK, 3).state_dict())
    assert f"{tensors - 2} tensors are loaded" in said  # all but the classifier's two
    assert "skipped fc.weight" in said and "fc.bias keeps its random start" in said
    assert "logits of two clips: (2, 10)" in said


def test_insert_srtg(run_example):
    said = run_example("insert_srtg.py")
    assert said.count("new: ") >= 4 and "logits: (1, 400)" in said


def test_score_video(run_example, checkpoint, store, tmp_path):
    write_video(tmp_path / "video.mp4", render("grow", 0))
    for video in (store, tmp_path / "video.mp4"):
        lines = run_example("score_video.py", checkpoint, video).splitlines()
        assert sorted(line.split()[0] for line in lines) == ["darken", "grow", "move_left"]


def test_no_example_is_forgotten():
    tested = {name.removeprefix("test_") for name in globals()}
    tested.add("score_onnx")  # in tests/test_run_export.py
    assert {path.stem for path in EXAMPLES.glob("*.py")} <= tested
