"""The temporal gate: is what the recursion found consistent with what the features show?"""

from __future__ import annotations

import torch
from torch import Tensor

from network.layers import no_autocast


@torch.no_grad()
def cycle_consistent(pooled: Tensor, states: Tensor) -> Tensor:
    """Which clips' two sequences are each other's soft nearest neighbours, frame for frame.

    A frame's soft nearest neighbour in the other sequence is the mean of that sequence's frames,
    weighted by the softmax of minus their squared Euclidean distances. A clip is consistent when,
    for every frame and in both directions, the frame nearest to the soft neighbour has the same
    index (Stergiou and Poppe, Learn to cycle, Pattern Recognition Letters 141, 2021). Two equal
    sequences are consistent even where neighbouring frames are too close for the test to part.

    Args:
        pooled: (B, T, C), the features' spatial means.
        states: (B, T, C), the recursion's output.

    Returns:
        (B,) bool. Computed in float32 at least, whatever the inputs' dtype or autocast.
    """
    with no_autocast(pooled.device.type):
        if pooled.dtype in (torch.float16, torch.bfloat16):
            pooled, states = pooled.float(), states.float()
        # In units of the clip's largest magnitude no square overflows or vanishes.
        largest = torch.maximum(pooled.abs(), states.abs()).amax((1, 2), keepdim=True)
        scale = largest.clamp_min(torch.finfo(largest.dtype).tiny)  # (B, 1, 1)
        p, s = pooled / scale, states / scale
        equal = (pooled == states).all(2).all(1)
        return equal | (_returns(p, s, scale) & _returns(s, p, scale))


def _returns(here: Tensor, there: Tensor, scale: Tensor) -> Tensor:
    """(B,) bool: every frame of `here` finds its own index by way of `there`; all (B, T, C)."""
    distances = _squared_distances(here, there)  # (B, T, T)
    excess = distances - distances.amin(2, keepdim=True)
    weights = torch.softmax(-(excess * scale * scale), 2)  # may be exp(-inf) = 0, never NaN
    neighbour = weights @ there  # (B, T, C)
    nearest = _squared_distances(neighbour, there).argmin(2)  # (B, T)
    return (nearest == torch.arange(here.shape[1], device=here.device)).all(1)


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """(B, T, C), (B, T, C) -> (B, T, T), by differences: the product form cancels near frames."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
