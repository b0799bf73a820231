"""The multigrid policies: which epochs use which batch sizes and clip shapes.

Multigrid trains on many small clips first and on few large ones last: "A Multigrid Method for
Efficiently Training Video Models", Wu et al., arXiv 1912.00998.
"""

from __future__ import annotations

import logging
import math
from typing import NamedTuple

import numpy as np

from train.config import SMALLEST_SIDE, Config
from train.schedule.learning_rate import batch_size_factor

log = logging.getLogger(__name__)

# where the long cycles end without --lr-steps, as a part of all epochs: the paper's own 196 of 239
LONG_CYCLES_END = 196 / 239


class Shape(NamedTuple):
    """A batch: its clips, the frames of a clip, the height and width of a frame in pixels."""

    batch: int
    frames: int
    size: int


class Phase(NamedTuple):
    """A range of the run's clips whose steps repeat the shapes of one short cycle.

    Clips are counted through all epochs. Phases with the same range share each epoch.
    """

    shape: Shape  # of the long cycle; also one of `short_cycle`
    short_cycle: tuple[Shape, ...]  # the shapes of successive steps, then from the start again
    lr_factor: float
    begin: int = 0  # clips of the run before its first step
    end: int = 0  # clips of the run until after its last step

    @property
    def mean_batch(self) -> float:
        """Clips of a step, averaged over the short cycle."""
        return sum(shape.batch for shape in self.short_cycle) / len(self.short_cycle)


def multigrid_phases(
    config: Config, n_clips: int, *, total: int | None = None
) -> tuple[list[Phase], list[int]]:
    """Return the phases of a run, and the numbers of clips after which the learning rate falls.

    Phases with the same range share the clips of each epoch evenly. All others follow one another.

    Args:
        config: the options.
        n_clips: clips of an epoch.
        total: clips of a run that was planned anew, by default those of all epochs. Only then may
            a phase of ``--multigrid paper`` end within an epoch.

    ``--multigrid epoch`` divides the clips of each epoch evenly among the shapes of the long cycle.
    The full shape then has over half of the steps. If the steps were divided evenly instead, the
    smallest of four shapes would use 8/15 of the clips, and a dataset of some thousand clips would
    get a dozen updates per epoch. A dataset with fewer full batches than shapes uses only the
    finest shapes, and the first of them has the full learning rate.

    ``--multigrid paper`` is the schedule of Wu et al., see `_paper_phases`.
    """
    end = config.end_epoch * n_clips if total is None else total
    lr_steps = [step * n_clips for step in config.lr_steps]
    if config.multigrid == "off" or not (config.long_cycles or config.short_cycles):
        full = Shape(config.batch_size, config.clip_length, config.clip_size)
        return [Phase(full, (full,), 1.0, end=end)], lr_steps
    if config.multigrid == "epoch":
        phases = _epoch_long_cycle(config)[-max(1, n_clips // config.batch_size) :]
        first = phases[0].lr_factor
        phases = [phase._replace(lr_factor=phase.lr_factor / first, end=end) for phase in phases]
        return phases, lr_steps
    if config.long_cycles:
        return _paper_phases(config, n_clips, total)
    lr_steps = [step * config.multigrid_epochs for step in config.lr_steps]
    if total is None:
        end = max(1, round(config.end_epoch * config.multigrid_epochs)) * n_clips
        lr_steps = [int(step) for step in lr_steps]
    lr_steps = [round(step * n_clips) for step in lr_steps]
    return [paper_long_cycle(config)[0]._replace(end=end)], lr_steps


def _paper_phases(config: Config, n_clips: int, total: int | None) -> tuple[list[Phase], list[int]]:
    """Return the phases and the learning rate's steps of Wu et al., stretched to the run's epochs.

    There is a long cycle before each of `--lr-steps`, and fine-tuning at the full shape after the
    last. The phases of a long cycle have equally many steps, so their clips are in proportion to
    their mean batch. Multigrid divides the steps of the long cycles by some factor; those of
    fine-tuning are divided by the same factor. In total there are `--multigrid-epochs` times the
    epochs. The ends of the phases are rounded to whole epochs, or to clips if there is a `total`.
    Phases without an epoch are left out, or with a `total` those without half a batch.
    """
    cycle = paper_long_cycle(config)
    cycle_ends = [step for step in config.lr_steps if step < config.end_epoch]
    rate_steps = bool(cycle_ends)
    longest = LONG_CYCLES_END * config.end_epoch
    if total is None:
        longest = min(config.end_epoch, max(1, round(longest)))
    cycle_ends = cycle_ends or [longest]

    weights = np.array([phase.mean_batch for phase in cycle]) / config.batch_size
    lengths = np.outer(np.diff([0, *cycle_ends]), weights / weights.sum()).ravel()  # in epochs
    times_fewer_steps = weights.sum() / len(cycle)
    fine_tuning = (config.end_epoch - cycle_ends[-1]) / times_fewer_steps * weights[-1]
    lengths = np.append(lengths, fine_tuning)

    stretch = config.end_epoch * config.multigrid_epochs / lengths.sum()
    ends = (np.cumsum(lengths) * stretch).tolist()  # in epochs
    phases = [*cycle] * len(cycle_ends) + [cycle[-1]]
    whole_epochs = total is None
    if total is None:
        total = max(1, round(ends[-1])) * n_clips
        ends = [round(end) * n_clips for end in ends]
    else:
        ends = [
            _end_of_phase(round(end * n_clips), n_clips, phase.shape.batch)
            for end, phase in zip(ends, phases, strict=True)
        ]
    # fine-tuning has at least an epoch, or a batch
    least = n_clips if whole_epochs else min(total, config.batch_size)
    ends = [*(min(end, total - least) for end in ends[:-1]), total]
    kept: list[Phase] = []
    for phase, end in zip(phases, ends, strict=True):
        begin = kept[-1].end if kept else 0
        fewest = n_clips if whole_epochs else max(1, phase.shape.batch // 2)
        if end == total or end - begin >= fewest:
            kept.append(phase._replace(begin=begin, end=end))
    if len(kept) < len(phases):
        log.warning(
            "multigrid: %d of %d phases would have no %s in %.4g epochs and are left out",
            len(phases) - len(kept),
            len(phases),
            "epoch" if whole_epochs else "batch",
            total / n_clips,
        )
    lr_steps = ends[:-1][len(cycle) - 1 :: len(cycle)]  # the end of each long cycle, but ...
    # ... the last step is halfway through fine-tuning
    unit = n_clips if whole_epochs else 1
    lr_steps[-1] += (total - lr_steps[-1]) // unit // 2 * unit
    return kept, lr_steps if rate_steps else []


def _end_of_phase(end: int, n_clips: int, batch: int) -> int:
    """Return `end`, or the nearest end of an epoch if that is less than half a batch away."""
    epoch_end = round(end / n_clips) * n_clips
    return epoch_end if abs(end - epoch_end) < batch // 2 else end


def _epoch_long_cycle(config: Config) -> list[Phase]:
    """Return the original code's long cycle, from the smallest clips to the full shape.

    In the short cycle, a step of shape (batch b, size s) is followed by (2b, s/sqrt 2) and (4b,
    s/2). The first phase has the full learning rate, the others have less.
    """
    divisors = _long_cycle_divisors(config)
    short = [1, *sorted(config.multigrid_short)] if config.short_cycles else [1]
    largest = math.prod(divisors[0])
    return [
        Phase(
            scaled_shape(config, time, area),
            tuple(scaled_shape(config, time, area * divisor) for divisor in short),
            batch_size_factor(config, time * area / largest),
        )
        for time, area in divisors
    ]


def paper_long_cycle(config: Config) -> list[Phase]:
    """Return the long cycle's phases of Wu et al., from the smallest clips to the full shape.

    By default, the short cycle has three sizes: 1/2 of the full size, 1/sqrt(2) of it, and the size
    of the current phase. The learning rate of the last phase is that of the full shape.
    """
    short = sorted(config.multigrid_short, reverse=True) if config.short_cycles else []
    return [
        Phase(
            scaled_shape(config, time, area),
            tuple(scaled_shape(config, time, divisor) for divisor in [*short, area]),
            batch_size_factor(config, time * area),
        )
        for time, area in _long_cycle_divisors(config)
    ]


def _long_cycle_divisors(config: Config) -> list[tuple[float, float]]:
    if not config.long_cycles:
        return [(1, 1)]
    divisors = zip(config.multigrid_frames, config.multigrid_areas, strict=True)
    return [_possible(config, time, area) for time, area in divisors]


def _possible(config: Config, time: float, area: float) -> tuple[float, float]:
    """Lower the divisors of clip length and clip area until 1 frame and 16 pixels a side remain."""
    return min(time, config.clip_length), min(area, (config.clip_size / SMALLEST_SIDE) ** 2)


def scaled_shape(config: Config, time: float, area: float) -> Shape:
    """Return the full shape with `time` times fewer frames and `area` times fewer pixels a frame.

    The batch grows by the product of both, before frames and pixels are rounded.
    """
    time, area = _possible(config, time, area)
    return Shape(
        batch=int(config.batch_size * time * area + 0.5),
        frames=int(config.clip_length / time + 0.5),
        size=even_size(config.clip_size / math.sqrt(area)),
    )


def even_size(size: float) -> int:
    """Round `size` up to an even number of at least 16."""
    return max(SMALLEST_SIDE, 2 * math.ceil(size / 2 - 1e-9))
