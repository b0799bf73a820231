"""What the SRTG blocks of a network multiply the features of each frame by."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from network.srtg import SRTG


class BlockFactors(NamedTuple):
    """The factors of one SRTG block for one clip. Earlier layers may have reduced T."""

    block: str
    mean: list[float]  # (T,), over the channels
    low: list[float]  # (T,), the 10th percentile over the channels
    high: list[float]  # (T,), the 90th percentile
    is_open: bool | None  # its gate; None without a gate, or where it changes nothing


@torch.no_grad()
def srtg_factors(net: nn.Module, clip: Tensor) -> list[BlockFactors]:
    """Return the factors of every SRTG block for a normalised clip (1, 3, T, H, W)."""
    found: list[BlockFactors] = []

    def note(name: str, block: SRTG, x: Tensor) -> None:
        factors = block.factors(x)[0].float()  # (T, C)
        low, high = torch.quantile(factors, torch.tensor([0.1, 0.9]).to(factors), dim=1)
        # a block whose learnt scalar is 0 gives factors of 1 whether its gate is open or not
        says = block.gates and (block.alpha is None or bool(block.alpha != 0))
        is_open = not bool((factors == 1).all()) if says else None
        means = factors.mean(1).tolist()
        found.append(BlockFactors(name, means, low.tolist(), high.tolist(), is_open))

    handles = [
        block.register_forward_pre_hook(lambda block, given, name=name: note(name, block, given[0]))
        for name, block in net.named_modules()
        if isinstance(block, SRTG)
    ]
    try:
        if handles:
            net(clip)
    finally:
        for handle in handles:
            handle.remove()
    return found
