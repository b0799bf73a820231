"""The pictures of `run.explain`: the occlusion in time, and the factors of SRTG blocks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.clips.film_strip import spread
from run.explaining.occlusion import Occlusion
from run.explaining.srtg_factors import BlockFactors

BLUE, ORANGE = "#3b6ea5", "#d9822b"


def _timeline(figure, frames: np.ndarray, moments: Sequence[str], heights: tuple[float, float]):
    """Add a row of all frames to a figure, return an axis below whose x is the frame's number."""
    grid = figure.add_gridspec(2, len(frames), height_ratios=heights)
    for t, frame in enumerate(frames):
        axis = figure.add_subplot(grid[0, t])
        axis.imshow(frame, interpolation="none")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    axis = figure.add_subplot(grid[1, :])
    axis.set(xlim=(-0.5, len(frames) - 0.5))
    marks = spread(len(frames), 9)
    axis.set_xticks(marks, [moments[t] for t in marks], fontsize=8)
    return axis


def _figure(frames: int, height: float):
    from matplotlib.figure import Figure

    width = max(7.0, min(14.0, 0.9 * frames + 1))
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(wspace=0.01, w_pad=0.02)
    return figure


def draw_occlusion(
    frames: np.ndarray, moments: Sequence[str], occlusion: Occlusion, title: str, path: Path
) -> None:
    """Draw how much the score falls without each frame, below the frames.

    Args:
        frames: uint8 (T, H, W, 3).
        moments: when each frame is shown, T texts.
        occlusion: the scores.
        title: above the picture.
        path: the png.
    """
    figure = _figure(len(frames), 3.6)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, parse_math=False)
    axis = _timeline(figure, frames, moments, (1, 2.4))
    at = np.arange(len(frames))
    for shift, scores, colour, label in (
        (-0.19, occlusion.grey, BLUE, "the frame is grey"),
        (0.19, occlusion.repeated, ORANGE, "the frame before it is shown again"),
    ):
        axis.bar(at + shift, occlusion.whole - np.array(scores), 0.38, color=colour, label=label)
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set_ylabel("fall of the class's log-odds", fontsize=9)
    axis.tick_params(axis="y", labelsize=8)
    axis.margins(y=0.25)
    axis.legend(fontsize=8, ncols=2, frameon=False, loc="upper left")
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=100)


def draw_factors(
    frames: np.ndarray,
    moments: Sequence[str],
    blocks: Sequence[BlockFactors],
    title: str,
    path: Path,
) -> None:
    """Draw the factors of each SRTG block over time, below the frames.

    Args:
        frames: uint8 (T, H, W, 3).
        moments: when each frame is shown, T texts.
        blocks: the factors, first block first.
        title: above the picture.
        path: the png.
    """
    figure = _figure(len(frames), 1.6 + 0.27 * len(blocks))
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, parse_math=False)
    axis = _timeline(figure, frames, moments, (1, 0.25 * len(blocks)))
    means = [np.array(block.mean) for block in blocks]
    low, high = min(map(np.min, means)), max(map(np.max, means))
    for row, mean in enumerate(means):
        edges = np.linspace(-0.5, len(frames) - 0.5, len(mean) + 1)
        image = axis.pcolormesh(
            edges, [row - 0.5, row + 0.5], mean[None], cmap="viridis", vmin=low, vmax=high
        )
        for left, right, value in zip(edges[:-1], edges[1:], mean, strict=True):
            dark = value < (low + high) / 2
            colour = "white" if dark and high > low else "black"
            middle = (left + right) / 2
            text = f"{value:.2f}"
            axis.text(middle, row, text, ha="center", va="center", color=colour, fontsize=7)
    axis.set_ylim(len(blocks) - 0.5, -0.5)
    states = {None: "", True: " (open)", False: " (closed)"}
    names = [block.block + states[block.is_open] for block in blocks]
    axis.set_yticks(range(len(blocks)), names, fontsize=8)
    colours = figure.colorbar(image, ax=axis, pad=0.01, fraction=0.03)
    colours.set_label("mean factor of all channels", fontsize=8)
    colours.ax.tick_params(labelsize=7)
    figure.savefig(path, dpi=100)
