"""The gate of SRTG: whether features and recurrent states of a clip are cycle-consistent."""

from __future__ import annotations

import torch
from torch import Tensor

from network.layers import no_autocast


@torch.no_grad()
def cycle_consistent(pooled: Tensor, states: Tensor) -> Tensor:
    """Return for each clip whether its two sequences are cycle-consistent.

    A frame's soft nearest neighbour in the other sequence is the mean of that sequence's frames,
    weighted by the softmax of minus their squared Euclidean distances. A clip is consistent when,
    for every frame and in both directions, the frame nearest to the soft neighbour has the same
    index (Stergiou and Poppe, Learn to cycle, Pattern Recognition Letters 141, 2021). Two equal
    sequences are always consistent, even if neighbouring frames are too similar to tell apart.

    Args:
        pooled: (B, T, C), spatial means of the features.
        states: (B, T, C), output of the recurrent layers.

    Returns:
        (B,) bool, computed in float32 or float64, also under autocast.
    """
    with no_autocast(pooled.device.type):
        if pooled.dtype in (torch.float16, torch.bfloat16):
            pooled, states = pooled.float(), states.float()
        # divided by the largest magnitude in the clip, so that no square overflows or underflows
        largest = torch.maximum(pooled.abs(), states.abs()).amax((1, 2), keepdim=True)
        scale = largest.clamp_min(torch.finfo(largest.dtype).tiny)  # (B, 1, 1)
        p, s = pooled / scale, states / scale
        equal = (pooled == states).all(2).all(1)
        return equal | (_returns(p, s, scale) & _returns(s, p, scale))


def _returns(here: Tensor, there: Tensor, scale: Tensor) -> Tensor:
    """Return for each clip whether every frame of `here` leads back to itself through `there`.

    `here` and `there` are (B, T, C), divided by `scale` (B, 1, 1); the result is (B,) bool.
    """
    distances = _squared_distances(here, there)  # (B, T, T)
    excess = distances - distances.amin(2, keepdim=True)
    weights = torch.softmax(-(excess * scale * scale), 2)  # may be exp(-inf) = 0, never NaN
    neighbour = weights @ there  # (B, T, C)
    nearest = _squared_distances(neighbour, there).argmin(2)  # (B, T)
    return (nearest == torch.arange(here.shape[1], device=here.device)).all(1)


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return the squared distances of all pairs of frames: (B, T, C), (B, T, C) -> (B, T, T).

    They are computed from differences, since matrix products are inexact for similar frames.
    """
    if torch.compiler.is_exporting():  # ONNX has no cdist
        return (a[:, :, None] - b[:, None]).square().sum(3)
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
