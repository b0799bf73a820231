"""Multi-temporal networks (MTNets): pairs of features, short-term and long-term.

Stergiou and Poppe, Multi-Temporal Convolutions for Human Action Recognition in Videos, IJCNN 2021.
A pair is (short, long): about (B, 7/8 C, T, H, W) and, at half of the size, (B, 1/8 C, T/2, H/2,
W/2). State-dict names are those of the original implementation, so that its checkpoints can be
loaded.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.build_options import BuildOptions
from network.layers import (
    Conv3d,
    from_pixels,
    full_stem,
    initialise,
    pixels,
    scale_frames,
    spatial_mean,
)
from network.recurrent import GRU, initialise_recurrent

STAGE_PLANES = (64, 128, 256, 512)
STAGE_STRIDES = (1, 2, 2, 2)

#: The share of the channels in the short part of a pair.
SHARE = 0.875


class MTConv(nn.Module):
    """Convolve and normalise both features of a pair, and add the short ones to the long ones.

    Maps (short, long) to (short, long) with `cout` channels together, T, H and W divided by the
    stride. The lateral path uses the norm of the long part, whose statistics are therefore updated
    twice in each training step.
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int | tuple[int, int, int] = 1,
        *,
        stride: int = 1,
        padding: int | tuple[int, int, int] = 0,
        groups: int = 1,
        lateral: bool = True,
    ) -> None:
        super().__init__()
        groups_short = max(1, int(groups * SHARE))
        groups_long = max(1, groups - groups_short)
        in_short = int(cin * SHARE) // groups_short * groups_short
        out_short = int(cout * SHARE)
        out_long = cout - out_short
        conv = partial(Conv3d, kernel_size=kernel, stride=stride, padding=padding, bias=False)
        self.conv_short = conv(in_short, out_short, groups=groups_short)
        self.conv_long = conv(cin - in_short, out_long, groups=groups_long)
        self.conv_short2long = Conv3d(out_short, out_long, 1, bias=False) if lateral else None
        if groups > 1:
            self.norm_short = nn.GroupNorm(groups_short, out_short)
            self.norm_long = nn.GroupNorm(groups_long, out_long)
        else:
            self.norm_short = nn.BatchNorm3d(out_short)
            self.norm_long = nn.BatchNorm3d(out_long)

    def forward(self, short: Tensor, long: Tensor) -> tuple[Tensor, Tensor]:
        short, long = self.conv_short(short), self.conv_long(long)
        normed = self.norm_long(long)
        if self.conv_short2long is not None:
            lateral = resize(select_frames(halve(short)), long.shape[2:])
            normed = normed + self.norm_long(self.conv_short2long(lateral))
        return self.norm_short(short), normed


class Recurrence(nn.Module):
    """Multiply features by a GRU's output for their spatial means; keeps (B, C, T, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = GRU(channels)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.op(spatial_mean(x).transpose(0, 1))  # (T, B, C)
        return scale_frames(x, states.transpose(0, 1))


class MTBlock(nn.Module):
    """Four MTConvs, a GRU and a skip path: a pair of `cin` channels -> a pair of `planes`."""

    def __init__(self, cin: int, planes: int, *, stride: int, groups: int) -> None:
        super().__init__()
        width = planes // groups
        self.conv1_1 = MTConv(cin, width)
        self.conv1_2 = MTConv(width, cin)
        self.conv2 = MTConv(cin, width, 3, stride=stride, padding=1, groups=groups)
        if stride != 1 or cin != planes:
            self.conv3 = MTConv(width, planes, groups=groups)
            self.downsample = MTConv(cin, planes, stride=stride, lateral=False)
        else:
            self.conv3 = MTConv(width, planes, (1, 3, 3), padding=(0, 1, 1), groups=groups)
            self.downsample = None
        self.sr_short = Recurrence(int(planes * SHARE))
        self.sr_long = Recurrence(planes - int(planes * SHARE))

    def forward(self, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        short, long = pair
        for conv in (self.conv1_1, self.conv1_2, self.conv2):
            short, long = (F.relu(x, inplace=True) for x in conv(short, long))
        short, long = self.conv3(short, long)
        short, long = self.sr_short(short), self.sr_long(long)
        skip_short, skip_long = self.skip(*pair)
        short = short + resize(skip_short, short.shape[2:])
        long = long + resize(skip_long, long.shape[2:])
        return F.relu(short, inplace=True), F.relu(long, inplace=True)

    def skip(self, short: Tensor, long: Tensor) -> tuple[Tensor, Tensor]:
        """Return (short, long), after a 1×1×1 MTConv if the block changes the shape."""
        if self.downsample is None:
            return short, long
        if long.shape[3] < 3:
            long = resize(long, (long.shape[2], 3, 3))
        return self.downsample(short, long)


class MTNet(nn.Module):
    """Stem, pooling, four stages of pairs, classifier: (B, 3, T, H, W) -> (B, num_classes).

    T may be any number from 1 on, H and W any from 16 on.
    """

    def __init__(self, num_classes: int, depths: tuple[int, ...], *, groups: int) -> None:
        super().__init__()
        self.stem = full_stem()
        self.pool = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        cin = 64
        for i, (depth, planes) in enumerate(zip(depths, STAGE_PLANES, strict=True)):
            blocks = []
            for j in range(depth):
                stride = STAGE_STRIDES[i] if j == 0 else 1
                blocks.append(MTBlock(cin, planes, stride=stride, groups=groups))
                cin = planes
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(cin, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # (B, 64, T, H/2, W/2)
        if x.shape[3] % 2 or x.shape[4] % 2:
            x = F.pad(x, (1, 0, 1, 0, 0, 0), mode="replicate")
        x = select_frames(self.pool(x))  # (B, 64, T/2, H/4, W/4)
        short, long = x.split([56, 8], dim=1)
        pair = short, select_frames(halve(long))  # (B, 8, T/4, H/8, W/8)
        pair = self.layer4(self.layer3(self.layer2(self.layer1(pair))))
        return self.fc(torch.cat([x.mean((2, 3, 4)) for x in pair], dim=1))  # (B, num_classes)


def select_frames(x: Tensor) -> Tensor:
    """Return the half of the frames that are most similar to their neighbours, in time order.

    (B, C, T, H, W) -> (B, C, T // 2, H, W); unchanged where T <= 2. Each inner frame is scored by
    the squared cosine similarity of its spatial mean to those before and after it.
    """
    clips, _, frames = x.shape[:3]
    if frames <= 2:
        return x
    with torch.no_grad():
        means = spatial_mean(x)  # (B, T, C)
        alike = F.cosine_similarity(means[:, 1:], means[:, :-1], dim=2, eps=1e-4).square()
        scores = (alike[:, 1:] + alike[:, :-1]) / 2  # (B, T - 2)
        kept = scores.topk(frames // 2, dim=1).indices.sort(dim=1).values + 1  # (B, T // 2)
        rows = (kept + frames * torch.arange(clips, device=x.device)[:, None]).flatten()
    chosen = pixels(x).flatten(0, 1).index_select(0, rows)  # (B * (T // 2), H*W, C)
    return from_pixels(chosen.unflatten(0, kept.shape), x.shape[3:])


def halve(x: Tensor) -> Tensor:
    """Average 1×2×2 neighbours, which halves H and W; an axis of size 1 keeps its size."""
    x = x.permute(0, 2, 3, 4, 1)  # (B, T, H, W, C): average pooling takes far longer on a CPU
    for axis in (3, 2):
        if x.shape[axis] > 1:
            if x.shape[axis] % 2:
                x = x.narrow(axis, 0, x.shape[axis] - 1)
            x = x.unflatten(axis, (-1, 2)).mean(axis + 1)
    return x.permute(0, 4, 1, 2, 3)


def resize(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Interpolate `x` trilinearly to `size` (T, H, W), without aligned corners."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="trilinear", align_corners=False)


def build_mtnet(
    num_classes: int, *, depths: tuple[int, ...], groups: int, options: BuildOptions
) -> MTNet:
    """Build an MTNet. Its only option of `network.build_network` is `recurrent_init`.

    Raises:
        NetworkError: another option was given.
    """
    options.refuse(
        options.chosen().keys() - {"recurrent_init"}, "not an option of the mtnet_ networks"
    )
    net = MTNet(num_classes, depths, groups=groups)
    initialise(net)
    initialise_recurrent(net, options.recurrent_init)
    return net.to(memory_format=torch.channels_last_3d)
