"""Squeeze and Recursion Temporal Gates (SRTG): scale the features of each frame by an LSTM.

Stergiou and Poppe, Learn to cycle: Time-consistent feature discovery for action recognition,
Pattern Recognition Letters 141, 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from network.gates import cycle_consistent
from network.layers import scale_frames, spatial_mean
from network.recurrent import LSTM

# with larger spatial means, the matrix products of the LSTM could be inf - inf, which is NaN
_LARGEST_MEAN = 1e30


class SRTG(nn.Module):
    """Multiply features by an LSTM's output for their spatial means; keeps (B, C, T, H, W).

    Args:
        channels: C, also the width of the LSTM, which has two layers.
        gates: multiply the features of cycle-consistent clips only and leave the others unchanged,
            instead of multiplying those of all clips.
        alpha: initial value of a learnt scalar a: features are multiplied by 1 + a (f - 1), where f
            is the LSTM's output. With 0 the block changes nothing at first, bit for bit, and a has
            a gradient at once; with 1 it is the published block. With None there is no such scalar,
            and the block is always the published one.
    """

    def __init__(self, channels: int, *, gates: bool = False, alpha: float | None = None) -> None:
        super().__init__()
        self.gates = gates
        self.lstm = LSTM(channels)
        self.alpha = None if alpha is None else nn.Parameter(torch.tensor(float(alpha)))
        if gates:  # clips whose gate was open, all clips
            self.register_buffer("counts", torch.zeros(2, dtype=torch.int64), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return scale_frames(x, self.factors(x))

    def factors(self, x: Tensor) -> Tensor:
        """Return what the features of each frame are multiplied by: (B, C, T, H, W) -> (B, T, C).

        With `gates`, all factors of a clip whose gate is closed are 1.
        """
        pooled = spatial_mean(x).clamp(-_LARGEST_MEAN, _LARGEST_MEAN)  # (B, T, C)
        factors = self.lstm(pooled.transpose(0, 1))[0].transpose(0, 1)  # (B, T, C)
        if self.gates:
            opened = cycle_consistent(pooled, factors)  # (B,)
            if self.training:
                self._count(opened)
            factors = torch.where(opened[:, None, None], factors, 1.0)
        if self.alpha is not None:
            factors = 1 + self.alpha * (factors - 1)
        return factors

    @torch.no_grad()
    def _count(self, opened: Tensor) -> None:
        self.counts[0] += opened.sum()
        self.counts[1] += len(opened)


def gate_rates(net: nn.Module, *, reset: bool = False) -> dict[str, float]:
    """Return the share of the training clips whose gate was open since the last reset, by block.

    Returns:
        {name of the SRTG block: share from 0 to 1, or NaN if there was no clip}; empty without
        gates. With DataParallel only the first device's clips are counted, with
        DistributedDataParallel only those of this rank.
    """
    rates = {}
    for name, module in net.named_modules():
        if isinstance(module, SRTG) and module.gates:
            opened, seen = module.counts.tolist()
            rates[name] = opened / seen if seen else float("nan")
            if reset:
                module.counts.zero_()
    return rates
