"""Which square of the frames a clip shows, whatever size they are stored or decoded at."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SCALES = (1.0, 0.875, 0.75, 0.66)  # of multi-scale cropping (Wang et al., TSN, arXiv 1608.00859)


class Window(NamedTuple):
    """A square in pixels of one frame."""

    left: int
    top: int
    side: int


class Crop(NamedTuple):
    """A square relative to the frame: its side as a `share` of the frame's short side, and its
    place, 0 at the left or top end and 1 at the other.
    """

    share: float
    x: float = 0.5
    y: float = 0.5
    flip: bool = False

    def window(self, height: int, width: int) -> Window:
        """The pixels of it in a frame of that size."""
        side = max(1, round(min(height, width) * self.share))
        return Window(round((width - side) * self.x), round((height - side) * self.y), side)

    def short_side(self, size: int) -> int:
        """Least short side, in pixels, of frames in which it is at least `size` wide."""
        return int(np.ceil(size / self.share))


def draw_crop(
    share: float, rng: np.random.Generator, *, multiscale: bool = False, flip: bool = False
) -> Crop:
    """A crop anywhere in the frame, of the given share or, `multiscale`, of one of SCALES."""
    if multiscale:
        share = SCALES[int(rng.random() * len(SCALES))]
    x, y, mirrored = rng.random(3).tolist()
    return Crop(share, x, y, flip and mirrored < 0.5)
