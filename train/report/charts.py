"""Charts of the report: lines and stacked areas as svg, the confusion matrix as svg or png."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from train.report.page import escaped, picture

COLOURS = ("#4878a8", "#d1701f", "#3a8a3f", "#a04a9a", "#8c6d31", "#777777")
WIDTH, HEIGHT = 320, 150  # of a chart, in units of which text is 11 high
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 8, 20
MARKED = 40  # points of a line up to which each has a marker
DENSE = 300  # points from which a line is thin
NAMED = 40  # classes up to which a confusion matrix has numbers
CELL = 16
PIXELS = 700  # about the side of the picture of a larger matrix


class Axis(NamedTuple):
    """Maps numbers to places along one side of a chart."""

    low: float
    high: float
    ticks: list[float]
    log: bool
    first: float  # place of `low`
    last: float

    def place(self, value: float) -> float:
        """Return where a number is drawn."""
        low, high, value = (self._scaled(v) for v in (self.low, self.high, value))
        return self.first + (value - low) / ((high - low) or 1) * (self.last - self.first)

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.log else value


def axis_for(
    values: Iterable[float], first: float, last: float, *, log: bool = False, whole: bool = False
) -> Axis:
    """Return an axis over the finite `values`; up to four are the ticks, else round numbers are.

    `log` needs positive values. `whole` has ticks at whole numbers only.
    """
    found = sorted({v for v in values if math.isfinite(v) and (v > 0 or not log)})
    if not found:
        return Axis(0, 1, [0, 1], False, first, last)
    if len(found) == 1:
        (only,) = found
        margin = max(abs(only) / 2, 0.5)
        # half of the smallest number is 0, which has no logarithm
        low, high = (only / 2 or only, only * 2) if log else (only - margin, only + margin)
        return Axis(low, high, [only], log, first, last)
    low, high = found[0], found[-1]
    if len(found) <= 4:
        ticks = found
    elif log:
        powers = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
        ticks = [10.0**power for power in powers] or [low, high]
    else:
        ticks = round_numbers(low, high, whole=whole)
    return Axis(low, high, ticks, log, first, last)


def round_numbers(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Return about four round numbers from `low` to `high`: multiples of 1, 2 or 5 times 10^n."""
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (factor * step) <= 5)
    step = max(1.0, step) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def line_chart(
    title: str,
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    log: bool = False,
    steps: bool = False,
    until: float | None = None,
) -> str:
    """Return a figure with lines over the epochs; a line has gaps where it is not finite.

    Args:
        title: caption of the figure.
        lines: by name, the epochs and the values of each. With `steps` there is one epoch more than
            there are values: a value holds from one epoch to the next.
        log: logarithmic values.
        steps: draw stairs.
        until: the last finished epoch, to mark.
    """
    x_axis = axis_for([x for xs, _ in lines.values() for x in xs], LEFT, WIDTH - RIGHT, whole=True)
    y_axis = axis_for([y for _, ys in lines.values() for y in ys], HEIGHT - BOTTOM, TOP, log=log)
    shapes = _grid(x_axis, y_axis)
    if until is not None:
        x = x_axis.place(until)
        shapes.append(
            f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="currentColor" '
            f'stroke-dasharray="3 3"><title>epoch {until:g}</title></path>'
        )
    for (name, (xs, ys)), colour in zip(lines.items(), _colours(len(lines)), strict=True):
        for xs_, ys_ in _runs(xs, ys, log=log, steps=steps):
            points = " ".join(
                f"{x_axis.place(x):.1f},{y_axis.place(y):.1f}"
                for x, y in zip(xs_, ys_, strict=True)
            )
            dense = ' stroke-width="0.5"' if len(xs_) > DENSE else ""
            shapes.append(f'<polyline points="{points}" fill="none" stroke="{colour}"{dense}/>')
            if not steps and (len(xs) <= MARKED or len(xs_) == 1):
                shapes += [
                    f'<circle cx="{x_axis.place(x):.1f}" cy="{y_axis.place(y):.1f}" r="2.2" '
                    f'fill="{colour}"><title>{escaped(name)}, epoch {x:g}: {y:.6g}</title></circle>'
                    for x, y in zip(xs_, ys_, strict=True)
                ]
    return _figure(title, shapes, list(lines))


def stacked_chart(title: str, epochs: Sequence[float], parts: Mapping[str, Sequence[float]]) -> str:
    """Return a figure with a column for each epoch, of `parts` on top of each other."""
    heights = np.nan_to_num(np.array(list(parts.values()), np.float64)).clip(0)  # (parts, epochs)
    tops = np.vstack([np.zeros(len(epochs)), heights.cumsum(0)])
    x_axis = axis_for(
        [epochs[0] - 0.5, epochs[-1] + 0.5], LEFT, WIDTH - RIGHT
    )._replace(ticks=axis_for(epochs, 0, 1, whole=True).ticks)  # fmt: skip
    y_axis = axis_for([0, *np.linspace(0, tops.max() or 1, 6)], HEIGHT - BOTTOM, TOP)
    shapes = _grid(x_axis, y_axis)
    for number, colour in enumerate(_colours(len(parts))):
        upper = [(e + side, tops[number + 1, i]) for i, e in enumerate(epochs) for side in HALVES]
        lower = [(e + side, tops[number, i]) for i, e in enumerate(epochs) for side in HALVES]
        points = " ".join(
            f"{x_axis.place(x):.1f},{y_axis.place(y):.1f}" for x, y in [*upper, *lower[::-1]]
        )
        shapes.append(f'<polygon points="{points}" fill="{colour}"/>')
    return _figure(title, shapes, list(parts))


HALVES = (-0.5, 0.5)


def _runs(
    xs: Sequence[float], ys: Sequence[float], *, log: bool, steps: bool
) -> list[tuple[list[float], list[float]]]:
    """Cut a line at values that cannot be drawn, and return the pieces."""
    if steps:
        xs = [x for pair in itertools.pairwise(xs) for x in pair]
        ys = [y for y in ys for _ in range(2)]
    found: list[tuple[list[float], list[float]]] = [([], [])]
    for x, y in zip(xs, ys, strict=True):
        if math.isfinite(y) and (y > 0 or not log):
            found[-1][0].append(x)
            found[-1][1].append(y)
        elif found[-1][0]:
            found.append(([], []))
    return [run for run in found if run[0]]


def _colours(number: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(number)]


def _grid(x_axis: Axis, y_axis: Axis) -> list[str]:
    shapes = []
    for tick in y_axis.ticks:
        y = y_axis.place(tick)
        shapes.append(
            f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="var(--line)"/>'
            f'<text x="{LEFT - 4}" y="{y + 4:.1f}" text-anchor="end">{label(tick)}</text>'
        )
    for tick in x_axis.ticks:
        x = x_axis.place(tick)
        shapes.append(f'<text x="{x:.1f}" y="{HEIGHT - 5}" text-anchor="middle">{tick:.4g}</text>')
    return shapes


def label(number: float) -> str:
    """Return a number as short text."""
    words = f"{number:.4g}"
    return words if len(words) <= 6 else f"{number:.2g}"


def _figure(title: str, shapes: Sequence[str], names: Sequence[str]) -> str:
    legend = "".join(
        f'<span><i style="background:{colour}"></i>{escaped(name)}</span>'
        for name, colour in zip(names, _colours(len(names)), strict=True)
    )
    legend = f'<div class="legend">{legend}</div>' if len(names) > 1 else ""
    return (
        f"<figure><figcaption>{escaped(title)}</figcaption>{legend}"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escaped(title)}" '
        f'stroke-width="1.5"><g>{"".join(shapes)}</g></svg></figure>'
    )


def sparkline(values: Sequence[float]) -> str:
    """Return a small line without axes, of values from 0 to 1."""
    points = [
        f"{100 * i / max(1, len(values) - 1):.1f},{19 - 18 * value:.1f}"
        for i, value in enumerate(values)
        if math.isfinite(value)
    ]
    points = points * 2 if len(points) == 1 else points
    return (
        '<svg viewBox="0 0 100 20" preserveAspectRatio="none"><polyline fill="none" '
        f'stroke="var(--bar)" points="{" ".join(points)}"/></svg>'
    )


def confusion_figure(matrix: np.ndarray, classes: Sequence[str]) -> str:
    """Draw the confusion matrix, each row divided by its sum; a small one also shows the counts.

    Args:
        matrix: int64 (classes, classes), clips by label (row) and predicted class (column).
        classes: their names.
    """
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    if len(classes) > NAMED:
        grey = (255 - np.rint(255 * np.sqrt(shares))).astype(np.uint8)  # the root shows small ones
        times = max(1, round(PIXELS / len(classes)))
        grey = grey.repeat(times, 0).repeat(times, 1)
        _, content = cv2.imencode(".png", grey)
        title = f"rows: labels, columns: predictions, {len(classes)} classes in their order"
        image = picture(content.tobytes(), "png", alt="confusion matrix")
        return f'<figure class="confusion"><figcaption>{title}</figcaption>{image}</figure>'
    side = CELL * len(classes)
    cells = [
        f'<rect x="{CELL * column}" y="{CELL * row}" width="{CELL}" height="{CELL}" '
        f'style="fill-opacity:{0.08 + 0.92 * shares[row, column]:.2f}"><title>'
        f"{escaped(classes[row])} predicted as {escaped(classes[column])}: {matrix[row, column]}"
        "</title></rect>"
        f'<text x="{CELL * column + CELL / 2:g}" y="{CELL * row + 11}" text-anchor="middle"'
        f' style="font-size:8px{";fill:#fff" if shares[row, column] > 0.5 else ""}">'
        f"{matrix[row, column]}</text>"
        for row, column in np.argwhere(matrix > 0).tolist()
    ]
    numbers = [
        f'<text x="-3" y="{CELL * i + 11}" text-anchor="end" style="font-size:8px">{i + 1}</text>'
        f'<text x="{CELL * i + CELL / 2:g}" y="-4" text-anchor="middle" style="font-size:8px">'
        f"{i + 1}</text>"
        for i in range(len(classes))
    ]
    named = "".join(f"<li>{escaped(name)}</li>" for name in classes)
    return (
        '<figure class="confusion"><figcaption>rows: labels, columns: predictions</figcaption>'
        f'<svg viewBox="-18 -16 {side + 19} {side + 17}" role="img" aria-label="confusion matrix" '
        f'style="max-width:{max(14, 2.2 * len(classes)):g}rem"><path d="M0 0H{side}V{side}H0Z" '
        f'fill="none" stroke="var(--line)"/>{"".join(cells + numbers)}</svg><ol>{named}</ol>'
        "</figure>"
    )
