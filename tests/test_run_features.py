"""`run.features`: the features are those of the layer, each with its video; neighbours are near."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from random_checkpoint import random_checkpoint

import run.evaluate
import run.features
from data.clips.clip_dataset import normalise
from data.clips.loader import Batch
from data.store import DATABASE, FrameStore, write_store
from network import build_network
from network.input_profile import DEFAULT_PROFILE
from run.exit_codes import command
from run.layer_features import features_of
from run.layer_outputs import output_shapes
from run.neighbours import Query, nearest, share_of_same_label
from run.trained_network import open_checkpoint
from train.devices import open_devices


@pytest.fixture(scope="module")
def checkpoint(tiny, tmp_path_factory) -> Path:
    return random_checkpoint(tiny, tmp_path_factory.mktemp("plain"), network="ir_csn_50")


def extracted(checkpoint: Path, root: Path, *words: object) -> int:
    """The exit code of the command."""
    options = ["--checkpoint", checkpoint, "--dataset", root, "--labels", root / "labels"]
    options += ["--gpus", "0", "--workers", "0", *words]
    return command(lambda: run.features.main(list(map(str, options))))


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:  # without pickles
        return dict(file)


def test_the_features_are_what_the_classifier_gets(checkpoint, tiny, tmp_path, capsys):
    assert extracted(checkpoint, tiny, "--out", tmp_path) == 0
    found = arrays(tmp_path / "features.npz")
    assert found["features"].dtype == np.float32 and found["features"].shape == (6, 512)
    assert found["ids"].tolist() == [f"val{i}" for i in range(6)]
    classes = [str(found["classes"][label]) for label in found["labels"]]
    assert classes == ["grow", "move_left", "darken"] * 2
    assert [f"{name}/{video}" for name, video in zip(classes, found["ids"], strict=True)] == (
        found["folders"].tolist()
    )
    assert np.isnan(found["start"]).all() and found["view"].tolist() == [0] * 6
    assert found["first_frame"].tolist() == [4] * 6 and found["last_frame"].tolist() == [18] * 6
    with open_devices(0, "fp32") as devices:
        net = open_checkpoint(checkpoint, devices).net
    logits = torch.from_numpy(found["features"]) @ net.fc.weight.T + net.fc.bias
    right = sum(logits.argmax(1).numpy() == found["labels"])
    words = ["--dataset", str(tiny), "--labels", str(tiny / "labels"), "--out", str(tmp_path)]
    words += ["--checkpoint", str(checkpoint), "--gpus", "0", "--workers", "0"]
    scores = run.evaluate.main(words)["forward"]
    assert scores["top1"] == pytest.approx(100 * right / 6)
    labels = torch.from_numpy(found["labels"])
    loss = torch.nn.functional.cross_entropy(logits, labels).item()
    assert scores["loss"] == pytest.approx(loss, rel=1e-4)
    assert "6 clips, 512 features of each" in capsys.readouterr().out


def test_views_are_rows_of_their_own_with_their_times(checkpoint, tiny, tmp_path):
    root = shutil.copytree(tiny, tmp_path / "set")
    for folder in (root / "jpg").glob("*/val*"):
        with FrameStore(folder) as store:
            jpegs = store.jpegs(range(store.n_frames))
        shutil.rmtree(folder)
        write_store(folder, folder.name, jpegs, times=[i / 10 for i in range(len(jpegs))])
    there = shutil.copy(checkpoint, tmp_path / "best.pth")
    assert extracted(there, root, "--views", 3, "--batch-size", 4, "--layer", "layer3") == 0
    found = arrays(tmp_path / "features" / "set" / "features.npz")
    assert len(found["features"]) == 18 and found["view"].tolist() == [0, 1, 2] * 6
    assert found["ids"].tolist()[:6] == ["val0"] * 3 + ["val1"] * 3
    assert found["first_frame"].tolist() == [0, 4, 9] * 6
    np.testing.assert_allclose(found["start"], found["first_frame"] / 10)
    np.testing.assert_allclose(found["end"], found["start"] + 1.4)
    assert str(found["layer"]) == "layer3" and str(found["network"]) == "ir_csn_50"
    assert not np.allclose(found["features"][0], found["features"][2])


@pytest.mark.parametrize(
    ("name", "layer", "width"),
    [
        ("srtg_r3d_18", "layer2", 128),
        ("srtg_r3d_18", "layer2.0.sar.lstm", 128),
        ("mtnet_s", "layer4", 512),
        ("torchvision:s3d", None, 1024),
    ],
)
def test_any_layer_of_any_network_gives_one_row_for_each_clip(name, layer, width):
    torch.manual_seed(0)
    net = build_network(name, 5).eval()
    count, size = (1, 224) if "s3d" in name else (2, 64)
    clips = torch.randint(256, (count, 3, 16, size, size), dtype=torch.uint8)
    shown = normalise(clips, DEFAULT_PROFILE.mean, DEFAULT_PROFILE.std)
    shapes = output_shapes(net, shown[:1])
    numbers = torch.tensor([4, 7])[:count]
    batch = Batch(clips, numbers, numbers, torch.full((count,), -1))
    with open_devices(0, "fp32") as devices:
        how = {"layer": layer, "shapes": shapes, "title": ""}
        ((indices, found),) = features_of(net, [batch], devices, **how)
        assert indices.tolist() == numbers.tolist() and found.shape == (count, width)
        if count > 1:
            ((_, alone),) = features_of(net, [Batch(*(p[1:] for p in batch))], devices, **how)
            np.testing.assert_allclose(found[1:], alone, rtol=1e-3, atol=1e-4)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    if layer == "layer2":
        with torch.no_grad():
            expected = net.layer2(net.layer1(net.pool(net.stem(shown)))).mean((2, 3, 4))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_nearest_are_other_videos_with_the_largest_cosines():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 6)).astype(np.float32)
    indices, labels = np.arange(40) // 2, rng.integers(0, 3, 20)[np.arange(40) // 2]
    cosines = features @ features.T
    lengths = np.sqrt(np.diag(cosines))
    cosines /= lengths[:, None] * lengths
    others = [max((cosines[4, row], row) for row in (2 * i, 2 * i + 1)) for i in range(20)]
    expected = sorted(((c, row // 2) for c, row in others if row // 2 != 2), reverse=True)[:3]
    query = Query("x", video=2, features=features[4])
    found = nearest(query, features, indices, 3)
    assert [row // 2 for row, _ in found] == [index for _, index in expected]
    assert [cosines[4, row] for row, _ in found] == pytest.approx([c for c, _ in expected])
    assert [c for _, c in found] == pytest.approx([c for c, _ in expected], rel=1e-4)
    cosines[indices[:, None] == indices[None]] = -2
    same = np.mean(labels[cosines.argmax(1)] == labels)
    assert share_of_same_label(features, labels, indices) == pytest.approx(same)
    assert share_of_same_label(features[:2], labels[:2], indices[:2]) is None
    assert len(nearest(query, features, indices, 50)) == 19


def test_neighbours_of_a_video_of_the_dataset_and_of_one_that_is_given(checkpoint, tiny, tmp_path):
    store = shutil.copytree(tiny / "jpg" / "grow" / "val3", tmp_path / "copy")
    words = ("--neighbours", "val1", store, "--count", 2, "--out", tmp_path / "o")
    assert extracted(checkpoint, tiny, *words) == 0
    answers = json.loads((tmp_path / "o" / "neighbours.json").read_text())
    assert list(answers) == ["val1", "copy"] and len(answers["val1"]) == 2
    assert "val1" not in [row["id"] for row in answers["val1"]]
    assert answers["copy"][0] == {"id": "val3", "class": "grow", "similarity": 1.0}
    for name in answers:
        with Image.open(tmp_path / "o" / f"neighbours_{name}.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 20


def test_bad_input_is_one_line_and_leaves_nothing(checkpoint, tiny, tmp_path, capsys):
    damaged = shutil.copytree(tiny, tmp_path / "damaged")
    (damaged / "jpg" / "grow" / "val3" / DATABASE).write_bytes(b"no database")
    (tmp_path / "text.mp4").write_text("no video")
    wrong = {
        "no layer 'layer9'; did you mean layer": (tiny, "--layer", "layer9"),
        "no file and no video 'val9'; did you mean val": (tiny, "--neighbours", "val9"),
        "text.mp4: no frame can be decoded": (tiny, "--neighbours", tmp_path / "text.mp4"),
        "grow/val3/frames.db": (damaged,),
        "argument --count": (tiny, "--count", "0"),
    }
    for said, words in wrong.items():
        capsys.readouterr()
        try:
            code = extracted(checkpoint, *words, "--out", tmp_path / "out")
        except SystemExit as leaving:
            code = leaving.code
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        assert code == 2 and len(lines) == 1 and said in lines[0], (words, lines)
        assert not (tmp_path / "out").exists()
    assert extracted(checkpoint, damaged, "--skip-bad", "--out", tmp_path / "out") == 0
    found = arrays(tmp_path / "out" / "features.npz")
    assert found["ids"].tolist() == ["val0", "val1", "val2", "val4", "val5"]


def test_features_that_are_not_finite_name_their_video(checkpoint, tiny, tmp_path, capsys):
    state = torch.load(checkpoint, weights_only=True)
    for name in ("stem.0.weight", "layer4.2.conv3.1.weight"):
        state["state_dict"][name] *= 1e38
    torch.save(state, tmp_path / "huge.pth")
    assert extracted(tmp_path / "huge.pth", tiny, "--out", tmp_path / "out") == 2
    assert "val0: its features are not finite" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
