"""The shapes of a multigrid run and how an epoch's clips are cut into steps of those shapes.

Multigrid trains on many small clips first and on few large ones last: "A Multigrid Method for
Efficiently Training Video Models", Wu et al., arXiv 1912.00998.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from train.config import Config

SMALLEST_SIDE = 16  # what the networks take


class Shape(NamedTuple):
    """A step's clips: how many, of how many frames, how many pixels high and wide."""

    batch: int
    frames: int
    size: int

    @property
    def work(self) -> int:
        """Its clips' pixels, all frames together."""
        return self.batch * self.frames * self.size**2


class LongShape(NamedTuple):
    """One shape of the long cycle, with the shapes that the short cycle takes turns with."""

    main: Shape
    turns: tuple[Shape, ...]
    lr: float  # factor of the learning rate

    @property
    def mean_batch(self) -> float:
        """Clips of a step, on average over the turns."""
        return sum(turn.batch for turn in self.turns) / len(self.turns)


class Layout(NamedTuple):
    """The steps of one epoch, as arrays with one entry a step."""

    start: np.ndarray  # int64: clips seen before
    batch: np.ndarray  # int64
    frames: np.ndarray  # int64
    size: np.ndarray  # int64
    turn: np.ndarray  # int64: which of the long shape's turns
    row: np.ndarray  # int64: which long shape
    lr: np.ndarray  # float64: factor of the learning rate


def even_side(side: float) -> int:
    """`side` rounded up to an even number, and at least 16."""
    return max(SMALLEST_SIDE, 2 * math.ceil(side / 2 - 1e-9))


def possible(config: Config, time: float, area: float) -> tuple[float, float]:
    """How many times fewer frames and pixels a clip can have: one frame and 16 pixels are left."""
    return min(time, config.clip_length), min(area, (config.clip_size / SMALLEST_SIDE) ** 2)


def scaled(config: Config, time: float, area: float) -> Shape:
    """The full shape with `time` times fewer frames, `area` times fewer pixels and more clips.

    Clips grow by exactly what frames and pixels shrink by, before their rounding.
    """
    time, area = possible(config, time, area)
    return Shape(
        batch=int(config.batch_size * time * area + 0.5),
        frames=int(config.clip_length / time + 0.5),
        size=even_side(config.clip_size / math.sqrt(area)),
    )


def rate(config: Config, clips: float) -> float:
    """Factor of the learning rate for `clips` times larger batches: `--multigrid-lr-power` of it.

    By default in proportion for SGD (Goyal et al., Accurate, Large Minibatch SGD, 2017), and by the
    square root for AdamW, whose steps do not shrink with the gradient's noise (Malladi et al., On
    the SDEs and Scaling Rules for Adaptive Gradient Algorithms, NeurIPS 2022).
    """
    power = config.multigrid_lr_power
    if power is None:
        power = 1.0 if config.optimiser == "sgd" else 0.5
    return float(clips**power)


def full_shape(config: Config) -> LongShape:
    """Every step at the full shape, exactly as the options say it."""
    shape = Shape(config.batch_size, config.clip_length, config.clip_size)
    return LongShape(shape, (shape,), 1.0)


def epoch_policy_shapes(config: Config) -> list[LongShape]:
    """The original's shapes, coarse to fine; the learning rate falls as the batch does (`rate`).

    Steps of a shape (b, s) take turns with (2b, s/sqrt 2) and (4b, s/2).
    """
    long = _long_divisors(config)
    shorts = [1, *sorted(config.multigrid_short)] if config.short_cycles else [1]
    most = math.prod(long[0])
    return [
        LongShape(
            scaled(config, time, area),
            tuple(scaled(config, time, area * short) for short in shorts),
            rate(config, time * area / most),
        )
        for time, area in long
    ]


def paper_policy_shapes(config: Config) -> list[LongShape]:
    """The published shapes, coarse to fine; the learning rate grows with the batch (`rate`).

    Steps take turns at 1/2 and 1/sqrt 2 of the full side and at the long cycle's own.
    """
    shorts = sorted(config.multigrid_short, reverse=True) if config.short_cycles else []
    return [
        LongShape(
            scaled(config, time, area),
            tuple(scaled(config, time, short) for short in [*shorts, area]),
            rate(config, time * area),
        )
        for time, area in _long_divisors(config)
    ]


def _long_divisors(config: Config) -> list[tuple[float, float]]:
    if not config.long_cycles:
        return [(1, 1)]
    divisors = zip(config.multigrid_frames, config.multigrid_areas, strict=True)
    return [possible(config, time, area) for time, area in divisors]


def cut(clips: int, turns: Sequence[int], *, first: int = 0) -> list[tuple[int, int]]:
    """Cut `clips` into batches of the sizes in `turns`, one after the other from turn `first` on.

    No batch is smaller than half of its turn's size, and none is larger than one and a half times
    it. A turn is left out where fewer clips remain than half of its size, and where they are too
    few for every turn, they are added to the batch before. The exception is a number of clips that
    is too small for every turn from the start: it makes one batch, with the shape of turn `first`.

    Returns:
        The turn and the number of clips of each batch.
    """
    batches: list[tuple[int, int]] = []
    while clips > 0:
        in_order = [(first + i) % len(turns) for i in range(len(turns))]
        turn = next((turn for turn in in_order if 2 * clips >= turns[turn]), None)
        if turn is not None:
            batches.append((turn, min(turns[turn], clips)))
        elif batches:
            last, before = batches[-1]
            batches[-1] = (last, before + clips)
            break
        else:
            return [(first, clips)]
        clips -= batches[-1][1]
        first = turn + 1
    return batches


def lay_out(
    config: Config, rows: Sequence[tuple[int, LongShape, int]], *, first: int = 0
) -> Layout:
    """Lay out the steps of an epoch: for each row, its clips are cut into steps of its shapes.

    Args:
        config: decides how the learning rate follows the batch (see `rate`).
        rows: (number of the row, its shapes, how many of the epoch's clips it has).
        first: the turn at which the short cycle of each row begins.
    """
    parts, rates = [], []
    for number, shape, clips in rows:
        sizes = [turn.batch for turn in shape.turns]
        turns, batches = zip(*cut(clips, sizes, first=first), strict=True)
        table = np.array([turn[1:] for turn in shape.turns])[list(turns)]  # (steps, 2)
        numbers = np.full(len(batches), number)
        parts.append(np.column_stack([batches, table, turns, numbers]))
        # too few clips for any of the row's shapes: the rate of the batch that there is
        too_few = 2 * clips < min(sizes)
        lr = shape.lr * (rate(config, clips / shape.main.batch) if too_few else 1.0)
        rates.append(np.full(len(batches), lr))
    batch, frames, size, turn, row = np.concatenate(parts).T.astype(np.int64)
    return Layout(np.cumsum(batch) - batch, batch, frames, size, turn, row, np.concatenate(rates))
