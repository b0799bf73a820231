"""Decide which network a run trains, from which weights it starts, and how its clips look.

The network is the one that `--network` names, built with the options that `--pretrained-3d` needs;
a run that is resumed takes what its checkpoint has recorded. Options for clip shape, frame rate and
crop that are not given are taken from the input profile of the pretrained weights.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from network import build_network
from network.input_profile import DEFAULT_PROFILE, InputProfile
from network.network_error import NetworkError
from network.pretrained.loading import build_for, options_for, place_weights
from network.pretrained.opening import (
    PretrainedWeights,
    open_pretrained,
    recorded_network,
    recorded_profile,
)
from network.pretrained.sources import find_source, is_source_name
from network.registry import find_builder
from network.srtg import SRTG
from network.torchvision_networks import check_clip_shape, clip_limits
from train.checkpoint.opening import load_checkpoint
from train.config import FROM_PROFILE, Config
from train.input_check import check_weights
from train.results.results_folder import checkpoints, results_folder
from train.train_errors import TrainError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NetworkChoice:
    """The network of a run.

    Attributes:
        network: its name.
        options: of `network.build_network`.
        profile: how its clips must look.
        values: options of the run that follow from the profile, unless they are given.
        source: of the weights that the run started with, None for random ones.
        weights: to start with; None without them, in a run that is resumed, and in ranks other
            than the first, which receive the network's weights.
    """

    network: str
    options: Mapping[str, Any]
    profile: InputProfile = DEFAULT_PROFILE
    values: Mapping[str, Any] = field(default_factory=dict)
    source: str | None = None
    weights: PretrainedWeights | None = None

    def fill_in(self, config: Config) -> Config:
        """Return the configuration with the network and the values of this choice.

        Raises:
            TrainError, NetworkError: a value is impossible, or the network cannot take such clips.
        """
        values = {name: value for name, value in self.values.items() if name not in config.given}
        filled = replace(
            config,
            network=self.network,
            gates=self.options.get("gates", False),
            place=self.options.get("place", "final"),
            pretrained_3d=config.pretrained_3d or self.source,
            from_profile=dict(values),
            **values,
        )
        filled.check()
        check_clip_shape(self.network, filled.clip_length, filled.clip_size)
        return filled


def choose_network(config: Config) -> NetworkChoice:
    """Return the network of the run that `config` describes. Only the first rank calls it.

    Raises:
        NetworkError: the weights cannot be had, or are of another network.
        TrainError: the options contradict the weights.
    """
    find_builder(config.network)
    recorded = _of_resumed_run(config)
    if recorded:
        return recorded
    if config.pretrained_3d:
        return _of_weights(config)
    network, limits = config.network.lower(), clip_limits(config.network)
    values = {"clip_length": limits.frames, "clip_size": limits.size} if limits.fixed else {}
    return NetworkChoice(network, _given_options(config), values=values)


def _given_options(config: Config) -> dict[str, Any]:
    return {
        "gates": config.gates, "place": config.place, "recurrent_init": config.recurrent_init
    }  # fmt: skip


def _of_resumed_run(config: Config) -> NetworkChoice | None:
    """Return what the newest readable checkpoint of the run has recorded, None if there is none."""
    if config.resume != "auto":
        return None
    if config.pretrained_3d and "network" not in config.given:
        config = replace(config, network=_network_of_source(config.pretrained_3d))
    for path in checkpoints(results_folder(config), config.network):
        try:
            state = load_checkpoint(path)
            network, options = recorded_network(state)
            profile = recorded_profile(state)
        except (TrainError, NetworkError):
            continue  # damaged: resuming itself says so
        options["recurrent_init"] = config.recurrent_init
        values = state["config"].get("from_profile", {})
        source = state["config"].get("pretrained_3d")
        options = {**_given_options(config), **options}
        return NetworkChoice(network, options, profile, values, source)
    return None


def _network_of_source(source: str) -> str:
    if is_source_name(source) and not Path(source).exists():
        return find_source(source).network
    return open_pretrained(source).network


def _of_weights(config: Config) -> NetworkChoice:
    check_weights(config.pretrained_3d)
    # with --resume-epoch, the optimiser's state needs the weights that are not averaged
    weights = open_pretrained(config.pretrained_3d, averaged=not config.resume_epoch)
    network = config.network.lower() if "network" in config.given else weights.network
    if network != config.network.lower():
        log.info("--network is not given: training %s, the network of the weights", network)
    asked = {name: value for name, value in _given_options(config).items() if name in config.given}
    options = options_for(weights, network, partial=config.pretrained_partial, **asked)
    values = {} if config.resume_epoch else profile_values(weights.profile, config)
    source = config.pretrained_3d
    return NetworkChoice(network, options, weights.profile, values, source, weights)


def profile_values(profile: InputProfile, config: Config) -> dict[str, Any]:
    """Return the options of a run that follow from a profile and were not given.

    Where one of the options for the frame rate is given, the others keep their defaults.
    """
    values: dict[str, Any] = {"clip_length": profile.frames, "clip_size": profile.crop}
    if profile.crop and profile.short_side:
        values["crop_share"] = min(1.0, profile.crop / profile.short_side)
    if not {"clip_fps", "train_frame_interval", "val_frame_interval"} & set(config.given):
        values["clip_fps"] = profile.fps
        values["val_frame_interval"] = profile.frame_interval
        interval = profile.frame_interval
        values["train_frame_interval"] = interval and [interval]
    assert values.keys() <= FROM_PROFILE
    return {
        name: value
        for name, value in values.items()
        if value is not None and name not in config.given
    }


def build_chosen(choice: NetworkChoice, num_classes: int, *, partial: bool = False) -> nn.Module:
    """Build the network of a choice, and put the weights into it if there are any.

    Raises:
        NetworkError: a tensor of the backbone does not fit, and `partial` is false.
    """
    if choice.weights is None:
        net = build_network(choice.network, num_classes, **choice.options)
        net.input_profile = choice.profile
        return net
    weights = choice.weights
    net = build_for(weights, num_classes, choice.network, partial=partial, **choice.options)
    report = place_weights(net, weights, partial=partial)
    log.info(
        "%s: %d of its %d tensors are in %s%s",
        weights.source, len(report.loaded), len(weights.tensors), choice.network,
        "" if not report.skipped or partial else "; the classifier is for other classes and starts "
        "anew",
    )  # fmt: skip
    if partial or report.skipped:
        # what is missing then is the classifier, and SRTG blocks
        shown = report if partial else replace(report, missing=())
        log.info("tensors of %s\n%s", weights.source, shown)
    if not weights.has_srtg and any(isinstance(module, SRTG) for module in net.modules()):
        check_equal_start(net)
    return net


@torch.no_grad()
def check_equal_start(net: nn.Module) -> None:
    """Check that new SRTG blocks do not change the logits yet, bit for bit, and log it.

    Raises:
        RuntimeError: the logits change.
    """
    profile, training = net.input_profile, net.training
    frames, size = profile.frames or 16, profile.crop or 112
    clips = torch.rand(1, 3, frames, size, size, generator=torch.Generator().manual_seed(0))
    net.eval()
    with_blocks = net(clips)
    blocks = [module for module in net.modules() if isinstance(module, SRTG)]
    for block in blocks:
        block.forward = lambda x: x
    without = net(clips)
    for block in blocks:
        del block.forward
    net.train(training)
    if not torch.equal(with_blocks, without):
        raise RuntimeError("the SRTG blocks change the logits before the first step")
    log.info(
        "%d SRTG blocks change nothing yet: the logits of a clip are the same bits", len(blocks)
    )


def profile_of_run(config: Config, short_side: int, started: InputProfile) -> InputProfile:
    """Return the profile of the network that a run trains: the clips that it is shown.

    Args:
        config: the complete options of the run.
        short_side: of the frames, in pixels, out of which the clips are cropped.
        started: the profile that the network started with, whose mean and deviation it keeps.
    """
    return InputProfile(
        mean=started.mean,
        std=started.std,
        frames=config.clip_length,
        fps=config.clip_fps,
        interval=None if config.clip_fps else config.val_frame_interval,
        resize=max(short_side, config.clip_size),
        crop=config.clip_size,
    )
