"""Choose which square of the frames a clip shows, whatever their size when stored or decoded."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: Shares of multi-scale cropping (Wang et al., Temporal Segment Networks, arXiv 1608.00859).
SCALES = (1.0, 0.875, 0.75, 0.66)


class Window(NamedTuple):
    """A square in pixels of one frame."""

    left: int
    top: int
    side: int


class Crop(NamedTuple):
    """A square relative to the frame's size."""

    share: float  # side of the square / short side of the frame
    x: float = 0.5  # position: 0 is at the left edge of the frame, 1 at the right edge
    y: float = 0.5  # 0 is at the top, 1 at the bottom
    flip: bool = False  # mirror the clip left to right

    def window(self, height: int, width: int) -> Window:
        """Return the square in pixels of a frame of that size."""
        side = max(1, round(min(height, width) * self.share))
        return Window(round((width - side) * self.x), round((height - side) * self.y), side)

    def beside(self, position: float, height: int, width: int) -> Crop:
        """Return this crop moved along the longer side of a frame: 0 is one end, 1 the other."""
        return self._replace(y=position) if height > width else self._replace(x=position)

    def short_side(self, size: int) -> int:
        """Return how many pixels a frame's short side needs for a square of `size` pixels."""
        return int(np.ceil(size / self.share))


def draw_crop(
    share: float, rng: np.random.Generator, *, multiscale: bool = False, flip: bool = False
) -> Crop:
    """Draw a crop at a random position.

    Args:
        share: side of the square relative to the frame's short side.
        rng: source of the random numbers.
        multiscale: draw the share from SCALES instead.
        flip: mirror half of the clips.
    """
    if multiscale:
        share = SCALES[int(rng.random() * len(SCALES))]
    x, y, mirrored = rng.random(3).tolist()
    return Crop(share, x, y, flip and mirrored < 0.5)
