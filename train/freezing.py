"""Layers that do not learn: `--freeze-until` and `--freeze-bn`."""

from __future__ import annotations

import difflib

from torch import nn

from network.classifier import classifier_name
from train.config import Config
from train.train_errors import TrainError


def layers(net: nn.Module) -> list[str]:
    """Return the names of the parts of a network that have parameters, from input to output."""
    return [name for name, part in net.named_children() if any(True for _ in part.parameters())]


def frozen_layers(net: nn.Module, until: str) -> list[str]:
    """Return the names of the layers before the layer `until`; none if it is empty.

    Raises:
        TrainError: the network has no such layer.
    """
    names = layers(net)
    if not until:
        return []
    if until == "fc" and "fc" not in names:  # torchvision's networks have other names for it
        until = classifier_name(net).partition(".")[0]
    if until not in names:
        near = difflib.get_close_matches(until, names, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise TrainError(
            f"--freeze-until {until}: the network's layers are {', '.join(names)}{hint}"
        )
    return names[: names.index(until)]


def freeze(net: nn.Module, until: str) -> None:
    """Let the parameters of the layers before `until` take no gradients.

    Raises:
        TrainError: the network has no such layer.
    """
    for name in frozen_layers(net, until):
        net.get_submodule(name).requires_grad_(False)


def set_training_mode(net: nn.Module, config: Config) -> None:
    """Set the network to training mode, except for what keeps its running statistics.

    These are the layers before `--freeze-until`, and all batch norm with `--freeze-bn`.

    Args:
        net: not wrapped for several devices, so that its layers have their own names.
        config: of the run.
    """
    net.train()
    for name in frozen_layers(net, config.freeze_until):
        net.get_submodule(name).eval()
    if config.freeze_bn:
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
