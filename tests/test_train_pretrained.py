"""Runs that start from pretrained weights: network, clips and checkpoints follow from them."""

import logging
import shutil
from dataclasses import replace

import pytest
import torch
from reference_networks import CSN, randomised
from runs import SHAPE
from torch import nn
from torchvision.models import get_model

from data.data_error import DataError
from network import NetworkError, build_network, load_pretrained
from network.input_profile import DEFAULT_PROFILE, profile_of
from network.pretrained.sources import find_source
from network.srtg import SRTG
from run.command_line import parse_config
from run.evaluate import main as evaluate
from run.predict import main as predict
from run.trained_network import open_checkpoint
from train.checkpoint.opening import load_checkpoint
from train.devices import open_devices
from train.input_check import check_names
from train.loaders import training_batches
from train.loop import train
from train.network_choice import check_equal_start
from train.optimiser import parameter_groups
from train.setup import prepare
from train.speed_monitor import SpeedMonitor
from train.step import train_step
from train.train_errors import TrainError

CSN_50 = "mmaction2:ircsn_50"
SMALL = [
    *SHAPE.replace("0.0005", "0.0001").split(),
    *["--gpus", "0", "--workers", "0", "--micro-batch", "4", "--recipe", "original"],
    *["--multigrid", "off", "--log-interval", "1"],
]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A home of torch.hub with random weights in the place of those of ircsn_50."""
    home = tmp_path_factory.mktemp("hub")
    folder = home / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    state = randomised(CSN((3, 4, 6, 3), 400)).state_dict()
    torch.save({"state_dict": state}, folder / find_source(CSN_50).file_name)
    return home


@pytest.fixture
def at_home(hub, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(hub))


def config_of(root, out, *options):
    """The configuration of a run, without the options that the tests of other modules give."""
    where = ["--dataset", str(root), "--labels", str(root / "labels" / "tiny_train.csv")]
    words = [*where, "--model-dir", str(out), *options]
    return parse_config("custom", words)


def prepared(root, out, *options):
    with open_devices(0, "fp32") as devices:
        return prepare(config_of(root, out, *options), devices)


FEW = ["--gpus", "0", "--workers", "0", "--micro-batch", "1"]


def test_a_run_takes_network_clips_and_recipe_from_the_weights(tiny, tmp_path, at_home, caplog):
    caplog.set_level(logging.INFO)
    run = prepared(tiny, tmp_path, *FEW, "--pretrained-3d", CSN_50)
    config = run.config
    assert (config.network, config.clip_length, config.clip_size) == ("ir_csn_50", 32, 224)
    assert (config.train_frame_interval, config.val_frame_interval) == ([2], 2)
    assert config.crop_share == 224 / 256
    assert run.recipe.name == "finetune"
    profile = profile_of(run.parallel_net)
    assert profile.mean == (0.485, 0.456, 0.406)
    assert (profile.frames, profile.interval, profile.resize, profile.crop) == (32, 2, 256, 224)
    assert run.train_clips.options.erase_colour == profile.mean
    assert run.net.build_options == {"expansion": 4, "pool": "space", "norm_eps": 1e-3}
    theirs = load_pretrained(CSN_50)
    assert torch.equal(run.net.layer4[2].conv3[0].weight, theirs.layer4[2].conv3[0].weight)
    said = caplog.text
    assert "--network is not given: training ir_csn_50" in said
    assert "the classifier is for other classes" in said
    assert "clips as the weights expect them: 32 frames of 224x224 pixels" in said


def test_given_options_win_over_the_profile(tiny, tmp_path, at_home):
    words = [*FEW, "--pretrained-3d", CSN_50, "--clip-size", "64", "--val-frame-interval", "3"]
    run = prepared(tiny, tmp_path, *words)
    assert (run.config.clip_length, run.config.clip_size) == (32, 64)
    assert (run.config.train_frame_interval, run.config.val_frame_interval) == ([2], 3)
    assert run.val_clips.options.short_side == 73  # the crop shows the same part of the frame
    assert set(run.config.from_profile) == {"clip_length", "crop_share"}


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory, hub):
    """The results of one epoch from the weights of ircsn_50."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(hub))
        words = [*SMALL, "--pretrained-3d", CSN_50, "--end-epoch", "1"]
        return train(config_of(tiny, tmp_path_factory.mktemp("finished"), *words))


def test_a_checkpoint_carries_network_and_profile(finished):
    state = load_checkpoint(finished / "last.pth")
    assert state["network_options"] == {"expansion": 4, "pool": "space", "norm_eps": 1e-3}
    assert state["input_profile"]["std"] == [0.229, 0.224, 0.225]
    assert state["input_profile"]["frames"] == 4
    with open_devices(0, "fp32") as devices:
        trained = open_checkpoint(finished / "last.pth", devices)
    assert type(trained.net.pool) is nn.MaxPool3d and trained.net.pool.kernel_size == (1, 3, 3)
    assert trained.net.input_profile.mean == (0.485, 0.456, 0.406)
    net = load_pretrained(finished / "last.pth")
    assert net.input_profile == trained.net.input_profile and net.classes == trained.classes


def test_evaluation_and_prediction_use_the_network_and_the_profile(finished, tiny, tmp_path):
    where = ["--checkpoint", str(finished / "best.pth"), "--gpus", "0"]
    data = ["--dataset", str(tiny), "--labels", str(tiny / "labels"), "--workers", "0"]
    scores = evaluate([*where, *data, "--out", str(tmp_path)])
    header, row = (finished / "val_results.csv").read_text().splitlines()
    in_training = dict(zip(header.split(","), row.split(","), strict=True))
    assert scores["forward"]["loss"] == pytest.approx(float(in_training["Loss"]), abs=1e-4)
    predict([*where, str(tiny / "jpg" / "grow" / "val0"), "--json", str(tmp_path / "p.json")])
    assert "grow" in (tmp_path / "p.json").read_text()


def test_a_run_resumes_without_its_weights(finished, tiny, tmp_path):
    """With those of another profile and other options, validation would give other scores."""
    folder = tmp_path / finished.name
    shutil.copytree(finished, folder)
    words = [*SMALL, "--network", "ir_csn_50", "--end-epoch", "2", "--resume", "auto"]
    run = prepared(tiny, tmp_path, *words)
    assert (run.epoch, run.config.pretrained_3d) == (2, CSN_50)
    assert run.net.build_options == {"expansion": 4, "pool": "space", "norm_eps": 1e-3}
    assert run.net.input_profile == load_pretrained(folder / "last.pth").input_profile


@pytest.mark.slow
def test_a_run_from_weights_resumes_with_the_same_bits(finished, tiny, tmp_path, at_home):
    shutil.copytree(finished, tmp_path / finished.name)
    words = [*SMALL, "--network", "ir_csn_50", "--end-epoch", "2"]
    whole = train(config_of(tiny, tmp_path / "whole", *words, "--pretrained-3d", CSN_50))
    again = train(config_of(tiny, tmp_path, *words, "--resume", "auto"))
    one, two = (load_checkpoint(path / "last.pth")["state_dict"] for path in (whole, again))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_srtg_on_pretrained_weights_starts_as_nothing_and_learns(tiny, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    file, network = tmp_path / "mc3.pth", "srtg_torchvision:mc3_18"
    torch.save(randomised(get_model("mc3_18", num_classes=3)).state_dict(), file)
    words = [*SMALL, "--network", network, "--pretrained-3d", str(file), "--end-epoch", "1"]
    folder = train(config_of(tiny, tmp_path, *words))
    assert folder.name == "srtg_torchvision_mc3_18_gates_False"
    assert "4 SRTG blocks change nothing yet: the logits of a clip are the same" in caplog.text
    state = load_checkpoint(folder / "last.pth")
    assert state["network_options"] == {"srtg_alpha": 0.0}
    alphas = [value for name, value in state["state_dict"].items() if name.endswith(".alpha")]
    assert len(alphas) == 4 and all(alpha != 0 for alpha in alphas)
    trained = load_pretrained(folder / "last.pth")
    assert trained.layer1[2].alpha == alphas[0]
    groups = parameter_groups(trained, config_of(tiny, tmp_path))
    recurrent = next(group for group in groups if group["name"] == "recurrent")
    assert any(parameter is trained.layer1[2].alpha for parameter in recurrent["params"])


def test_srtg_blocks_that_change_the_logits_would_be_noticed():
    net = build_network("srtg_ir_csn_50", 3, srtg_alpha=0.0)
    net.input_profile = replace(DEFAULT_PROFILE, frames=2, crop=32)
    check_equal_start(net)
    assert not any("forward" in vars(m) for m in net.modules() if isinstance(m, SRTG))
    net.layer2[0].sar.alpha.data.fill_(0.5)
    with pytest.raises(RuntimeError, match="change the logits"):
        check_equal_start(net)


def test_torchvisions_own_network_trains_evaluates_and_predicts(tiny, tmp_path, capsys):
    words = [*SMALL, "--network", "torchvision:mc3_18", "--end-epoch", "1"]
    folder = train(config_of(tiny, tmp_path, *words))
    assert folder.name == "torchvision_mc3_18_gates_False"
    assert (folder / "torchvision_mc3_18_ep-0001.pth").is_file()
    checkpoint = ["--checkpoint", str(folder / "last.pth"), "--gpus", "0"]
    scores = evaluate([*checkpoint, "--dataset", str(tiny), "--labels", str(tiny / "labels"),
                       "--workers", "0"])  # fmt: skip
    assert scores["forward"]["clips"] == 6
    predict([*checkpoint, str(tiny / "jpg" / "grow" / "val0")])
    assert "val0: " in capsys.readouterr().out
    run = prepared(tiny, tmp_path, *words[:-1], "2", "--resume", "auto")
    assert (run.folder, run.epoch) == (folder, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swin3d_t", "r2plus1d_18"])
def test_other_networks_of_torchvision_train_and_resume(name, tiny, tmp_path):
    words = [*SMALL, "--network", f"torchvision:{name}", "--end-epoch"]
    whole = train(config_of(tiny, tmp_path / "whole", *words, "2"))
    train(config_of(tiny, tmp_path, *words, "1"))
    again = train(config_of(tiny, tmp_path, *words, "2", "--resume", "auto"))
    one, two = (load_checkpoint(path / "last.pth")["state_dict"] for path in (whole, again))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
def test_an_mvit_takes_a_step_of_its_only_clip_shape(tiny, tmp_path):
    words = ["--network", "torchvision:mvit_v2_s", "--recipe", "original", "--batch-size", "2"]
    run = prepared(tiny, tmp_path, *FEW, *words)
    batch = next(iter(training_batches(run)))
    outcome = train_step(run, batch, SpeedMonitor(run.devices.device))
    assert outcome.shape == (2, 3, 16, 224, 224)


@pytest.mark.parametrize(
    ("name", "head"), [("s3d", "classifier.1"), ("mvit_v2_s", "head.1"), ("swin3d_t", "head")]
)
def test_only_the_last_layer_of_a_transformer_is_its_classifier(name, head, tiny, tmp_path):
    with torch.device("meta"):
        net = get_model(name, num_classes=3)
    groups = parameter_groups(net, config_of(tiny, tmp_path))
    (classifier,) = (group for group in groups if group["name"] == "classifier")
    assert {id(p) for p in classifier["params"]} == {
        id(p) for p in net.get_submodule(head).parameters()
    }


def test_a_network_of_one_clip_shape_gets_it_and_no_multigrid(tiny, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    words = ["--network", "torchvision:mvit_v2_s", "--recipe", "original"]
    run = prepared(tiny, tmp_path, *FEW, *words)
    config = run.config
    assert (config.clip_length, config.clip_size, config.multigrid) == (16, 224, "off")
    assert "multigrid is off: torchvision:mvit_v2_s takes clips of 16 frames" in caplog.text
    with pytest.raises(NetworkError, match=r"mvit_v2_s takes clips of 16 frames .* only, not 8"):
        prepared(tiny, tmp_path, *FEW, *words, "--clip-length", "8")
    with pytest.raises(NetworkError, match=r"s3d takes clips of at least 14 frames"):
        prepared(tiny, tmp_path, *FEW, "--network", "torchvision:s3d", "--clip-size", "112")


def test_weights_of_another_network_are_refused_unless_in_part(tiny, tmp_path, at_home, caplog):
    words = [*SMALL, "--network", "ir_csn_101", "--pretrained-3d", CSN_50]
    with pytest.raises(NetworkError, match="weights of ir_csn_50, not of ir_csn_101") as error:
        prepared(tiny, tmp_path, *words)
    assert "\n" not in str(error.value)
    caplog.set_level(logging.INFO)
    run = prepared(tiny, tmp_path, *words, "--pretrained-partial", "True")
    assert run.net.build_options["pool"] == "space"
    assert "missing  layer3.22.conv3.1.weight" in caplog.text


def test_sources_are_looked_for_before_anything_else(tiny, tmp_path):
    for source, said in (
        ("torchvision:r3d_19", "unknown source of weights 'torchvision:r3d_19'; the nearest are"),
        ("none.pth", "none.pth: there is no such file"),
    ):
        with pytest.raises((TrainError, NetworkError), match=said):
            check_names(config_of(tiny, tmp_path, "--pretrained-3d", source))


def test_a_clip_rate_from_the_weights_needs_videos_that_say_theirs(tiny, tmp_path, caplog):
    """The videos of this dataset do not say their frame rate."""
    torch.save(get_model("mc3_18", num_classes=3).state_dict(), tmp_path / "mc3.pth")
    words = [*FEW, "--pretrained-3d", str(tmp_path / "mc3.pth")]
    run = prepared(tiny, tmp_path, *words)
    assert (run.config.clip_fps, run.config.val_frame_interval) == (None, 2)
    assert "the weights expect 15 frames per second, but " in caplog.text
    assert run.net.input_profile.interval == 2
    with pytest.raises(DataError):
        prepared(tiny, tmp_path, *words, "--clip-fps", "15")


def test_evaluation_refuses_a_classifier_of_other_classes(finished, tiny, tmp_path):
    state = load_checkpoint(finished / "last.pth")
    torch.save({**state, "classes": ["grow", "move_left"]}, tmp_path / "x.pth")
    where = ["--dataset", str(tiny), "--labels", str(tiny / "labels"), "--gpus", "0"]
    with pytest.raises((TrainError, NetworkError, DataError), match="fc"):
        evaluate(["--checkpoint", str(tmp_path / "x.pth"), *where])
    torch.save({**state, "classes": ["grow", "move_left", "leap"]}, tmp_path / "x.pth")
    with pytest.raises((TrainError, NetworkError, DataError)) as error:
        evaluate(["--checkpoint", str(tmp_path / "x.pth"), *where, "--workers", "0"])
    assert "darken" in str(error.value) and "\n" not in str(error.value)
