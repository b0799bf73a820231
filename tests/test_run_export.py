"""`run.export`: files compute what the checkpoint computes, or are not written."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from random_checkpoint import random_checkpoint
from torch import nn

import run.export
import run.exporting.formats
from network import build_network, registry
from network.layers import Conv3d
from network.srtg import SRTG
from run.exit_codes import command
from run.exporting.agreement import largest_difference
from run.exporting.clip_axes import ClipAxes, clip_axes, random_clips, shapes_to_check
from run.exporting.exported_network import ExportedNetwork
from run.exporting.formats import FORMATS
from run.trained_network import open_checkpoint
from train.devices import open_devices
from train.input_normalisation import normalised
from train.train_errors import TrainError

EXAMPLE = Path(__file__).parent.parent / "examples" / "score_onnx.py"
NETWORK = "srtg_r3d_18"


class Small(nn.Module):
    """A network with an SRTG block, whose export takes seconds: (B, 3, T, H, W) -> (B, classes)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(Conv3d(3, 8, 3, stride=2, padding=1), nn.BatchNorm3d(8))
        self.sar = SRTG(8, gates=True)
        self.fc = nn.Linear(8, classes)

    def forward(self, x):
        return self.fc(self.sar(self.stem(x)).mean((2, 3, 4)))


@pytest.fixture(scope="module")
def small():
    """Puts such a network in the place of srtg_r3d_18."""
    for package in (name for names in run.export.PACKAGES.values() for name in names):
        pytest.importorskip(package, reason="pip install -e .[export]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._BUILDERS, NETWORK, lambda classes, options: Small(classes))
        yield


@pytest.fixture(scope="module")
def checkpoint(small, tiny, tmp_path_factory) -> Path:
    return random_checkpoint(tiny, tmp_path_factory.mktemp("run"), network=NETWORK)


@pytest.fixture(scope="module")
def trained_net(checkpoint) -> nn.Module:
    with open_devices(0, "fp32") as devices:
        return open_checkpoint(checkpoint, devices).net


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory) -> Path:
    """The folder of all three files."""
    folder = tmp_path_factory.mktemp("exported")
    words = ["--checkpoint", str(checkpoint), "--out", str(folder), "--format", *FORMATS]
    assert command(lambda: run.export.main(words)) == 0
    return folder


def logits(net: nn.Module, clips: np.ndarray) -> np.ndarray:
    """What evaluation computes: clips (N, 3, T, H, W), normalised there, through the network."""
    with torch.no_grad():
        return net(normalised(net, torch.from_numpy(clips).permute(0, 4, 1, 2, 3))).numpy()


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("safetensors", [(2, 8, 48, 48), (1, 1, 16, 16)]),
        ("torch", [(1, 8, 48, 48), (3, 8, 33, 40), (2, 8, 90, 33)]),
        ("onnx", [(1, 8, 48, 48), (3, 1, 16, 16), (2, 33, 20, 50), (1, 5, 65, 17)]),
    ],
)
def test_each_file_computes_what_evaluation_computes(name, shapes, exported, trained_net):
    answer = FORMATS[name].answer(exported / f"model{FORMATS[name].suffix}")
    for shape in shapes:
        clips = random_clips(shape)
        right = logits(trained_net, clips)
        np.testing.assert_allclose(answer(clips), right, rtol=1e-4, atol=1e-5)
    assert right.std() > 1e-4


def test_the_files_are_there_and_nothing_else(exported):
    assert sorted(path.name for path in exported.iterdir()) == [
        "model.onnx", "model.pt2", "model.safetensors",
    ]  # fmt: skip


def test_the_example_runs_the_file_with_onnxruntime_alone(
    exported, trained_net, tmp_path, monkeypatch, capsys
):
    text = EXAMPLE.read_text()
    modules = {line.split()[1] for line in text.splitlines() if line.startswith("import ")}
    assert (
        modules == {"json", "sys", "numpy", "onnxruntime"} and "from " not in text.split('"""')[2]
    )
    clips = random_clips((1, 8, 48, 48))
    np.save(tmp_path / "clip.npy", clips[0])
    words = [EXAMPLE.name, str(exported / "model.onnx"), str(tmp_path / "clip.npy")]
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    scores = torch.from_numpy(logits(trained_net, clips))[0].softmax(0)
    classes = ("grow", "move_left", "darken")
    order = scores.argsort(descending=True).tolist()
    expected = [f"{classes[i]:20} {scores[i]:6.1%}" for i in order]
    assert capsys.readouterr().out.splitlines() == expected


def test_every_file_tells_network_classes_and_profile(exported, trained_net):
    from onnx import load
    from safetensors import safe_open

    with safe_open(exported / "model.safetensors", "np") as file:
        told = [file.metadata()]
    told.append({entry.key: entry.value for entry in load(exported / "model.onnx").metadata_props})
    extra = {"network.json": ""}
    torch.export.load(exported / "model.pt2", extra_files=extra)
    told.append(json.loads(extra["network.json"]))
    for facts in told:
        assert facts["network"] == NETWORK
        assert json.loads(facts["classes"]) == ["grow", "move_left", "darken"]
        profile = json.loads(facts["profile"])
        assert (profile["frames"], profile["crop"]) == (8, 48)
        assert tuple(profile["mean"]) == trained_net.input_profile.mean
        assert "uint8 (N, T, H, W, 3)" in facts["input"] and "logits" in facts["output"]


@pytest.mark.parametrize("wrong", [0.01, np.nan])
def test_a_file_that_differs_is_refused_and_none_is_left(
    checkpoint, tmp_path, monkeypatch, capsys, wrong
):
    write = run.exporting.formats.write_safetensors

    def write_other(net, axes, facts, path):
        with torch.no_grad():
            net.net.fc.bias[1] += wrong
            write(net, axes, facts, path)
            net.net.fc.bias[1] -= wrong if wrong == wrong else 0
            net.net.fc.bias.nan_to_num_()

    kind = run.exporting.formats.FileFormat(
        ".safetensors", write_other, FORMATS["safetensors"].answer
    )
    monkeypatch.setitem(FORMATS, "safetensors", kind)
    (tmp_path / "model.safetensors").write_text("an earlier one")
    words = ["--checkpoint", str(checkpoint), "--out", str(tmp_path), "--format", "safetensors"]
    assert command(lambda: run.export.main(words)) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(said) == 1 and "model.safetensors: differs from the checkpoint by" in said[0]
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert (tmp_path / "model.safetensors").read_text() == "an earlier one"


def test_the_largest_difference_is_relative_to_large_logits_only():
    expected = {(1, 1, 8, 8): np.array([[500.0, 0.0]]), (2, 1, 8, 8): np.array([[0.1, 0.0]])}

    def off_by(difference):
        return lambda clips: expected[clips.shape[:4]] + difference

    assert largest_difference(off_by(5e-5), expected, "x") == pytest.approx(5e-5)
    with pytest.raises(TrainError, match=r"by 0\.001 for clips of 2x1x8x8"):
        largest_difference(off_by(1e-3), expected, "x")


def test_a_missing_package_is_one_line(checkpoint, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "onnxscript" else name
    )
    words = ["--checkpoint", str(checkpoint), "--out", str(tmp_path / "x"), "--format", "onnx"]
    assert command(lambda: run.export.main(words)) == 2
    assert "needs onnxscript: run `pip install -e .[export]`" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_which_clips_a_file_takes():
    assert clip_axes("srtg_r3d_34", "onnx", 16, 224) == ClipAxes(None, None, (1, 16))
    torch_file = clip_axes("r2plus1d_34", "torch", 16, 112)
    assert (torch_file.frames, torch_file.size, torch_file.least) == (16, None, (1, 33))
    for name in ("torchvision:mvit_v2_s", "torchvision:swin3d_t", "torchvision:s3d", "mtnet_s_g8"):
        axes = clip_axes(name, "onnx", 16, 224)
        assert (axes.frames, axes.size) == (16, 224) and axes.why
        assert {shape[1:] for shape in shapes_to_check(axes, 16, 224)} == {(16, 224, 224)}
        assert {shape[0] for shape in shapes_to_check(axes, 16, 224)} == {1, 2, 3}


def test_the_clips_to_check_have_several_shapes_that_the_file_takes():
    axes = clip_axes("srtg_r3d_34", "onnx", 16, 112)
    shapes = shapes_to_check(axes, 16, 112)
    assert shapes[0] == (1, 16, 112, 112) and len({shape[1] for shape in shapes}) == 4
    assert min(shape[1] for shape in shapes) == 1 and any(h != w for _, _, h, w in shapes)
    clips = random_clips(shapes[1])
    assert clips.dtype == np.uint8 and clips.shape == (*shapes[1], 3)
    assert len({clip.tobytes() for clip in clips}) == 3 and clips.std() > 30


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("srtg_r3d_18", 48, {"gates": True}),
        ("srtg_r3d_18", 48, {"srtg_alpha": 0.5}),
        ("r2plus1d_18", 48, {}),
        ("ip_csn_50", 48, {}),
        ("mtnet_xs", 48, {}),
        ("mtnet_xs_g8", 48, {}),
        ("torchvision:mc3_18", 48, {}),
        ("srtg_torchvision:r2plus1d_18", 48, {}),
        ("torchvision:s3d", 224, {}),
        ("torchvision:mvit_v2_s", 224, {}),
        ("torchvision:swin3d_t", 64, {}),
    ],
)
@pytest.mark.parametrize("file_format", ["torch", "onnx"])
def test_networks_of_every_family(name, size, options, file_format, tmp_path):
    torch.manual_seed(0)
    net = ExportedNetwork(build_network(name, 5, **options)).eval().requires_grad_(False)
    axes = clip_axes(name, file_format, 16, size)
    path = tmp_path / "x"
    FORMATS[file_format].write(net, axes, {}, path)
    expected = {}
    for shape in shapes_to_check(axes, 16, size):
        expected[shape] = logits(net.net, random_clips(shape))
    largest_difference(FORMATS[file_format].answer(path), expected, name)
