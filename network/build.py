"""Build a network from its name, its number of classes and its options."""

from __future__ import annotations

from typing import Any

from torch import nn

from network.build_options import BuildOptions
from network.input_profile import DEFAULT_PROFILE
from network.network_error import NetworkError
from network.registry import find_builder


def build_network(name: str, num_classes: int, **options: Any) -> nn.Module:
    """Build a network that maps float (B, 3, T, H, W) to logits (B, num_classes).

    T may be any number from 1 on, H and W any from 16 on. The weights are random, drawn from
    torch's global generator. Their memory format is channels last, which is faster on CPUs.
    Networks named `torchvision:...` are torchvision's own, some of which need larger clips or
    clips of one shape only: see `network.torchvision_networks`.

    The options that differ from their defaults are kept as the attribute `build_options`, so that
    the network can be built again, and `input_profile` says how its input must look.

    Args:
        name: one of `list_networks()`, in upper or lower case, or `torchvision:<name>`.
        num_classes: number of classes.
        gates: srtg_ networks only: multiply the features of cycle-consistent clips only (default
            False).
        place: srtg_ networks only: where in a residual block the SRTG is, one of
            `network.build_options.PLACES` (default "final").
        recurrent_init: initialisation of the recurrent layers, "open" (default) or "default"
            (torch's own); see `network.recurrent.initialise_recurrent`.
        srtg_alpha: srtg_ networks only: initial value of a learnt weight of each SRTG; 0 starts
            as the network without SRTG, None (default) has no such weight. See
            `network.srtg.SRTG`.
        expansion: networks of bottlenecks only: output channels of a block divided by its planes,
            1 (default) in the released weights, 4 in the classic ResNet.
        pool: max-pooling behind the stem: over space and time ("full", the default), over space
            only ("space"), or "none".
        stem_frames: frames that the stem's kernel covers, an odd number (default 3).
        middle: r2plus1d networks only: whether the width inside a factored convolution follows
            from the block's channels ("block", the default), or from its own ("conv").
        middle_relu: ip_csn networks only: whether a ReLU follows the 1x1x1 convolution before the
            depthwise one (default True).
        norm_eps: epsilon of the batch norms (default 1e-5).
        norm_momentum: momentum of the batch norms (default 0.1).

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
    checked = BuildOptions.of(options)
    net = builder(num_classes, options=checked)
    net.network_name, net.build_options = name.lower(), checked.chosen()
    net.input_profile = DEFAULT_PROFILE
    return net
