"""Exponential moving average (EMA) of the weights, `--ema`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


@torch.no_grad()
def update_average(average: AveragedModel, net: nn.Module, decay: float, applied: Tensor) -> None:
    """Move averaged weights and buffers towards those of `net`; the first update copies them.

    Nothing changes where `applied` (bool, on the device) is false. torch's `update_parameters` has
    no such argument, and to skip the call one would have to wait for the device.
    """
    first = average.n_averaged == 0
    share = torch.where(first, 1.0, 1.0 - decay) * applied  # 0: unchanged, 1: copied
    for own, new in zip(_values(average.module), _values(net), strict=True):
        if own.is_floating_point():
            own.lerp_(new, share.to(own.dtype))
        else:
            own.copy_(new)  # counts
    average.n_averaged += applied


def _values(net: nn.Module) -> Iterable[Tensor]:
    return itertools.chain(net.parameters(), net.buffers())
