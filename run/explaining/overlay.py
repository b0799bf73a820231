"""Lay a heat map over the frames of a clip."""

from __future__ import annotations

import cv2
import numpy as np
from torch import Tensor

from data.clips.film_strip import frames_of
from run.explaining.heat_maps import resized

STRENGTH = 0.7  # share of the colour where the heat is 1


def enlarged_frames(clip: Tensor, side: int) -> np.ndarray:
    """Return the frames of a clip (3, T, S, S) at `side` pixels or more: uint8 (T, H, W, 3)."""
    frames = frames_of(clip)
    enlarged = max(1, round(side / frames.shape[1])) * frames.shape[1]
    if enlarged == frames.shape[1]:
        return np.ascontiguousarray(frames)
    size = (enlarged, enlarged)
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in frames])


def overlaid(frames: np.ndarray, heat: Tensor) -> np.ndarray:
    """Colour frames by a heat map of the whole clip: uint8 (T, H, W, 3).

    Where the heat is low, the frame is shown in grey; high values are yellow and red.

    Args:
        frames: uint8 (T, H, W, 3).
        heat: from 0 to 1, (t, h, w), interpolated to the frames.
    """
    from matplotlib import colormaps  # takes a second to import

    fine = resized(heat.float().cpu(), frames.shape[:3]).clamp(0, 1).numpy()[..., None]
    colours = colormaps["turbo"](0.35 + 0.6 * fine[..., 0])[..., :3] * 255  # green to red
    grey = frames.mean(3, keepdims=True) * 0.75
    share = STRENGTH * np.minimum(1, 1.6 * fine)
    return (grey * (1 - share) + colours * share).round().astype(np.uint8)
