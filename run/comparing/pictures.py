"""Draw accuracies, differences, and the classes that gain and lose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from run.comparing.class_changes import ClassChange
from run.comparing.comparison import Comparison, Scores
from run.evaluation.pictures import error_bars
from run.worker_pool import printable

BLUE, ORANGE, GREY = "#3b6ea5", "#d1701f", "#8a8f98"
SHOWN = 12  # classes that gain, and as many that lose
LONGEST = 40  # characters of a name


def draw_comparison(comparison: Comparison, path: Path) -> None:
    """Draw the accuracy of each configuration, and the difference of each pair with its interval.

    An interval that contains zero is grey.
    """
    from matplotlib.figure import Figure

    scores = comparison.scores
    tops = [one for one in comparison.differences if one.score == "top1"]
    height = 1.5 + 0.42 * max(len(scores), len(tops))
    figure = Figure(figsize=(12.5, height), layout="constrained")
    left, right = figure.subplots(1, 2)
    for place, one in enumerate(scores):
        _draw_scores(left, place, one)
    left.set_yticks(range(len(scores)), [_shortened(one.name) for one in scores], parse_math=False)
    left.set(ylim=(len(scores) - 0.5, -0.5), xlabel="top-1 accuracy (%)",
             title="Accuracy: 95 % interval, or the runs and their mean")  # fmt: skip
    for place, one in enumerate(tops):
        colour = BLUE if one.verdict.endswith("is better") else GREY
        right.errorbar(one.over_videos.value, place, xerr=error_bars([one.over_videos]), fmt="o",
                       color=colour, capsize=4, markersize=6)  # fmt: skip
        if one.over_runs:
            right.plot([one.over_runs.low, one.over_runs.high], [place + 0.18] * 2, color=colour,
                       linewidth=1, linestyle=":")  # fmt: skip
        right.annotate(printable(one.verdict), (one.over_videos.value, place), xytext=(0, 7),
                       textcoords="offset points", ha="center", fontsize=8,
                       parse_math=False)  # fmt: skip
    right.axvline(0, color="black", linewidth=0.8)
    dotted = "; dotted: over the runs" if any(one.over_runs for one in tops) else ""
    names = [f"{_shortened(one.second)}\nagainst {_shortened(one.first)}" for one in tops]
    right.set_yticks(range(len(tops)), names, fontsize=8, parse_math=False)
    right.set(ylim=(len(tops) - 0.5, -0.6), xlabel=f"difference in top-1 accuracy (points){dotted}",
              title=f"Difference, {100 * comparison.level:.3g} % intervals over the videos"
              )  # fmt: skip
    right.margins(x=0.2)
    for axis in (left, right):
        axis.grid(axis="x", alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def _draw_scores(axis, place: int, one: Scores) -> None:
    value = one.top1.mean()
    if one.interval:
        axis.errorbar(value, place, xerr=error_bars([one.interval]), fmt="o", color=BLUE, capsize=4)
    else:
        axis.scatter(one.top1, [place] * len(one.top1), s=18, color=BLUE, alpha=0.5)
        axis.plot(value, place, marker="|", markersize=16, color=BLUE, markeredgewidth=2)
    axis.annotate(f"{value:.1f}", (value, place), xytext=(0, 10), fontsize=8,
                  textcoords="offset points", ha="center")  # fmt: skip


def draw_changes(changes: Sequence[ClassChange], first: str, second: str, path: Path) -> None:
    """Draw the videos that each class gains and loses, for the classes that change most."""
    from matplotlib.figure import Figure

    shown = [one for one in changes if one.net > 0][:SHOWN]
    shown += [one for one in changes if one.net < 0][-SHOWN:]
    figure = Figure(figsize=(8.5, 1.7 + 0.27 * max(1, len(shown))), layout="constrained")
    axis = figure.subplots()
    at = np.arange(len(shown))
    axis.barh(at, [one.gained for one in shown], 0.6, color=BLUE,
              label=f"right only with {_shortened(second)}")  # fmt: skip
    axis.barh(at, [-one.lost for one in shown], 0.6, color=ORANGE,
              label=f"right only with {_shortened(first)}")  # fmt: skip
    axis.axvline(0, color="black", linewidth=0.8)
    names = [f"{_shortened(one.name)} ({one.videos})" for one in shown]
    axis.set_yticks(at, names, fontsize=9, parse_math=False)
    axis.set(ylim=(max(1, len(shown)) - 0.5, -0.5), xlabel="videos",
             title="Classes that change most (number of videos)")  # fmt: skip
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.xaxis.set_major_formatter(lambda number, _: f"{abs(number):g}")
    axis.margins(x=0.1)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.grid(axis="x", alpha=0.3)
    legend = figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    figure.savefig(path, dpi=110)


def _shortened(name: str) -> str:
    name = printable(name)
    return name if len(name) <= LONGEST else f"...{name[3 - LONGEST :]}"
