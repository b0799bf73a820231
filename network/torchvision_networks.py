"""torchvision's own video networks, and which clips they take.

torchvision is imported where one of its networks is used: it takes 160 MB of memory.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from network.build_options import BuildOptions
from network.insert import insert_srtg
from network.network_error import NetworkError


class ClipLimits(NamedTuple):
    """Which clips a network takes."""

    frames: int = 1  # at least
    size: int = 16  # at least, in pixels
    fixed: bool = False  # whether clips must have just this shape

    def __str__(self) -> str:
        shape = f"{self.frames} frames of {self.size}x{self.size} pixels"
        return f"{shape} only" if self.fixed else f"at least {shape}"

    @property
    def suit_multigrid(self) -> bool:
        """Return whether the network can take the short and small clips of multigrid."""
        return not self.fixed and self.size <= ClipLimits().size


def build_torchvision(
    num_classes: int, *, name: str, srtg: bool, options: BuildOptions
) -> nn.Module:
    """Build torchvision's network `name`, with random weights.

    Args:
        num_classes: number of classes.
        name: its name in torchvision.
        srtg: put an SRTG block behind each of its stages.
        options: see `network.build_network`.

    Raises:
        NetworkError: the network does not have one of the options.
    """
    from torchvision.models import get_model

    allowed = {"gates", "recurrent_init", "srtg_alpha"} if srtg else set()
    options.refuse(options.chosen().keys() - allowed, f"not an option of torchvision's {name}")
    net = get_model(name, weights=None, num_classes=num_classes)
    if srtg:
        insert_srtg(
            net, options.gates, alpha=options.srtg_alpha, recurrent_init=options.recurrent_init
        )
    return net


def clip_limits(network: str) -> ClipLimits:
    """Return which clips a network takes; `network` is a name that `build_network` knows.

    An MViT has position embeddings for clips of one shape only.
    """
    _, found, name = network.lower().partition("torchvision:")
    if not found:
        return ClipLimits()
    from torchvision.models import get_model_weights

    meta = get_model_weights(name).DEFAULT.meta
    size = max(16, *meta["min_size"])
    return ClipLimits(meta.get("min_temporal_size", 1), size, fixed=name.startswith("mvit"))


def check_clip_shape(network: str, frames: int, size: int) -> None:
    """Raise NetworkError if a network cannot take clips of `frames` frames of `size` pixels."""
    limits = clip_limits(network)
    fits = (frames, size) == limits[:2] if limits.fixed else (
        frames >= limits.frames and size >= limits.size
    )  # fmt: skip
    if not fits:
        raise NetworkError(
            f"{network} takes clips of {limits}, not {frames} frames of {size}x{size}: give "
            f"--clip-length {limits.frames} --clip-size {limits.size}"
        )
