"""What each optimiser step is: which clips, how many frames of which size, at which learning rate.

Pure arithmetic on (options, clips of the dataset): the same before a run, in it, and after a crash.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data.clips.loader import StepPlan
from train.config import Config
from train.schedule.multigrid import Part, check, even_parts, paper_parts
from train.schedule.shapes import Layout, LongShape, Shape, cut, lay_out


class Phase(NamedTuple):
    """Steps of one long-cycle shape between two changes of the learning rate's step."""

    end_epoch: int  # the last epoch with such steps
    batch: int
    frames: int
    size: int
    lr: float  # the highest of its steps
    steps: int
    clips: int  # shown, all epochs together
    share: float  # of the run's work, counted in pixels
    turns: tuple[Shape, ...]  # the short cycle's shapes


class LrCurve(NamedTuple):
    """The learning rate but for the multigrid's factor. Raises nothing.

    `steps` are the epochs after which it is multiplied by `factor`; warm-up, too, goes by epochs.
    The cosine goes by optimiser steps: the paper's coarse batches pass over half of the epochs in a
    quarter of the steps, and a cosine of epochs would leave almost no rate for the full shape.
    """

    base: float
    policy: str  # step | cosine | constant
    steps: tuple[int, ...]
    factor: float
    warmup: float  # epochs

    def level(self, epoch: int) -> int:
        """How many of the steps lie before the (1-based) epoch."""
        return sum(step < epoch for step in self.steps) if self.policy == "step" else 0

    def at(self, epoch: int, *, shown: float, progress: float) -> float:
        """The rate of a step before which a `progress` of all steps is done, from 0 to 1.

        `shown`: how much of the (1-based) epoch's clips has been shown after it, from 0 to 1.
        """
        lr = self.base * self.factor ** self.level(epoch)
        if self.policy == "cosine":
            lr *= 0.5 * (1 + math.cos(math.pi * progress))
        if self.warmup > 0:
            lr *= min(1.0, (epoch - 1 + shown) / self.warmup)
        return lr


@dataclass(frozen=True)
class Schedule:
    """A run's steps, numbered from 0. Epochs are numbered from 1, as everywhere.

    Make one with `make_schedule`. It pickles, and so does its method `plan`.
    """

    n_clips: int
    full: Shape
    baseline_epochs: int  # of a run without multigrid
    shapes: tuple[LongShape, ...]
    curve: LrCurve
    layouts: tuple[Layout, ...]
    layout_of: np.ndarray  # int64 (epochs,): number of the epoch's layout
    ends: np.ndarray  # int64: the last epochs of the policy's parts
    first_step: np.ndarray  # int64 (epochs + 1,)

    @property
    def epochs(self) -> int:
        """How many epochs the run has; each shows every clip exactly once."""
        return len(self.layout_of)

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return int(self.first_step[-1])

    def epoch_of(self, step: int) -> int:
        """The epoch of a step. Raises IndexError where the run has no such step."""
        if not 0 <= step < self.total_steps:
            raise IndexError(f"step {step} of a run of {self.total_steps} steps")
        return int(np.searchsorted(self.first_step, step, side="right"))

    def epoch_steps(self, epoch: int) -> range:
        """The steps of an epoch. Raises IndexError where the run has no such epoch."""
        if not 1 <= epoch <= self.epochs:
            raise IndexError(f"epoch {epoch} of a run of {self.epochs} epochs")
        return range(int(self.first_step[epoch - 1]), int(self.first_step[epoch]))

    def layout(self, epoch: int) -> Layout:
        """The steps of an epoch, as arrays."""
        return self.layouts[self.layout_of[epoch - 1]]

    def plan(self, step: int) -> StepPlan:
        """A step's clips and their shape; `stretch` is how many times fewer frames they have."""
        epoch = self.epoch_of(step)
        layout, i = self.layout(epoch), step - int(self.first_step[epoch - 1])
        frames = int(layout.frames[i])
        return StepPlan(
            epoch,
            int(layout.start[i]),
            int(layout.batch[i]),
            frames,
            int(layout.size[i]),
            self.full.frames / frames,
        )

    def lr(self, step: int) -> float:
        """A step's learning rate: base x step or cosine factor x warm-up x its batch's factor."""
        epoch = self.epoch_of(step)
        layout, i = self.layout(epoch), step - int(self.first_step[epoch - 1])
        shown = int(layout.start[i] + layout.batch[i]) / self.n_clips
        factor = float(layout.lr[i])
        return factor * self.curve.at(epoch, shown=shown, progress=step / self.total_steps)

    def row(self, step: int) -> int:
        """Which long shape (of `shapes`) a step belongs to."""
        epoch = self.epoch_of(step)
        return int(self.layout(epoch).row[step - int(self.first_step[epoch - 1])])

    def work(self) -> int:
        """Pixels of all clips of all steps."""
        works = [int((lay.batch * lay.frames * lay.size**2).sum()) for lay in self.layouts]
        return sum(works[number] for number in self.layout_of)

    def baseline_work(self) -> int:
        """Pixels of all clips of a run without multigrid."""
        return self.baseline_epochs * Shape(self.n_clips, *self.full[1:]).work

    def baseline_steps(self) -> int:
        """Steps of a run without multigrid."""
        return self.baseline_epochs * len(cut(self.n_clips, [self.full.batch]))

    def phases(self) -> list[Phase]:
        """The run as a table: a row for each long shape of epochs of equal lr step and shapes."""
        work = self.work()
        phases: list[Phase] = []
        for first, last in self._blocks():
            for row in dict.fromkeys(self.layout(first).row.tolist()):
                phases.append(self._phase(first, last, row, work))
        return phases

    def _blocks(self) -> list[tuple[int, int]]:
        # runs of epochs of the same part and the same step of the learning rate
        keys = [
            (self.curve.level(epoch), int(np.searchsorted(self.ends, epoch)))
            for epoch in range(1, self.epochs + 1)
        ]
        changes = [0, *(e for e in range(1, self.epochs) if keys[e] != keys[e - 1]), self.epochs]
        return [(a + 1, b) for a, b in itertools.pairwise(changes)]

    def _phase(self, first: int, last: int, row: int, work: int) -> Phase:
        steps = clips = pixels = 0
        highest, largest = 0.0, 0
        for epoch in range(first, last + 1):
            lay = self.layout(epoch)
            own = np.flatnonzero(lay.row == row)
            steps += len(own)
            clips += int(lay.batch[own].sum())
            pixels += int((lay.batch[own] * lay.frames[own] * lay.size[own] ** 2).sum())
            ends = int(self.first_step[epoch - 1]) + own[[0, -1]]
            highest = max(highest, *(self.lr(int(step)) for step in ends))
            largest = max(largest, int(lay.batch[own].max()))
        shape = self.shapes[row]
        main = Shape(min(shape.main.batch, largest), *shape.main[1:])
        return Phase(last, *main, highest, steps, clips, pixels / work, shape.turns)

    def batch_range(self) -> tuple[int, int]:
        """The numbers of clips of the smallest and of the largest step."""
        return (
            min(int(lay.batch.min()) for lay in self.layouts),
            max(int(lay.batch.max()) for lay in self.layouts),
        )

    def largest_shapes(self) -> list[StepPlan]:
        """For each (frames, size), the step with the largest batch; most pixels first."""
        largest: dict[tuple[int, int], int] = {}
        for lay in self.layouts:
            for batch, frames, size in zip(
                lay.batch.tolist(), lay.frames.tolist(), lay.size.tolist(), strict=True
            ):
                largest[frames, size] = max(batch, largest.get((frames, size), 0))
        shapes = [Shape(batch, *clip) for clip, batch in largest.items()]
        return [
            StepPlan(1, 0, *shape, self.full.frames / shape.frames)
            for shape in sorted(shapes, key=lambda shape: (-shape.work, shape))
        ]


def make_schedule(config: Config, n_clips: int) -> Schedule:
    """The schedule of a run on `n_clips` clips, the same for any number of devices.

    ``--multigrid epoch`` cuts each epoch's clips into four equal quarters, one a long shape. Equal
    in clips, not in steps: with as many clips at the full shape as at any other, the finest
    quarter has over half of the steps. In equal steps, the coarsest shape would take 8/15 of the
    clips, and a dataset of some thousand clips would get a dozen updates an epoch. A dataset of
    fewer than four batches has fewer parts, the finest ones; the first has the epoch's full rate.

    ``--multigrid paper`` follows Wu et al. (arXiv 1912.00998). Its long cycles end where the
    learning rate steps (`--lr-steps`), whatever the rate does there; phases that would have no
    epoch are left out.

    With both, a step has between half of and one and a half times its shape's batch (see `cut`).
    Where all the clips that a shape gets in an epoch are fewer than half of its batch, they make
    one step, and its learning rate is multiplied by what `rate` says for so small a batch.

    Raises:
        TrainError: the options cannot make a schedule; the message says which and why.
    """
    check(config, n_clips)
    if config.multigrid == "paper" and config.long_cycles:
        shapes, parts, lr_steps = paper_parts(config)
    else:
        shapes, parts, lr_steps = even_parts(config, n_clips)
    curve = LrCurve(
        config.lr_base,
        config.lr_policy,
        tuple(sorted(lr_steps)),
        config.lr_factor,
        config.warmup_epochs,
    )
    layouts, layout_of = _lay_out_epochs(config, shapes, parts, n_clips)
    steps = np.array([len(layouts[number].start) for number in layout_of])
    return Schedule(
        n_clips=n_clips,
        full=Shape(config.batch_size, config.clip_length, config.clip_size),
        baseline_epochs=config.end_epoch,
        shapes=tuple(shapes),
        curve=curve,
        layouts=tuple(layouts),
        layout_of=np.array(layout_of),
        ends=np.array([part.end for part in parts]),
        first_step=np.concatenate([[0], np.cumsum(steps)]),
    )


def _lay_out_epochs(
    config: Config, shapes: Sequence[LongShape], parts: Sequence[Part], n_clips: int
) -> tuple[list[Layout], list[int]]:
    # Epochs of one row carry the short cycle on from the epoch before, else a dataset of one step
    # an epoch would only ever see the cycle's first shape. Equal epochs share one layout.
    layouts: dict[tuple[int | None, int], Layout] = {}
    numbers: list[int] = []
    begin = 0
    for part in parts:
        first = 0
        for _ in range(begin, part.end):
            key = (part.row, first)
            if key not in layouts:
                rows = _rows_of_epoch(shapes, part.row, n_clips)
                layouts[key] = lay_out(config, rows, first=first)
            numbers.append(list(layouts).index(key))
            if part.row is not None:
                first = (int(layouts[key].turn[-1]) + 1) % len(shapes[part.row].turns)
        begin = part.end
    return list(layouts.values()), numbers


def _rows_of_epoch(
    shapes: Sequence[LongShape], row: int | None, n_clips: int
) -> list[tuple[int, LongShape, int]]:
    if row is not None:
        return [(row, shapes[row], n_clips)]
    bounds = [round(i * n_clips / len(shapes)) for i in range(len(shapes) + 1)]
    return [(i, shape, bounds[i + 1] - bounds[i]) for i, shape in enumerate(shapes)]
