"""3D residual networks, plain and with SRTG; `network.variants` lists them.

State-dict names are those of the original implementation, so that its checkpoints can be loaded.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from network.build_options import BuildOptions
from network.layers import (
    Conv3d,
    depthwise_conv,
    factored_conv,
    factored_stem,
    full_conv,
    full_stem,
    initialise,
    preserved_conv,
)
from network.recurrent import initialise_recurrent
from network.srtg import SRTG
from network.variants import Variant

STAGE_PLANES = (64, 128, 256, 512)
STAGE_STRIDES = (1, 2, 2, 2)


#: For each kind of convolution, the functions that build the convolution and the stem.
CONVS = {
    "full": (full_conv, full_stem),
    "factored": (factored_conv, factored_stem),
    "depthwise": (depthwise_conv, full_stem),
    "preserved": (preserved_conv, full_stem),
}


#: For each value of the option `pool`, kernel, stride and padding of the pooling after the stem.
POOLS = {"full": (3, 2, 1), "space": ((1, 3, 3), (1, 2, 2), (0, 1, 1))}


class Options(NamedTuple):
    """What is the same for all blocks of a network."""

    variant: Variant
    srtg: bool
    build: BuildOptions

    def conv(self, cin: int, cout: int, *, stride: int, middle: int) -> nn.Sequential:
        """Return a convolution of the variant's kind."""
        variant = self.variant
        more = {} if variant.conv != "preserved" else {"middle_relu": self.build.middle_relu}
        return CONVS[variant.conv][0](
            cin, cout, middle=middle, stride=stride, groups=variant.groups, **more
        )


class BasicBlock(nn.Module):
    """Two convolutions and a skip path: (B, cin, T, H, W) -> (B, cout, T', H', W').

    The option `place` says where the block of an srtg_ network has its SRTG: before the first
    convolution (start), after it (top and mid), after the last one and before the addition
    (bottom), on the skip path (res), or after the addition and its ReLU (final).
    """

    def __init__(self, cin: int, planes: int, *, stride: int, options: Options) -> None:
        super().__init__()
        self.cout = planes * options.build.expansion
        groups = options.variant.groups
        middle = factored_width(cin, planes) // groups * groups
        self.conv1 = activated(options.conv(cin, planes, stride=stride, middle=middle), planes)
        if options.build.middle == "conv":
            middle = factored_width(planes, self.cout) // groups * groups
        conv = options.conv(planes, self.cout, stride=1, middle=middle)
        self.conv2 = normed(conv, self.cout)
        self.add_skip(cin, stride)
        self.add_srtg({"start": cin, "top": planes, "mid": planes}, options)

    def add_skip(self, cin: int, stride: int) -> None:
        """Add the ReLU, and a 1×1×1 convolution to the skip path if the shape changes."""
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or cin != self.cout:
            conv = Conv3d(cin, self.cout, 1, stride=stride, bias=False)
            self.downsample = normed(conv, self.cout)

    def add_srtg(self, widths: dict[str, int], options: Options) -> None:
        """Add the SRTG, if the block has one. `widths`: channels at places without `cout`."""
        build = options.build
        self.place = build.place if options.srtg else None
        if self.place is not None:
            width = widths.get(self.place, self.cout)
            self.sar = SRTG(width, gates=build.gates, alpha=build.srtg_alpha)

    def srtg(self, x: Tensor, *places: str) -> Tensor:
        """Apply the SRTG to `x` if it is at one of these places."""
        return self.sar(x) if self.place in places else x

    def branch(self, x: Tensor) -> Tensor:
        y = self.srtg(self.conv1(x), "top", "mid")
        return self.conv2(y)

    def forward(self, x: Tensor) -> Tensor:
        y = self.srtg(self.branch(self.srtg(x, "start")), "bottom")
        skip = x if self.downsample is None else self.downsample(x)
        y = self.relu(y + self.srtg(skip, "res"))
        return self.srtg(y, "final")


class Bottleneck(BasicBlock):
    """A 1×1×1 convolution, a convolution of the variant's kind, a 1×1×1 one, and a skip path."""

    def __init__(self, cin: int, planes: int, *, stride: int, options: Options) -> None:
        nn.Module.__init__(self)
        self.cout = planes * options.build.expansion
        groups, share = options.variant.groups, options.variant.base_width / 64
        width = int(planes * share) * groups
        middle = int(factored_width(cin, planes) * share) * groups
        if options.build.middle == "conv":
            middle = factored_width(width, width) // groups * groups
        conv = options.conv(width, width, stride=stride, middle=middle)
        self.conv1 = activated(Conv3d(cin, width, 1, bias=False), width)
        self.conv2 = activated(conv, width)
        self.conv3 = normed(Conv3d(width, self.cout, 1, bias=False), self.cout)
        self.add_skip(cin, stride)
        self.add_srtg({"start": cin, "top": width, "mid": width}, options)

    def branch(self, x: Tensor) -> Tensor:
        y = self.srtg(self.conv1(x), "top")
        y = self.srtg(self.conv2(y), "mid")
        return self.conv3(y)


BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}


def factored_width(cin: int, planes: int) -> int:
    """Return the width that gives a factored convolution as many weights as a 3×3×3 one has.

    Tran et al., A Closer Look at Spatiotemporal Convolutions for Action Recognition, CVPR 2018.
    """
    return (27 * cin * planes) // (9 * cin + 3 * planes)


def normed(conv: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm3d(channels))


def activated(conv: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm3d(channels), nn.ReLU(inplace=True))


class ResNet3D(nn.Module):
    """Stem, max-pooling, four stages, classifier: (B, 3, T, H, W) float -> (B, num_classes).

    T may be any number from 1 on, H and W any from 16 on.
    """

    def __init__(self, num_classes: int, options: Options) -> None:
        super().__init__()
        variant, pool = options.variant, options.build.pool
        block = BLOCKS[variant.block]
        more = {} if variant.conv == "factored" else {"frames": options.build.stem_frames}
        self.stem = CONVS[variant.conv][1](**more)
        self.pool = nn.MaxPool3d(*POOLS[pool]) if pool in POOLS else nn.Identity()
        cin = 64
        for i, (depth, planes) in enumerate(zip(variant.depths, STAGE_PLANES, strict=True)):
            blocks = []
            for j in range(depth):
                stride = STAGE_STRIDES[i] if j == 0 else 1
                blocks.append(block(cin, planes, stride=stride, options=options))
                cin = blocks[-1].cout
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(cin, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.stem(x))  # (B, 64, T/2, H/4, W/4), with the usual pool
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (B, C, T/16, H/32, W/32)
        return self.fc(self.avgpool(x).flatten(1))  # (B, num_classes)


def build_resnet3d(
    num_classes: int, *, variant: Variant, srtg: bool, options: BuildOptions
) -> ResNet3D:
    """Build a network of this module; for the options see `network.build_network`.

    Raises:
        NetworkError: the network does not have one of the options.
    """
    if not srtg:
        options.refuse(("gates", "place", "srtg_alpha"), "options of the srtg_ networks only")
    if variant.block == "basic":
        options.refuse(("expansion",), "must be 1 for depths 18 and 34")
    if variant.conv != "factored":
        options.refuse(("middle",), "an option of the r2plus1d networks only")
    else:
        options.refuse(("stem_frames",), "not an option of the r2plus1d networks")
    if variant.conv != "preserved":
        options.refuse(("middle_relu",), "an option of the ip_csn networks only")
    net = ResNet3D(num_classes, Options(variant, srtg, options))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eps, module.momentum = options.norm_eps, options.norm_momentum
    initialise(net)
    initialise_recurrent(net, options.recurrent_init)
    return net.to(memory_format=torch.channels_last_3d)
