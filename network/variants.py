"""The networks as rows of numbers: depths, widths, kinds of convolution. Needs no torch."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Variant(NamedTuple):
    """One of the networks of `network.resnet3d`.

    Attributes:
        block: kind of residual block, a basic one (two convolutions) or a bottleneck (three).
        depths: number of blocks in each of the four stages.
        conv: kind of the 3×3×3 convolutions, see `network.resnet3d.CONVS`.
        groups: groups of the convolutions.
        base_width: width of a bottleneck's middle convolution: 64 means as many channels as planes.
    """

    block: Literal["basic", "bottleneck"]
    depths: tuple[int, int, int, int]
    conv: Literal["full", "factored", "depthwise", "preserved"] = "full"
    groups: int = 1
    base_width: int = 64


_18, _34, _50 = (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 6, 3)
_101, _152, _200 = (3, 4, 23, 3), (3, 8, 36, 3), (3, 24, 36, 3)

#: The networks of `network.resnet3d`. Each also exists with SRTG, as `srtg_<name>`.
VARIANTS = {
    "r3d_18": Variant("basic", _18),
    "r3d_34": Variant("basic", _34),
    "r3d_50": Variant("bottleneck", _50),
    "r3d_101": Variant("bottleneck", _101),
    "r3d_152": Variant("bottleneck", _152),
    "r3d_200": Variant("bottleneck", _200),
    "r3dxt34_32d": Variant("basic", _34, groups=32),
    "r3dxt50_32x4d": Variant("bottleneck", _50, groups=32, base_width=4),
    "r3dxt101_32x8d": Variant("bottleneck", _101, groups=32, base_width=8),
    "wide_r3d50_2": Variant("bottleneck", _50, base_width=128),
    "wide_r3d101_2": Variant("bottleneck", _101, base_width=128),
    "r2plus1d_18": Variant("basic", _18, "factored"),
    "r2plus1d_34": Variant("basic", _34, "factored"),
    "r2plus1d_50": Variant("bottleneck", _50, "factored"),
    "r2plus1d_101": Variant("bottleneck", _101, "factored"),
    "r2plus1d_152": Variant("bottleneck", _152, "factored"),
    "r2plus1d_200": Variant("bottleneck", _200, "factored"),
    "r2plus1dxt34_32d": Variant("basic", _34, "factored", groups=32),
    "r2plus1dxt50_32x4d": Variant("bottleneck", _50, "factored", groups=32, base_width=4),
    "r2plus1dxt101_32x8d": Variant("bottleneck", _101, "factored", groups=32, base_width=8),
    "wide_r2plus1d50_2": Variant("bottleneck", _50, "factored", base_width=128),
    "wide_r2plus1d101_2": Variant("bottleneck", _101, "factored", base_width=128),
    "ir_csn_50": Variant("bottleneck", _50, "depthwise"),
    "ir_csn_101": Variant("bottleneck", _101, "depthwise"),
    "ir_csn_152": Variant("bottleneck", _152, "depthwise"),
    "ip_csn_50": Variant("bottleneck", _50, "preserved"),
    "ip_csn_101": Variant("bottleneck", _101, "preserved"),
    "ip_csn_152": Variant("bottleneck", _152, "preserved"),
}

#: Blocks in each stage of the networks of `network.mtnet`, by size.
MTNET_DEPTHS = {
    "xs": (2, 2, 2, 2),
    "s": (2, 2, 5, 3),
    "m": (3, 4, 6, 3),
    "l": (3, 4, 23, 3),
    "xl": (3, 8, 36, 3),
    "xxl": (3, 24, 36, 3),
}

#: torchvision's own networks, which are built under the name `torchvision:<name>`: CNNs, which
#: also exist with SRTG as `srtg_torchvision:<name>`, and transformers.
TORCHVISION_CNNS = ("r3d_18", "mc3_18", "r2plus1d_18", "s3d")
TORCHVISION_TRANSFORMERS = ("mvit_v1_b", "mvit_v2_s", "swin3d_t", "swin3d_s", "swin3d_b")
