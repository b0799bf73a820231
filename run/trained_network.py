"""Build a trained network from its checkpoint, or from pretrained weights of another project."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields, replace
from pathlib import Path

from torch import nn

from network import NetworkError, build_network, load_weights
from network.checkpoint_file import read_checkpoint_file
from network.classifier import classifier_name
from network.pretrained.loading import build_for, place_weights
from network.pretrained.opening import (
    PretrainedWeights,
    find_weights,
    recorded_network,
    recorded_profile,
    weights_in,
)
from network.pretrained.source import Source
from network.torchvision_networks import check_clip_shape
from run.command_line import complete
from train.checkpoint.opening import check_content
from train.config import Config
from train.devices import Devices
from train.network_choice import profile_values
from train.train_errors import TrainError

log = logging.getLogger(__name__)

KINETICS = "Kinetics-400"  # as `Source.trained_on` says


@dataclass(frozen=True)
class Trained:
    """A network with its weights, on its device.

    Attributes:
        net: the network.
        config: the options that it was trained with; of pretrained weights, those that follow from
            their input profile.
        classes: names of the classes, which are numbers where the weights do not name them.
        names_classes: whether the weights name their classes.
        file: that holds the weights.
        source: what is known of pretrained weights, if they are known.
    """

    net: nn.Module
    config: Config
    classes: tuple[str, ...]
    names_classes: bool = True
    file: Path | None = None
    source: Source | None = None

    def with_shape(
        self, clip_length: int | None, clip_size: int | None, clip_fps: float | None = None
    ) -> Config:
        """Return the configuration, with another clip length, size or frame rate if given.

        Raises:
            NetworkError: the network cannot take such clips.
        """
        derived = self.config.from_profile
        if clip_fps:
            derived = {name: value for name, value in derived.items() if name != "clip_fps"}
        config = replace(
            self.config,
            from_profile=derived,
            clip_length=clip_length or self.config.clip_length,
            clip_size=clip_size or self.config.clip_size,
            clip_fps=clip_fps or self.config.clip_fps,
        )
        check_clip_shape(config.network, config.clip_length, config.clip_size)
        return config


def open_checkpoint(checkpoint: Path, devices: Devices) -> Trained:
    """Build a trained network and load its weights, the averaged ones if there are any.

    Args:
        checkpoint: a checkpoint of this project; or pretrained weights, a file of a known layout or
            one of `list_pretrained()`, which is downloaded unless it is there.
        devices: where the network is put.

    Raises:
        TrainError, NetworkError: there are no such weights, the file is damaged, or the tensors in
            it are not exactly those of its network.
    """
    path, source = find_weights(checkpoint)
    content = read_checkpoint_file(path)
    if isinstance(content, dict) and "config" in content:
        trained = _of_run(path, check_content(path, content, to_resume=False))
    else:
        trained = _of_weights(weights_in(checkpoint, path, source, content), source)
    config, number = trained.config, len(trained.classes)
    log.info("weights from %s: %s, %d classes", checkpoint, config.network, number)
    trained.net.to(devices.device).eval()
    return replace(trained, file=path, source=source)


def _of_run(path: Path, state: dict) -> Trained:
    """Return the network of a checkpoint that a training run has saved."""
    known = {field.name for field in fields(Config)}
    config = Config(**{k: v for k, v in state["config"].items() if k in known})
    weights = state["ema"] or state["state_dict"]
    weights = {name: value for name, value in weights.items() if name != "n_averaged"}
    try:
        network, options = recorded_network(state)
        net = build_network(network, len(state["classes"]), **options)
        net.input_profile = recorded_profile(state)
        load_weights(net, weights, strict=True)
    except NetworkError as error:
        raise TrainError(f"{path}: {error}") from error
    return Trained(net, config, tuple(state["classes"]))


def _of_weights(weights: PretrainedWeights, source: Source | None) -> Trained:
    """Return the network of pretrained weights, with clips as their input profile says."""
    net = build_for(weights)
    report = place_weights(net, weights)
    head = classifier_name(net)
    if any(name.startswith(f"{head}.") for name in report.missing):
        raise NetworkError(f"{weights.source}: its classifier {head} is not complete")
    classes = weights.classes
    if not classes:
        number = len(net.get_submodule(head).weight)
        classes = tuple(f"class {i}" for i in range(number))
    values = profile_values(weights.profile, Config())
    of_kinetics = source is not None and KINETICS in source.trained_on and len(classes) == 400
    dataset, more = ("kinetics", {"variant": 400}) if of_kinetics else ("custom", {})
    config = complete(dataset, network=weights.network, **values, **more)
    config = replace(config, from_profile=values)
    return Trained(net, config, classes, names_classes=bool(weights.classes))
