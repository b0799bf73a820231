"""Draw film strips: the frames of clips side by side, one clip or heat map below the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.clips.film_strip import spread

COLUMNS = 8  # frames of a strip
SIDE = 1.25  # inches


class Strip(NamedTuple):
    """One row of a picture."""

    what: str  # it shows
    frames: np.ndarray  # uint8 (T, H, W, 3)
    colour: str = "black"  # of the text


def draw_strips(
    strips: Sequence[Strip], title: str, path: Path, *, moments: Sequence[str] | None = None
) -> None:
    """Draw strips below each other.

    Args:
        strips: the rows, all with equal T.
        title: above the picture.
        path: the png.
        moments: when each frame of every strip is shown, T texts.
    """
    from matplotlib.figure import Figure  # takes a second to import

    shown = spread(len(strips[0].frames), COLUMNS)
    label = 0.5 + 0.075 * max(len(line) for strip in strips for line in strip.what.splitlines())
    size = (label + SIDE * len(shown), 0.55 + (SIDE + 0.06) * len(strips))
    figure = Figure(figsize=size, layout="constrained")
    edge = 0.06 / size[0]  # so that no text is cut off
    figure.get_layout_engine().set(
        w_pad=0.02, h_pad=0.02, wspace=0, hspace=0, rect=(edge, 0, 1 - 2 * edge, 1)
    )
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, parse_math=False)
    axes = figure.subplots(len(strips), len(shown), squeeze=False)
    for row, strip in zip(axes, strips, strict=True):
        row[0].set_ylabel(
            strip.what, rotation=0, ha="right", va="center", fontsize=9, color=strip.colour,
            parse_math=False,
        )  # fmt: skip
        for axis, t in zip(row, shown, strict=True):
            axis.imshow(strip.frames[t], interpolation="bilinear")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
    if moments:
        for axis, t in zip(axes[0], shown, strict=True):
            axis.set_title(moments[t], fontsize=8, pad=3)
    figure.savefig(path, dpi=100)
