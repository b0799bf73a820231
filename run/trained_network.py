"""Build a trained network from its checkpoint alone."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

from torch import nn

from network import NetworkError, build_network, load_weights
from network.pretrained.opening import recorded_network, recorded_profile
from network.torchvision_networks import check_clip_shape
from train.checkpoint.opening import load_checkpoint
from train.config import Config
from train.devices import Devices
from train.train_errors import TrainError


@dataclass(frozen=True)
class Trained:
    """A network with its weights, on its device, and the configuration that it was trained with."""

    net: nn.Module
    config: Config
    classes: tuple[str, ...]

    def with_shape(
        self, clip_length: int | None, clip_size: int | None, clip_fps: float | None = None
    ) -> Config:
        """Return the configuration, with another clip length, size or frame rate if given.

        Raises:
            NetworkError: the network cannot take such clips.
        """
        config = replace(
            self.config,
            clip_length=clip_length or self.config.clip_length,
            clip_size=clip_size or self.config.clip_size,
            clip_fps=clip_fps or self.config.clip_fps,
        )
        check_clip_shape(config.network, config.clip_length, config.clip_size)
        return config


def open_checkpoint(path: Path, devices: Devices) -> Trained:
    """Build the network of a checkpoint and load its weights, the averaged ones if it has them.

    Raises:
        TrainError, NetworkError: this project did not write the file, or the tensors in it are not
            exactly those of its network.
    """
    state = load_checkpoint(path, to_resume=False)
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
    net = net.to(devices.device).eval()
    return Trained(net, config, tuple(state["classes"]))
