"""The one way to a network: its name, its number of classes and its options."""

from __future__ import annotations

import torch
from torch import nn

from network.network_error import NetworkError
from network.registry import find_builder


def build_network(
    name: str,
    num_classes: int,
    *,
    gates: bool = False,
    place: str = "final",
    expansion: int = 1,
    recurrent_init: str = "open",
) -> nn.Module:
    """Build the network of this name: float (B, 3, T, H, W) -> logits (B, num_classes).

    Any T >= 1 and H, W >= 16. Weights are random, drawn from torch's global generator.
    Convolution weights lie channels last in memory, which CPUs convolve faster.

    Args:
        name: one of `list_networks()`, upper and lower case being one.
        num_classes: width of the logits.
        gates: srtg_ only: multiply only the clips that are cycle-consistent.
        place: srtg_ only: where in its block the SRTG stands, one of `network.srtg.PLACES`.
        expansion: bottlenecks only: channels out per plane (1 as released, 4 the classic one).
        recurrent_init: how the recurrent layers start, "open" or "default" (the framework's own):
            see `network.recurrent.initialise_recurrent`.

    Raises:
        NetworkError: the name is unknown (the nearest three are named), or the network cannot do
            what an option asks for.

    Example:
        >>> net = build_network("srtg_r3d_18", 101, gates=True)
        >>> net(torch.zeros(2, 3, 8, 112, 112)).shape
        torch.Size([2, 101])
    """
    builder = find_builder(name)
    if num_classes < 1:
        raise NetworkError(f"num_classes is {num_classes}: a network needs at least one class")
    net = builder(
        num_classes, gates=gates, place=place, expansion=expansion, recurrent_init=recurrent_init
    )
    return net.to(memory_format=torch.channels_last_3d)
