"""Layers that do not learn, a classifier that learns first, batch norm that stays as it is."""

import pytest
import torch
from runs import command, folder, same_bits
from torch import nn

from network import build_network
from run.command_line import parse_config
from train.config import Config
from train.freezing import freeze, frozen_layers, set_training_mode
from train.loop import train
from train.optimiser import build_optimiser, set_learning_rate
from train.train_errors import TrainError


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return build_network("ir_csn_50", 3)


def step(net: nn.Module, config: Config, *, classifier_alone: bool = False) -> set[str]:
    """Take one step; the top-level parts of whose state something has changed."""
    before = {name: value.clone() for name, value in net.state_dict().items()}
    optimiser = build_optimiser(net, config)
    set_learning_rate(optimiser, config.lr_base, classifier_alone=classifier_alone)
    set_training_mode(net, config)
    net(torch.randn(2, 3, 4, 32, 32)).sum().backward()
    optimiser.step()
    optimiser.zero_grad()
    after = net.state_dict()
    return {name.split(".")[0] for name in before if not same_bits(before[name], after[name])}


@pytest.mark.parametrize(
    ("until", "learning"),
    [
        ("", {"stem", "layer1", "layer2", "layer3", "layer4", "fc"}),
        ("layer3", {"layer3", "layer4", "fc"}),
        ("fc", {"fc"}),
    ],
)
def test_layers_before_the_named_one_keep_every_bit(until, learning):
    net = build_network("ir_csn_50", 3)
    freeze(net, until)
    assert step(net, Config(lr_base=0.1, freeze_until=until)) == learning


def test_every_network_s_layers_can_be_named():
    for name in ("r3d_18", "srtg_r2plus1d_18", "mtnet_xs"):
        with torch.device("meta"):
            assert len(frozen_layers(build_network(name, 2), "fc")) == 5


def test_an_unknown_layer_names_the_nearest(net):
    with pytest.raises(TrainError, match=r"--freeze-until layr3: .* did you mean layer3\?"):
        frozen_layers(net, "layr3")


def test_only_the_classifier_learns_at_first():
    net = build_network("ir_csn_50", 3)
    weights = {name: value.clone() for name, value in net.named_parameters()}
    step(net, Config(lr_base=0.1), classifier_alone=True)
    changed = {n for n, p in net.named_parameters() if not torch.equal(p, weights[n])}
    assert changed == {"fc.weight", "fc.bias"}


def test_freeze_bn_keeps_statistics_and_lets_weights_learn():
    net = build_network("ir_csn_50", 3)
    buffers = [buffer.clone() for buffer in net.buffers()]
    changed = step(net, Config(lr_base=0.1, freeze_bn=True))
    assert "stem" in changed and same_bits(buffers, list(net.buffers()))


def test_factors_of_fine_tuning_are_the_options():
    net = build_network("srtg_r3d_18", 3)
    config = Config(lr_base=0.1, fine_tune=True, backbone_lr=0.3, recurrent_lr=0.2)
    scales = {
        group["name"]: group["lr_scale"] for group in build_optimiser(net, config).param_groups
    }
    assert scales == {"classifier": 1.0, "convolution": 0.3, "recurrent": 0.2}


@pytest.mark.parametrize(
    ("options", "learning"),
    [
        (("--recipe", "probe"), {"fc"}),
        (("--recipe", "finetune", "--freeze-until", "layer4"), {"layer4", "fc"}),
    ],
)
def test_a_run_trains_what_is_not_frozen(tiny, tmp_path, options, learning):
    net, weights = build_network("ir_csn_50", 3), tmp_path / "weights.pth"
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.momentum = None  # statistics are means over all clips
    with torch.no_grad():
        net.train()(torch.randn(8, 3, 4, 32, 32))
    torch.save({"state_dict": net.state_dict()}, weights)
    words = ["--workers", "0", "--end-epoch", "1", "--pretrained-3d", str(weights), *options]
    train(parse_config("custom", command(tiny, tmp_path, *words)[2:]))
    tuned = folder(tmp_path) / "last.pth"
    before, after = (torch.load(path)["state_dict"] for path in (weights, tuned))
    changed = {name.split(".")[0] for name in before if not same_bits(before[name], after[name])}
    assert changed == learning
