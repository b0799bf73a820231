"""`run.explain`: heat maps are where the evidence is, the files tell it, bad input is one line."""

import copy
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from random_checkpoint import random_checkpoint
from torch import nn
from torchvision.models.video.mvit import MSBlockConfig, MViT

import run.explain
from data.clips.clip_dataset import normalise
from data.clips.film_strip import spread
from data.store import DATABASE
from data.synthetic import render, write_video
from network import NetworkError, build_network, insert_srtg
from network.input_profile import DEFAULT_PROFILE
from network.srtg import SRTG
from run.exit_codes import command
from run.explaining.explained_layer import choose_layer, last_layer
from run.explaining.film import film_frames, film_rate
from run.explaining.heat_maps import evidence, grad_cam, resized, saliency_tubes, trace
from run.explaining.occlusion import log_odds, occlude
from run.explaining.overlay import enlarged_frames, overlaid
from run.explaining.random_weights import randomised, rank_correlation
from run.explaining.srtg_factors import srtg_factors
from run.layer_outputs import grid_of, output_shapes, token_frames
from run.mp4_writer import write_mp4

CLASSES = 5


def clip_of(frames: int = 8, size: int = 64) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    clips = torch.randint(256, (1, 3, frames, size, size), generator=random).byte()
    return normalise(clips, DEFAULT_PROFILE.mean, DEFAULT_PROFILE.std)


def network(name: str, **options) -> nn.Module:
    torch.manual_seed(0)
    return build_network(name, CLASSES, **options).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def srtg() -> nn.Module:
    return network("srtg_r3d_18")


@pytest.mark.parametrize("name", ["srtg_r3d_18", "torchvision:r3d_18", "r2plus1d_18"])
def test_heat_maps_are_those_of_torchcam(name):
    methods = pytest.importorskip(
        "torchcam.methods", reason="torchcam, the reference of this test, is not installed"
    )
    net, clip, label = network(name), clip_of(), 3
    tokens = token_frames(output_shapes(net, clip))
    for layer in ("layer4", "layer3", "layer2.1.conv1.0"):
        with methods.GradCAM(copy.deepcopy(net).requires_grad_(), layer) as theirs:
            logits = theirs.model(clip.clone())
            (expected,) = theirs(label, logits, normalized=False)
        found = grad_cam(trace(net, clip, label, layer, tokens))
        torch.testing.assert_close(found, expected[0] / expected.max(), rtol=1e-3, atol=1e-4)
    with methods.CAM(copy.deepcopy(net), "layer4", "fc") as theirs, torch.no_grad():
        theirs.model(clip)
        (expected,) = theirs(label, normalized=False)
    found = saliency_tubes(net, trace(net, clip, label, "layer4", tokens), label)
    # torchcam cuts off what speaks against the class, the authors of Saliency Tubes do not
    weights = trace(net, clip, label, "layer4", tokens)
    signed = torch.einsum("c,cthw->thw", net.fc.weight[label], weights.maps[0])
    torch.testing.assert_close(signed.relu(), expected[0], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found, (signed - signed.min()) / (signed.max() - signed.min()))


@pytest.mark.parametrize("name", ["srtg_r3d_18", "mtnet_s", "torchvision:swin3d_t"])
def test_the_evidence_at_the_last_layer_adds_up_to_the_logit(name):
    """The classifier is linear there, so no other weights of the channels give this sum."""
    net, clip, label = network(name), clip_of(), 2
    shapes = output_shapes(net, clip)
    found = trace(net, clip, label, last_layer(shapes), token_frames(shapes))
    head = net.fc if hasattr(net, "fc") else net.head
    total = sum(
        torch.einsum("c,cthw->thw", back.sum((1, 2, 3)), maps).mean()
        for maps, back in zip(found.maps, found.gradients, strict=True)
    )
    with torch.no_grad():
        torch.testing.assert_close(
            total + head.bias[label], net(clip)[0, label], rtol=1e-3, atol=1e-4
        )
    heat, tubes = evidence(found), saliency_tubes(net, found, label)
    lifted = heat - heat.min()
    torch.testing.assert_close(tubes, lifted / lifted.max(), rtol=1e-2, atol=1e-3)


class Spot(nn.Module):
    """Class 0 is brightness; the pooling halves time and space."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv3d(3, 2, 1, bias=False), nn.ReLU(True), nn.AvgPool3d(2)
        )
        self.fc = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.features[0].weight.copy_(
                torch.tensor([[1.0], [-1.0]]).expand(2, 3).view(2, 3, 1, 1, 1)
            )
            self.fc.weight.copy_(torch.eye(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(x).mean((2, 3, 4)))


@pytest.mark.parametrize("layer", ["features", "features.0", "features.1"])
def test_the_heat_is_where_and_when_the_evidence_is(layer):
    clip = torch.zeros(1, 3, 8, 16, 16, dtype=torch.uint8)
    clip[:, :, 6:8, 2:4, 12:14] = 255
    net = Spot().eval().requires_grad_(False)
    for label, (t, y, x) in ((0, (6.5, 2.5, 12.5)), (1, (3.5, 7.5, 7.5))):
        found = trace(net, clip.float() - (0 if label == 0 else 1), label, layer, 0)
        heat = resized(grad_cam(found), clip.shape[2:])
        assert heat.min() >= 0 and 0.5 < heat.max() <= 1
        if label == 0:
            shares = heat / heat.sum()
            axes = [torch.arange(n) + 0.0 for n in heat.shape]
            centre = [
                float((shares.sum([a for a in range(3) if a != axis]) * axes[axis]).sum())
                for axis in range(3)
            ]
            assert np.allclose(centre, (t, y, x), atol=0.6)
            frames = np.full((8, 64, 64, 3), 128, np.uint8)
            red = overlaid(frames, grad_cam(found)).astype(int)
            red = red[..., 0] - red[..., 2]
            assert np.unravel_index(red.argmax(), red.shape)[0] >= 6
            assert red[7, 8:16, 48:56].mean() > 60 and abs(red[0]).max() < 10
        else:  # all that is not the spot is for the other class
            assert heat[7, 2, 12] < heat[0, 10, 4]


def test_a_layer_before_a_relu_that_works_in_place_is_seen_as_it_was(srtg):
    clip, layer = clip_of(), "layer3.0.conv1.1"  # a norm
    outputs = []
    hook = srtg.get_submodule(layer).register_forward_hook(
        lambda m, i, o: outputs.append(o.clone())
    )
    srtg(clip)
    hook.remove()
    found = trace(srtg, clip, 0, layer, 0)
    assert torch.equal(found.maps[0], outputs[0][0]) and (found.maps[0] < 0).any()


@pytest.mark.parametrize(
    ("name", "frames", "size", "chosen", "last"),
    [
        ("r3d_18", 16, 112, "layer3", "layer4"),
        ("r3d_18", 32, 112, "layer4", "layer4"),
        ("mtnet_s", 16, 112, "layer3", "layer4"),
        ("r3d_18", 4, 32, "layer3", "layer3"),  # layer4 has one position
        ("torchvision:r3d_18", 16, 112, "layer4", "layer4"),
        ("torchvision:s3d", 16, 224, "features", "features"),
        ("torchvision:swin3d_t", 16, 112, "norm", "norm"),
        ("torchvision:mvit_v2_s", 16, 224, "blocks.15.norm1", "blocks.15.norm1"),
    ],
)
def test_the_layer_is_the_last_one_that_shows_when_and_where(name, frames, size, chosen, last):
    with torch.device("meta"):
        net = build_network(name, CLASSES).eval()
        shapes = output_shapes(net, torch.zeros(1, 3, frames, size, size))
    layer, why = choose_layer(shapes, None)
    assert (layer, last_layer(shapes)) == (chosen, last)
    assert why.startswith(f"{layer}") and f"{grid_of(shapes, layer)[1]} x " in why


def test_a_class_token_is_no_position_and_tokens_behind_it_that_are_not_used_are_refused():
    block = MSBlockConfig(1, 16, 16, [3, 3, 3], [3, 3, 3], [1, 1, 1], [1, 2, 2])
    how = (False, False, False, False)
    net = MViT((64, 64), 8, [block, block], *how, num_classes=CLASSES)
    net.eval().requires_grad_(False)
    clip = clip_of()
    shapes = output_shapes(net, clip)
    assert last_layer(shapes) == "blocks.1.norm1" and token_frames(shapes) == 4
    found = trace(net, clip, 1, "blocks.1.norm1", token_frames(shapes))
    assert tuple(grad_cam(found).shape) == grid_of(shapes, "blocks.1.norm1") == (4, 16, 16)
    assert saliency_tubes(net, found, 1) is None  # the classifier sees the class token
    for layer in ("norm", "blocks.1"):
        with pytest.raises(NetworkError, match="does not depend on the positions"):
            trace(net, clip, 1, layer, token_frames(shapes))


def test_names_of_layers_that_do_not_fit(srtg):
    shapes = output_shapes(srtg, clip_of())
    with pytest.raises(NetworkError, match=r"no layer 'layer5'; did you mean layer4, "):
        choose_layer(shapes, "layer5")
    for name in ("fc", "avgpool"):
        with pytest.raises(NetworkError, match=r"no extent in space for this clip.*layer4"):
            choose_layer(shapes, name)
    assert choose_layer(shapes, "layer1.0.conv2.0")[0] == "layer1.0.conv2.0"


def test_random_weights_are_drawn_anew_and_leave_the_network_and_the_generator_alone():
    net = nn.Sequential(nn.Conv3d(3, 4, 3), nn.BatchNorm3d(4), SRTG(4), nn.Linear(4, 4))
    net.token = nn.Parameter(torch.arange(40.0).view(4, 10))
    net[1].running_mean += 1
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    one, same, other = randomised(net, 0), randomised(net, 0), randomised(net, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    drawn = one.state_dict()
    assert all(torch.equal(value, drawn[name]) for name, value in same.state_dict().items())
    for name, value in drawn.items():
        if value.ndim > 1 or name == "1.running_mean":
            assert not torch.equal(value, before[name]), name
    assert sorted(one.token.flatten().tolist()) == list(range(40))
    assert not torch.equal(one[0].weight, other[0].weight)


def test_rank_correlation():
    a = torch.tensor([1.0, 5, 2, 9])
    assert rank_correlation(a, a.exp()) == pytest.approx(1)
    assert rank_correlation(a, -a) == pytest.approx(-1)
    assert rank_correlation(a, torch.ones(4)) is None


def test_occlusion_finds_the_frame_that_matters():
    """An answer that looks at the brightness of frame 5, and at nothing else."""
    clip = torch.full((3, 8, 4, 4), 40, dtype=torch.uint8)
    clip[:, 5] = 200

    def answer(clips: torch.Tensor) -> torch.Tensor:
        bright = clips[:, :, 5].float().mean((1, 2, 3)) / 100
        return torch.stack([bright, torch.zeros(len(clips))], 1)

    found = occlude(clip, 0, answer)
    assert found.whole == pytest.approx(2.0)
    for scores, hidden in ((found.grey, 0.6), (found.repeated, 0.4)):
        assert scores[5] == pytest.approx(hidden, abs=0.01)
        assert scores[:5] + scores[6:] == pytest.approx([2.0] * 7)
    one = occlude(clip[:, 5:6], 0, lambda clips: torch.zeros(len(clips), 2))
    assert (len(one.grey), len(one.repeated)) == (1, 1)


def test_log_odds_are_those_of_the_probability():
    logits = torch.tensor([[2.0, -1, 0.5]])
    p = logits.softmax(1)[0, 1]
    torch.testing.assert_close(log_odds(logits, 1)[0], (p / (1 - p)).log())


def test_factors_are_what_the_blocks_multiply_by_and_gates_are_open_or_closed():
    net = network("srtg_r3d_18", gates=True)
    found = srtg_factors(net, clip_of(16))
    assert [len(block.mean) for block in found] == [8, 8, 4, 4, 2, 2, 1, 1]
    assert [block.block for block in found][:2] == ["layer1.0.sar", "layer1.1.sar"]
    for block in found:
        assert block.is_open is not None and (
            block.is_open or block.mean == [1.0] * len(block.mean)
        )
        assert all(
            a <= b <= c for a, b, c in zip(block.low, block.mean, block.high, strict=True)
        ) or (block.is_open)
    block = SRTG(4).eval()
    x = torch.rand(1, 4, 3, 2, 2)
    torch.testing.assert_close(block(x), x * block.factors(x).transpose(1, 2)[..., None, None])
    unused = insert_srtg(Spot(), gates=True, where=["features"], alpha=0.0).eval()
    (one,) = srtg_factors(unused, torch.rand(1, 3, 8, 16, 16))
    assert one.is_open is None and one.mean == [1.0] * 4
    assert srtg_factors(Spot(), torch.rand(1, 3, 8, 16, 16)) == []


def test_a_film_plays_in_the_clips_time_and_holds_every_frame(tmp_path):
    frames = np.stack([np.full((41, 41, 3), 30 * t, np.uint8) for t in range(6)])
    film = film_frames([("clip", frames), ("heat", frames)], [f"{t} s" for t in range(6)])
    assert film.shape[0] == 6 and not film.shape[1] % 2 and not film.shape[2] % 2
    write_mp4(tmp_path / "a.mp4", film, 3.0, shown_rate=24)
    video = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    shown = []
    while (answer := video.read())[0]:
        shown.append(answer[1])
    assert shown[0].shape == film.shape[1:] and len(shown) == 6 * 24 / 3
    levels = [round(float(image[-20:, :30].mean()) / 30) for image in shown[4::8]]
    assert levels == list(range(6))
    assert [film_rate(rate) for rate in (None, 0.5, 5.0, 30.0)] == [4.0, 2.0, 5.0, 8.0]


def test_a_strip_shows_the_first_and_the_last_frame():
    assert spread(16, 8) == [0, 2, 4, 6, 9, 11, 13, 15]
    assert spread(3, 8) == [0, 1, 2] and spread(1, 8) == [0]


def test_small_frames_are_enlarged_by_a_whole_number():
    assert enlarged_frames(torch.zeros(3, 2, 40, 40, dtype=torch.uint8), 224).shape == (
        2,
        240,
        240,
        3,
    )
    assert enlarged_frames(torch.zeros(3, 2, 256, 256, dtype=torch.uint8), 224).shape == (
        2,
        256,
        256,
        3,
    )


@pytest.fixture(scope="module")
def checkpoint(tiny, tmp_path_factory) -> Path:
    """A network without SRTG blocks."""
    return random_checkpoint(tiny, tmp_path_factory.mktemp("plain"), network="ir_csn_50")


@pytest.fixture(scope="module")
def gated(tiny, tmp_path_factory) -> Path:
    """A network with SRTG blocks that have gates."""
    return random_checkpoint(
        tiny, tmp_path_factory.mktemp("gated"), network="srtg_r3d_18", gates=True
    )


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "grow.mp4"
    write_video(path, render("grow", 1))
    return path


FILES = ["explanation.json", "explanation.mp4", "film_strip.png", "gates.png", "occlusion.png"]


def explained(checkpoint: Path, *words: object) -> int:
    options = ["--checkpoint", str(checkpoint), "--gpus", "0", "--random-networks", "1"]
    options += map(str, words)
    return command(lambda: run.explain.main(options))


def test_a_video_file_is_explained_in_one_folder(gated, video, tmp_path, capsys):
    there = shutil.copy(gated, tmp_path / "best.pth")
    assert explained(there, video, "--start", "0.5") == 0
    folder = tmp_path / "explained" / "grow"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert f"are in {folder}" in capsys.readouterr().out
    facts = json.loads((folder / "explanation.json").read_text())
    assert facts["frames"] == list(range(6, 21, 2)) and facts["seconds"][0] == 0.5
    assert facts["class"] == facts["top"][0]["class"] and len(facts["top"]) == 3
    assert facts["probability"] == facts["top"][0]["score"]
    grid = facts["grad_cam"]["grid"]
    assert np.shape(facts["grad_cam"]["heat"]) == tuple(grid) and grid[0] >= 2
    assert facts["saliency_tubes"]["layer"] == "layer4"
    assert len(facts["occlusion"]["fall_if_grey"]) == 8
    assert len(facts["random_weights"]["rank_correlation"]) == 1
    assert len(facts["srtg"]) == 8 and facts["srtg"][0]["gate"] in ("open", "closed")
    for name in FILES[2:]:
        with Image.open(folder / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 20, name
    assert cv2.VideoCapture(str(folder / "explanation.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) > 8


def test_a_frame_store_another_class_and_another_layer(checkpoint, tiny, tmp_path):
    store = tiny / "jpg" / "grow" / "val0"
    words = (
        checkpoint,
        store,
        "--class",
        "move_left",
        "--layer",
        "layer1",
        "--out",
        tmp_path / "o",
    )
    assert explained(*words) == 0
    facts = json.loads((tmp_path / "o" / "explanation.json").read_text())
    assert facts["class"] == "move_left" and facts["grad_cam"]["layer"] == "layer1"
    assert facts["seconds"] is None and facts["srtg"] == []
    assert {path.name for path in (tmp_path / "o").iterdir()} == {*FILES} - {"gates.png"}


def test_bad_input_is_one_line_and_leaves_nothing(checkpoint, video, tiny, tmp_path, capsys):
    store = tiny / "jpg" / "grow" / "val0"
    (tmp_path / "file").write_text("")
    (tmp_path / "text.mp4").write_text("no video")
    damaged = shutil.copytree(store, tmp_path / "damaged")
    (damaged / DATABASE).write_bytes(b"no database")
    out = tmp_path / "out"
    wrong = {
        "no layer 'layer9'; did you mean layer": (video, "--layer", "layer9"),
        "layer 'fc' has no extent in space": (video, "--layer", "fc"),
        "no class 'grov'; did you mean grow": (video, "--class", "grov"),
        "none.mp4: is neither a video file nor": ("none.mp4",),
        "text.mp4: no frame can be decoded": (tmp_path / "text.mp4",),
        "damaged": (damaged,),
        "does not say its frame rate, so --start": (store, "--start", "1"),
        "argument --start": (video, "--start", "-1"),
    }
    for said, words in wrong.items():
        capsys.readouterr()
        try:
            code = explained(checkpoint, *words, "--out", out)
        except SystemExit as leaving:
            code = leaving.code
        errors = [
            line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")
        ]
        assert code == 2 and len(errors) == 1 and said in errors[0], (words, errors)
        assert not out.exists()
    assert explained(checkpoint, video, "--out", tmp_path / "file") == 2
    assert (tmp_path / "file").read_text() == ""
    assert explained(tmp_path / "none.pth", video) == 2
    assert "none.pth: there is no such file" in capsys.readouterr().err
