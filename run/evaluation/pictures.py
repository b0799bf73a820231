"""Draw the confusion matrix, the accuracy by views and crops, and the time probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from run.evaluation.accuracy_by_views import PartScore
from run.evaluation.class_scores import Share
from run.worker_pool import printable

LABELLED = 40  # classes up to which the confusion matrix names them
BLUE, GREY = "#3b6ea5", "#9aa7b4"


def draw_confusion(matrix: np.ndarray, classes: Sequence[str], title: str, path: Path) -> None:
    """Draw the confusion matrix, each row divided by its sum, into the picture file `path`."""
    from matplotlib.figure import Figure

    side = min(14.0, 3.5 + 0.45 * len(classes))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axis = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the videos of the class", shrink=0.8)
    axis.set(title=title, xlabel="predicted", ylabel="label")
    if len(classes) <= LABELLED:
        names = [printable(name) for name in classes]
        axis.set_xticks(range(len(names)), names, rotation=60, ha="right", parse_math=False)
        axis.set_yticks(range(len(names)), names, parse_math=False)
        for row, column in np.argwhere(matrix > 0):
            colour = "white" if shares[row, column] > 0.5 else "black"
            count = str(matrix[row, column])
            axis.text(column, row, count, ha="center", va="center", color=colour, fontsize=8)
    figure.savefig(path, dpi=110)


def error_bars(intervals: Sequence[tuple[float, float, float]]) -> np.ndarray:
    """Return the lengths of error bars: float64 (2, N), none of them negative by rounding.

    Args:
        intervals: value, low end and high end of each.
    """
    value, low, high = np.array(intervals, np.float64).T
    return np.maximum([value - low, high - value], 0)


def draw_by_views(scores: Sequence[PartScore], path: Path) -> None:
    """Draw the top-1 accuracy over the number of views, one line for each number of crops."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axis = figure.subplots()
    crops = sorted({score.crops for score in scores})
    for number, some in enumerate(crops):
        line = [score for score in scores if score.crops == some]
        views = np.array([score.views for score in line])
        value = [score.top1.value for score in line]
        place = views + 0.06 * number  # so that the intervals do not cover each other
        axis.errorbar(
            place, value, error_bars([score.top1 for score in line]), marker="o", markersize=4,
            capsize=2, elinewidth=0.8, label=f"{some} crop{'s' * (some > 1)}",
            color=(BLUE, "#d1701f")[number],
        )  # fmt: skip
    axis.set(
        xlabel="views of each video", ylabel="top-1 accuracy (%)",
        title="Top-1 accuracy by the number of views, 95 % intervals",
    )  # fmt: skip
    axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    if len(crops) > 1:
        axis.legend(frameon=False)
    figure.savefig(path, dpi=110)


def draw_time_probe(rows: Mapping[str, Share], chance: float, path: Path) -> None:
    """Draw the top-1 accuracy for each order of the frames as bars.

    Args:
        rows: in words what a clip shows -> its accuracy.
        chance: accuracy of a random class in percent.
        path: the png.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 1.3 + 0.4 * len(rows)), layout="constrained")
    axis = figure.subplots()
    at = np.arange(len(rows))
    value, _, high = np.array(list(rows.values())).T
    colours = [BLUE] + [GREY] * (len(rows) - 1)
    axis.barh(at, value, 0.62, color=colours)
    axis.errorbar(value, at, xerr=error_bars(list(rows.values())), fmt="none", ecolor="black",
                  elinewidth=1, capsize=3)  # fmt: skip
    for place, number, end in zip(at, value, high, strict=True):
        axis.text(end + 1.5, place, f"{number:.1f}", va="center", fontsize=9,
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip
    axis.axvline(chance, color="black", linestyle=":", linewidth=1)
    axis.text(chance, -0.55, " chance", fontsize=8, va="bottom")
    axis.set_yticks(at, list(rows))
    axis.set(xlim=(0, 109), ylim=(len(rows) - 0.4, -0.9), xlabel="top-1 accuracy (%)",
             title="What is left without motion, 95 % intervals")  # fmt: skip
    axis.set_xticks(range(0, 101, 20))
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
