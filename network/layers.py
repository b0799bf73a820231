"""The convolutions, stems and small tensor functions that the networks are made of.

The functions `<kind>_conv(cin, cout, middle=..., stride=..., groups=...)` return a module that maps
(B, cin, T, H, W) to (B, cout, T', H', W'): T, H and W are divided by the stride and rounded up.
`middle` is the number of channels between the two convolutions of a factored one; the other kinds
ignore it. The norm and activation after the last convolution are added by the block.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Conv3d(nn.Conv3d):
    """torch's Conv3d with two shortcuts that give the same result.

    Along an axis of size 1, only the middle of a kernel meets features, the rest meets padding.
    Deep stages of short clips have one frame, where two thirds of a 3×3×3 kernel are multiplied by
    zeros: those weights are left out. A 1×1×1 convolution is a linear layer on each pixel, which a
    CPU computes twice as fast.
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
    """`weight[taps]`, whose gradient has the memory format of the weight and needs no copy."""

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
    """Return one 3×3×3 convolution (3D ResNets)."""
    return nn.Sequential(Conv3d(cin, cout, 3, stride=stride, padding=1, groups=groups, bias=False))


def factored_conv(cin: int, cout: int, *, middle: int, stride: int, groups: int) -> nn.Sequential:
    """Return 1×3×3 over space, then 3×1×1 over time (Tran et al., R(2+1)D, CVPR 2018)."""
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
    """Return a depthwise 3×3×3 convolution (interaction-reduced CSN, Tran et al., ICCV 2019)."""
    return full_conv(cin, cout, middle=middle, stride=stride, groups=cin)


def preserved_conv(
    cin: int, cout: int, *, middle: int, stride: int, groups: int, middle_relu: bool = True
) -> nn.Sequential:
    """Return a 1×1×1 convolution, then a depthwise 3×3×3 one (interaction-preserved CSN).

    Without `middle_relu` there is a norm between them, and no ReLU.
    """
    return nn.Sequential(
        Conv3d(cin, cout, 1, bias=False),
        nn.BatchNorm3d(cout),
        nn.ReLU(inplace=True) if middle_relu else nn.Identity(),
        depthwise_conv(cout, cout, middle=middle, stride=stride, groups=groups),
    )


def full_stem(frames: int = 3) -> nn.Sequential:
    """Return 3×7×7 convolution, norm, ReLU: (B, 3, T, H, W) -> (B, 64, T, H/2, W/2).

    The kernel covers `frames` frames, an odd number.
    """
    padding = (frames // 2, 3, 3)
    return nn.Sequential(
        Conv3d(3, 64, (frames, 7, 7), stride=(1, 2, 2), padding=padding, bias=False),
        nn.BatchNorm3d(64),
        nn.ReLU(inplace=True),
    )


def factored_stem() -> nn.Sequential:
    """Return 1×7×7 to 45 channels, 3×1×1 to 64: (B, 3, T, H, W) -> (B, 64, T, H/2, W/2)."""
    return nn.Sequential(
        Conv3d(3, 45, (1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3), bias=False),
        nn.BatchNorm3d(45),
        nn.ReLU(inplace=True),
        Conv3d(45, 64, (3, 1, 1), padding=(1, 0, 0), bias=False),
        nn.BatchNorm3d(64),
        nn.ReLU(inplace=True),
    )


def pixels(x: Tensor) -> Tensor:
    """Return a view with the pixels of a frame on one axis: (B, C, T, H, W) -> (B, T, H*W, C).

    With channels last in memory, sums and products over the pixels of a frame are several times
    faster on a CPU than over the two axes of `x`.
    """
    return x.permute(0, 2, 3, 4, 1).flatten(2, 3)


def from_pixels(x: Tensor, sides: tuple[int, ...]) -> Tensor:
    """Undo `pixels`, as a view: (B, T, H*W, C) -> (B, C, T, H, W), `sides` being (H, W)."""
    return x.unflatten(2, sides).permute(0, 4, 1, 2, 3)


def spatial_mean(x: Tensor) -> Tensor:
    """Average over space, in float32 or float64: (B, C, T, H, W) -> (B, T, C)."""
    return pixels(x).mean(2, dtype=torch.promote_types(x.dtype, torch.float32))


def scale_frames(x: Tensor, factors: Tensor) -> Tensor:
    """Multiply `x` (B, C, T, H, W) by `factors` (B, T, C); keeps shape, dtype and memory format.

    The memory format matters: with another one, the next convolution may round differently.
    """
    factors = factors.to(x.dtype)
    # an exported program has one path for all shapes and memory formats
    exporting = torch.compiler.is_exporting()
    if exporting or not x.is_contiguous(memory_format=torch.channels_last_3d):
        return x * factors.transpose(1, 2)[..., None, None]
    return from_pixels(pixels(x) * factors[:, :, None], x.shape[3:])


def no_autocast(device_type: str) -> AbstractContextManager:
    """Return a context without autocast, also for devices that have none, such as meta."""
    if torch.compiler.is_exporting() or not torch.amp.is_autocast_available(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


def initialise(net: nn.Module) -> None:
    """Initialise all but the recurrent layers, as the original implementations do.

    Convolutions: Kaiming normal, fan out. Norms: weights 1, biases 0. Linear layers: weights from
    N(0, 0.01), biases 0. For recurrent layers see `network.recurrent`.
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
