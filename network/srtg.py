"""Squeeze and Recursion Temporal Gates: features times what a recursion over their frames says.

Stergiou and Poppe, Learn to cycle: Time-consistent feature discovery for action recognition,
Pattern Recognition Letters 141, 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from network.gates import cycle_consistent
from network.layers import scale_frames, spatial_mean
from network.recurrent import LSTM

#: Where in a residual block the SRTG may stand, as the paper's figure draws them.
PLACES = ("start", "top", "mid", "bottom", "res", "final")

# Spatial means beyond this would meet inf - inf inside the recursion's matrix products.
_LARGEST_MEAN = 1e30


class SRTG(nn.Module):
    """Squeeze over space, recursion over time, gate: (B, C, T, H, W) -> the same shape.

    Args:
        channels: C, the width of the two-layer LSTM.
        gates: multiply only clips that are cycle-consistent and pass the others untouched;
            without gates every clip is multiplied.
    """

    def __init__(self, channels: int, *, gates: bool = False) -> None:
        super().__init__()
        self.gates = gates
        self.lstm = LSTM(channels)
        if gates:  # clips that passed open, clips seen
            self.register_buffer("counts", torch.zeros(2, dtype=torch.int64), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = spatial_mean(x).clamp(-_LARGEST_MEAN, _LARGEST_MEAN)  # (B, T, C)
        factors = self.lstm(pooled.transpose(0, 1))[0].transpose(0, 1)  # (B, T, C)
        if self.gates:
            opened = cycle_consistent(pooled, factors)  # (B,)
            if self.training:
                self._count(opened)
            factors = torch.where(opened[:, None, None], factors, 1.0)
        return scale_frames(x, factors)

    @torch.no_grad()
    def _count(self, opened: Tensor) -> None:
        self.counts[0] += opened.sum()
        self.counts[1] += len(opened)


def gate_rates(net: nn.Module, *, reset: bool = False) -> dict[str, float]:
    """Share of the training clips, since the last reset, whose gate was open, by SRTG block.

    Returns:
        {block name: rate in [0, 1]}, NaN for a block that has seen no clip; empty without gates.
        Under data parallelism: of the first device's clips, or of this process's.
    """
    rates = {}
    for name, module in net.named_modules():
        if isinstance(module, SRTG) and module.gates:
            opened, seen = module.counts.tolist()
            rates[name] = opened / seen if seen else float("nan")
            if reset:
                module.counts.zero_()
    return rates
