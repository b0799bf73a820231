"""3D residual networks, plain and with SRTG; `network.variants` lists them.

State-dict names are those of the original implementation, so that its checkpoints can be loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

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
from network.network_error import NetworkError
from network.recurrent import initialise_recurrent
from network.srtg import PLACES, SRTG
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


@dataclass(frozen=True)
class Options:
    """Options that are the same for all blocks of a network."""

    variant: Variant
    expansion: int
    place: str | None
    gates: bool


class BasicBlock(nn.Module):
    """Two convolutions and a skip path: (B, cin, T, H, W) -> (B, cout, T', H', W').

    `options.place` says where the block has an SRTG: before the first convolution (start), after it
    (top and mid), after the last one and before the addition (bottom), on the skip path (res),
    after the addition and its ReLU (final), or nowhere (None).
    """

    def __init__(self, cin: int, planes: int, *, stride: int, options: Options) -> None:
        super().__init__()
        self.cout = planes * options.expansion
        groups = options.variant.groups
        middle = factored_width(cin, planes) // groups * groups
        conv = partial(CONVS[options.variant.conv][0], middle=middle, groups=groups)
        self.conv1 = activated(conv(cin, planes, stride=stride), planes)
        self.conv2 = normed(conv(planes, self.cout, stride=1), self.cout)
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
        """Add the SRTG, if there is one; `widths` are the channels where they are not `cout`."""
        self.place = options.place
        if self.place is not None:
            self.sar = SRTG(widths.get(self.place, self.cout), gates=options.gates)

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
    """1×1×1 convolution, one of the variant's kind, 1×1×1 convolution, and a skip path."""

    def __init__(self, cin: int, planes: int, *, stride: int, options: Options) -> None:
        nn.Module.__init__(self)
        self.cout = planes * options.expansion
        groups, share = options.variant.groups, options.variant.base_width / 64
        width = int(planes * share) * groups
        middle = int(factored_width(cin, planes) * share) * groups
        conv = partial(CONVS[options.variant.conv][0], middle=middle, groups=groups)
        self.conv1 = activated(Conv3d(cin, width, 1, bias=False), width)
        self.conv2 = activated(conv(width, width, stride=stride), width)
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
        variant = options.variant
        block = BLOCKS[variant.block]
        self.stem = CONVS[variant.conv][1]()
        self.pool = nn.MaxPool3d(3, stride=2, padding=1)
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
        x = self.pool(self.stem(x))  # (B, 64, T/2, H/4, W/4)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (B, C, T/16, H/32, W/32)
        return self.fc(self.avgpool(x).flatten(1))  # (B, num_classes)


def build_resnet3d(
    num_classes: int,
    *,
    variant: Variant,
    srtg: bool,
    gates: bool,
    place: str,
    expansion: int,
    recurrent_init: str,
) -> ResNet3D:
    """Build a network of this module; for the options see `network.build_network`.

    Raises:
        NetworkError: the network does not have one of the options.
    """
    if place not in PLACES:
        raise NetworkError(f"place is {place!r}: it must be one of {', '.join(PLACES)}")
    if not srtg and (gates or place != "final"):
        raise NetworkError("gates and place are options of the srtg_ networks only")
    if expansion < 1 or (expansion != 1 and variant.block == "basic"):
        raise NetworkError(
            f"expansion is {expansion}: it must be at least 1, and 1 for depths 18 and 34"
        )
    options = Options(variant, expansion, place if srtg else None, gates)
    net = ResNet3D(num_classes, options)
    initialise(net)
    initialise_recurrent(net, recurrent_init)
    return net
