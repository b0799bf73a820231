"""Draw the scores of a long video over time, its segments and some of its frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.store import FrameStore
from run.predicting.segments import UNKNOWN, Segment
from run.predicting.timeline import Timeline
from run.worker_pool import printable

#: Colours that can be told apart, of the classes with the most time (Okabe and Ito, 2008, and
#: three more).
COLOURS = (
    *("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#8c6d31", "#5b3f8c"),
    *("#a6c34c", "#444444"),
)
OTHER, NOTHING = "#999999", "#e4e4e4"  # classes with less time, and UNKNOWN
PICTURES = 12  # frames of the video in the picture
PIXELS = 128  # short side of these frames


def colours_of(segments: Sequence[Segment]) -> dict[str, str]:
    """Return the colour of each name of a segment, by name; names with the most time come first."""
    seconds: dict[str, float] = {}
    for segment in segments:
        seconds[segment.name] = seconds.get(segment.name, 0) + segment.end - segment.start
    seconds.pop(UNKNOWN, None)
    ranked = sorted(seconds, key=lambda name: (-seconds[name], name))
    colours = {name: COLOURS[i] if i < len(COLOURS) else OTHER for i, name in enumerate(ranked)}
    return {**colours, UNKNOWN: NOTHING}


def clock(seconds: float) -> str:
    """Return seconds as minutes and seconds, such as 2:05.5."""
    minutes, rest = divmod(round(seconds * 10), 600)
    return f"{minutes}:{rest // 10:02d}" + (f".{rest % 10}" if rest % 10 else "")


def draw_timeline(
    path: Path,
    timeline: Timeline,
    segments: Sequence[Segment],
    store: FrameStore,
    classes: Sequence[str],
    *,
    threshold: float,
    title: str,
) -> None:
    """Draw some frames, the scores of the classes below them, and the segments at the bottom."""
    from matplotlib.figure import Figure  # takes a second to import

    colours, end = colours_of(segments), float(timeline.edges[-1])
    figure = Figure(figsize=(13, 5), layout="constrained")
    figure.get_layout_engine().set(wspace=0.01, w_pad=0.02)
    grid = figure.add_gridspec(3, PICTURES, height_ratios=(1.2, 2.6, 0.5))
    moments = (np.arange(PICTURES) + 0.5) * end / PICTURES
    times = store.times()
    for column, moment in enumerate(moments):
        axis = figure.add_subplot(grid[0, column])
        number = max(0, int(np.searchsorted(times, moment, side="right")) - 1)
        axis.imshow(store.read_at_least([number], PIXELS)[0], interpolation="bilinear")
        axis.set_title(clock(moment), fontsize=8, pad=3)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    axis = figure.add_subplot(grid[1, :])
    middles = (timeline.edges[:-1] + timeline.edges[1:]) / 2
    for name, colour in reversed(colours.items()):
        if name in classes and colour != OTHER:
            scores = timeline.scores[:, classes.index(name)]
            axis.plot(middles, scores, color=colour, linewidth=1.6, label=printable(name))
    axis.axhline(threshold, color="black", linewidth=0.8, linestyle=":")
    axis.set(xlim=(0, end), ylim=(0, 1.02))
    axis.set_ylabel("score", fontsize=9)
    axis.tick_params(labelsize=8, labelbottom=False)
    axis.spines[["top", "right"]].set_visible(False)
    strip = figure.add_subplot(grid[2, :], sharex=axis)
    for segment in segments:
        width = segment.end - segment.start
        strip.axvspan(segment.start, segment.end, color=colours[segment.name], linewidth=0)
        text = printable(segment.name)
        if width / end * 160 > len(text):  # it fits
            dark = segment.name != UNKNOWN
            strip.text(
                segment.start + width / 2, 0.5, text, ha="center", va="center", fontsize=8,
                color="white" if dark else "black", parse_math=False, clip_on=True,
            )  # fmt: skip
    strip.set(ylim=(0, 1), yticks=[])
    strip.tick_params(labelsize=8, labelbottom=True)
    strip.xaxis.set_major_formatter(lambda value, _: clock(value))
    strip.spines[:].set_visible(False)
    lines, names = axis.get_legend_handles_labels()
    if lines:
        axis.legend(
            lines[::-1], names[::-1], fontsize=8, frameon=False, loc="upper left",
            bbox_to_anchor=(1, 1),
        )  # fmt: skip
    figure.suptitle(f"{title}, {clock(end)}", x=0.01, ha="left", fontsize=10, parse_math=False)
    figure.savefig(path, dpi=100)
