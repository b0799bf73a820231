"""Build a network from its name, its number of classes and its options."""

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
    """Build a network that maps float (B, 3, T, H, W) to logits (B, num_classes).

    T may be any number from 1 on, H and W any from 16 on. The weights are random, drawn from
    torch's global generator. Their memory format is channels last, which is faster on CPUs.

    Args:
        name: one of `list_networks()`, in upper or lower case.
        num_classes: number of classes.
        gates: srtg_ networks only: multiply the features of cycle-consistent clips only.
        place: srtg_ networks only: where in a residual block the SRTG is, one of
            `network.srtg.PLACES`.
        expansion: networks of bottlenecks only: output channels of a block divided by its planes,
            1 in the released weights, 4 in the classic ResNet.
        recurrent_init: initialisation of the recurrent layers, "open" or "default" (torch's own);
            see `network.recurrent.initialise_recurrent`.

    Raises:
        NetworkError: the name is unknown, `num_classes` is below 1, or the network does not have
            one of the options.

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
