"""Random erasing (Zhong et al., arXiv 1708.04896), with the same box in every frame of a clip."""

from __future__ import annotations

import math

import numpy as np

AREA = (0.02, 1 / 3)  # of the box, relative to the frame's
ASPECT = (0.3, 1 / 0.3)  # height to width


def erase_box(
    clip: np.ndarray, rng: np.random.Generator, colour: tuple[float, float, float]
) -> None:
    """Paint a random box of a clip in one colour, in place.

    Args:
        clip: uint8 (T, S, S, 3).
        rng: source of the random numbers.
        colour: R, G, B in 0..1.
    """
    height, width = clip.shape[1:3]
    area = rng.uniform(*AREA) * height * width
    aspect = math.exp(rng.uniform(*map(math.log, ASPECT)))
    h = min(height, max(1, round(math.sqrt(area * aspect))))
    w = min(width, max(1, round(math.sqrt(area / aspect))))
    top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
    clip[:, top : top + h, left : left + w] = np.rint(np.multiply(colour, 255)).astype(np.uint8)
