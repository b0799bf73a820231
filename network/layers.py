"""The convolutions that residual blocks are made of, all built by functions of one signature.

A builder is called as `builder(cin, cout, middle=..., stride=..., groups=...)` and gives a module
that maps (B, cin, T, H, W) to (B, cout, T', H', W') with every side divided by the stride, rounded
up. `middle` is the width between the two halves of a factored convolution; the others ignore it.
Norm and activation after the last convolution are the block's own.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Conv3d(nn.Conv3d):
    """The framework's, by a shorter way where there is one. The result is the same.

    On a side of 1 only a kernel's middle tap meets the features. Deep stages of short clips have
    one frame: there two thirds of a 3×3×3 kernel, and most of the time of its weight gradient on a
    CPU, go into zeros. And a 1×1×1 kernel is a linear layer of each pixel, which a CPU computes
    twice as fast as a convolution.
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return super().forward(x)
        channels_last = x.is_contiguous(memory_format=torch.channels_last_3d)
        if self._is_linear and channels_last and not x.is_cuda:
            y = F.linear(x.permute(0, 2, 3, 4, 1), self.weight.flatten(1), self.bias)
            return y.permute(0, 4, 1, 2, 3)
        if 1 not in x.shape[2:]:
            return super().forward(x)
        taps, padding = [slice(None)] * 5, list(self.padding)
        for axis, side in enumerate(x.shape[2:]):
            if side == 1 and self.kernel_size[axis] == 2 * padding[axis] + 1:
                taps[2 + axis] = slice(padding[axis], padding[axis] + 1)
                padding[axis] = 0
        weight = _Taps.apply(self.weight, tuple(taps))
        return F.conv3d(x, weight, self.bias, self.stride, padding, self.dilation, self.groups)

    @property
    def _is_linear(self) -> bool:
        numbers = {*self.kernel_size, *self.stride, self.groups}
        return numbers == {1} and not any(self.padding)


class _Taps(torch.autograd.Function):
    """`weight[taps]`, whose gradient lies in memory as the weight does: no copy to reorder it."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, taps: tuple[slice, ...]) -> Tensor:
        ctx.taps = taps
        ctx.save_for_backward(weight)
        return weight[taps].clone(memory_format=torch.preserve_format)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        whole = torch.zeros_like(weight, dtype=gradient.dtype)
        whole[ctx.taps] = gradient
        return whole, None


def full_conv(cin: int, cout: int, *, middle: int, stride: int, groups: int) -> nn.Sequential:
    """One 3×3×3 convolution (the 3D ResNets)."""
    return nn.Sequential(Conv3d(cin, cout, 3, stride=stride, padding=1, groups=groups, bias=False))


def factored_conv(cin: int, cout: int, *, middle: int, stride: int, groups: int) -> nn.Sequential:
    """1×3×3 over space, then 3×1×1 over time (Tran et al., R(2+1)D, CVPR 2018)."""
    return nn.Sequential(
        Conv3d(
            cin,
            middle,
            (1, 3, 3),
            stride=(1, stride, stride),
            padding=(0, 1, 1),
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm3d(middle),
        nn.ReLU(inplace=True),
        Conv3d(
            middle,
            cout,
            (3, 1, 1),
            stride=(stride, 1, 1),
            padding=(1, 0, 0),
            groups=groups,
            bias=False,
        ),
    )


def depthwise_conv(cin: int, cout: int, *, middle: int, stride: int, groups: int) -> nn.Sequential:
    """3×3×3 within each channel: interaction-reduced (Tran et al., CSN, ICCV 2019)."""
    return full_conv(cin, cout, middle=middle, stride=stride, groups=cin)


def preserved_conv(cin: int, cout: int, *, middle: int, stride: int, groups: int) -> nn.Sequential:
    """1×1×1 across channels, then 3×3×3 within each: interaction-preserved (CSN)."""
    return nn.Sequential(
        Conv3d(cin, cout, 1, bias=False),
        nn.BatchNorm3d(cout),
        nn.ReLU(inplace=True),
        depthwise_conv(cout, cout, middle=middle, stride=stride, groups=groups),
    )


def full_stem() -> nn.Sequential:
    """3×7×7 convolution, norm, ReLU: (B, 3, T, H, W) -> (B, 64, T, H/2, W/2)."""
    return nn.Sequential(
        Conv3d(3, 64, (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False),
        nn.BatchNorm3d(64),
        nn.ReLU(inplace=True),
    )


def factored_stem() -> nn.Sequential:
    """1×7×7 to 45 channels, then 3×1×1 to 64: (B, 3, T, H, W) -> (B, 64, T, H/2, W/2)."""
    return nn.Sequential(
        Conv3d(3, 45, (1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3), bias=False),
        nn.BatchNorm3d(45),
        nn.ReLU(inplace=True),
        Conv3d(45, 64, (3, 1, 1), padding=(1, 0, 0), bias=False),
        nn.BatchNorm3d(64),
        nn.ReLU(inplace=True),
    )


def pixels(x: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B, T, H*W, C), a view in either memory format.

    Where channels are last in memory, the CPU's sums and products over the pixels of a frame are
    several times quicker on it than over two axes of `x`.
    """
    return x.permute(0, 2, 3, 4, 1).flatten(2, 3)


def from_pixels(x: Tensor, sides: tuple[int, ...]) -> Tensor:
    """(B, T, H*W, C) -> (B, C, T, H, W) with `sides` (H, W), a view: `pixels` undone."""
    return x.unflatten(2, sides).permute(0, 4, 1, 2, 3)


def spatial_mean(x: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B, T, C), in float32 at least: half precision cannot hold the sum."""
    return pixels(x).mean(2, dtype=torch.promote_types(x.dtype, torch.float32))


def scale_frames(x: Tensor, factors: Tensor) -> Tensor:
    """(B, C, T, H, W) `x` times its frames' (B, T, C) `factors`: shape and dtype of `x`."""
    return from_pixels(pixels(x) * factors.to(x.dtype)[:, :, None], x.shape[3:])


def no_autocast(device_type: str) -> AbstractContextManager:
    """A block without autocast, on any device; some, as the meta device, know none."""
    if not torch.amp.is_autocast_available(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


def initialise(net: nn.Module) -> None:
    """The originals' start: Kaiming (fan out) convolutions, norms 1 and 0, N(0, 0.01) classifiers.

    Recurrent layers are left to `network.recurrent`.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm3d | nn.GroupNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.01)
            nn.init.zeros_(module.bias)
