"""The table of all steps of a run, filled before it starts.

It depends on the options and the number of clips alone, so it is the same after a crash and on any
number of devices.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.clips.loader import StepPlan
from train.config import Config
from train.schedule.learning_rate import batch_size_factor, learning_rates, lr_levels
from train.schedule.multigrid import Phase, Shape, multigrid_phases
from train.train_errors import TrainError

STEP = np.dtype(
    [
        ("epoch", np.int32),  # from 1
        ("start", np.int64),  # clips of the epoch in earlier steps
        ("batch", np.int32),
        ("frames", np.int16),
        ("size", np.int16),  # height and width in pixels
        ("phase", np.int16),  # index of the schedule phase, from 0
        ("lr", np.float64),
    ]
)
MOST_STEPS = 50_000_000  # 1.5 GB of table


@dataclass(frozen=True)
class Schedule:
    """All steps of a run, numbered from 0, in epochs numbered from 1. Made by `make_schedule`.

    Only the process that trains looks steps up: workers receive the clips that they should load.
    """

    table: np.ndarray  # of dtype STEP, (total_steps,)
    phase_shapes: tuple[Phase, ...]  # by index of the schedule phase
    n_clips: int
    full: Shape
    epochs_without_multigrid: int

    @property
    def epochs(self) -> int:
        """The number of epochs; each shows every clip exactly once."""
        return int(self.table["epoch"][-1])

    @property
    def total_steps(self) -> int:
        """The number of optimiser steps of the whole run."""
        return len(self.table)

    def epoch_steps(self, epoch: int) -> range:
        """Return the steps of an epoch. Raises IndexError if the run has no such epoch."""
        if not 1 <= epoch <= self.epochs:
            raise IndexError(f"epoch {epoch} of a run of {self.epochs} epochs")
        first, end = (
            bisect_left(self.table, number, key=lambda row: row["epoch"])
            for number in (epoch, epoch + 1)
        )
        return range(first, end)

    def plan(self, step: int) -> StepPlan:
        """Return the clips of a step and their shape. Raises IndexError if there is no such step.

        `stretch` is how many times fewer frames its clips have than the full shape.
        """
        epoch, start, batch, frames, size, _, _ = self._row(step).item()
        return StepPlan(epoch, start, batch, frames, size, self.full.frames / frames)

    def lr(self, step: int) -> float:
        """Return the learning rate of a step. Raises IndexError if there is no such step."""
        return float(self._row(step)["lr"])

    def _row(self, step: int) -> np.void:
        if not 0 <= step < self.total_steps:
            raise IndexError(f"step {step} of a run of {self.total_steps} steps")
        return self.table[step]

    def batch_range(self) -> tuple[int, int]:
        """Return the numbers of clips of the smallest and of the largest step."""
        return int(self.table["batch"].min()), int(self.table["batch"].max())

    def largest_shapes(self) -> list[StepPlan]:
        """Return the step with the largest batch for each (frames, size), most pixels first."""
        frames, size = self.table["frames"].astype(np.int64), self.table["size"]
        kinds, kind = np.unique(frames << 16 | size, return_inverse=True)
        largest = np.zeros(len(kinds), dtype=np.int64)
        np.maximum.at(largest, kind, self.table["batch"])
        shapes = [
            Shape(batch, kind >> 16, kind % 2**16)
            for batch, kind in zip(largest.tolist(), kinds.tolist(), strict=True)
        ]
        shapes.sort(key=lambda shape: (-shape.batch * shape.frames * shape.size**2, shape))
        return [StepPlan(1, 0, *shape, self.full.frames / shape.frames) for shape in shapes]

    def phases(self) -> list[dict]:
        """Summarise each schedule phase: shapes, steps, highest learning rate, share of the work.

        A phase ends where the shapes or the level of the learning rate change. `share` is its part
        of the pixels of all clips of the run.
        """
        work = work_of(self.table)
        rows = []
        for number, phase in enumerate(self.phase_shapes):
            own = self.table["phase"] == number
            steps = self.table[own]
            rows.append(
                {
                    "end_epoch": int(steps["epoch"][-1]),
                    "batch": min(phase.shape.batch, int(steps["batch"].max())),
                    "frames": phase.shape.frames,
                    "size": phase.shape.size,
                    "lr": float(steps["lr"].max()),
                    "steps": len(steps),
                    "clips": int(steps["batch"].sum()),
                    "share": float(work[own].sum() / work.sum()),
                    "short_cycle": [shape._asdict() for shape in phase.short_cycle],
                }
            )
        return rows


def work_of(steps: np.ndarray) -> np.ndarray:
    """Return the pixels of all clips and frames of each step, as float64 (steps,)."""
    return (
        steps["batch"] * steps["frames"].astype(np.float64) * steps["size"].astype(np.float64) ** 2
    )


def make_schedule(config: Config, n_clips: int) -> Schedule:
    """Fill the table of a run on `n_clips` clips, whatever the number of devices.

    See `multigrid_phases` for the policies and `cut` for the sizes of batches.

    Raises:
        TrainError: there are no clips, or too many steps.
    """
    if n_clips < 1:
        raise TrainError("the training split has no clips")
    phases, lr_steps = multigrid_phases(config, n_clips)
    epochs = phases[-1].epochs.stop - 1
    most = epochs * max(1, n_clips // config.batch_size)
    if most > MOST_STEPS:
        raise TrainError(
            f"{epochs:,} epochs of {n_clips:,} clips are up to {most:,} steps, more than the "
            f"largest schedule, {MOST_STEPS:,}: lower --end-epoch or raise --batch-size"
        )
    table = _fill_table(config, phases, n_clips)

    lr_level = lr_levels(config, lr_steps, table["epoch"])
    epochs_done = table["epoch"] - 1 + (table["start"] + table["batch"]) / n_clips
    run_done = np.arange(len(table)) / len(table)
    table["lr"] *= learning_rates(config, lr_level, epochs_done, run_done)
    # a phase in which the learning rate steps becomes two
    numbers, table["phase"] = np.unique(
        lr_level * len(phases) + table["phase"], return_inverse=True
    )
    return Schedule(
        table=table,
        phase_shapes=tuple(phases[number % len(phases)] for number in numbers),
        n_clips=n_clips,
        full=Shape(config.batch_size, config.clip_length, config.clip_size),
        epochs_without_multigrid=config.end_epoch,
    )


def _fill_table(config: Config, phases: Sequence[Phase], n_clips: int) -> np.ndarray:
    """Return the table with the factor of the batch size alone in the field `lr`."""
    epochs: list[np.ndarray] = []
    for _, group in itertools.groupby(enumerate(phases), key=lambda item: item[1].epochs):
        numbered = list(group)
        tables: dict[int, tuple[np.ndarray, int]] = {}  # equal epochs are cut only once
        position = 0
        for _ in numbered[0][1].epochs:
            if position not in tables:
                tables[position] = _epoch_table(config, numbered, n_clips, position)
            steps, after = tables[position]
            epochs.append(steps)
            # The paper's short cycle continues in the next epoch: with one step an epoch, it would
            # otherwise never get past its first shape.
            position = after if config.multigrid == "paper" else 0
    table = np.concatenate(epochs)
    table["epoch"] = np.repeat(np.arange(1, len(epochs) + 1), [len(steps) for steps in epochs])
    return table


def _epoch_table(
    config: Config, phases: Sequence[tuple[int, Phase]], n_clips: int, position: int
) -> tuple[np.ndarray, int]:
    """Return the steps of one epoch, and the position in the short cycle after the last of them.

    Args:
        config: decides how the learning rate follows the batch size.
        phases: the index of each phase and the phase; they share the clips evenly.
        n_clips: clips of the epoch.
        position: where each short cycle starts.
    """
    bounds = [round(i * n_clips / len(phases)) for i in range(len(phases) + 1)]
    tables = []
    for (number, phase), (begin, end) in zip(phases, itertools.pairwise(bounds), strict=True):
        sizes = [shape.batch for shape in phase.short_cycle]
        positions, batches = cut(end - begin, sizes, first=position)
        shapes = np.array([shape[1:] for shape in phase.short_cycle])[positions]  # (steps, 2)
        steps = np.zeros(len(batches), STEP)
        steps["batch"], steps["phase"] = batches, number
        steps["frames"], steps["size"] = shapes.T
        steps["lr"] = phase.lr_factor
        if 2 * (end - begin) < min(sizes):  # one batch, smaller than half of its shape's
            steps["lr"] *= batch_size_factor(config, (end - begin) / phase.shape.batch)
        tables.append(steps)
    table = np.concatenate(tables)
    table["start"] = np.cumsum(table["batch"]) - table["batch"]
    return table, (int(positions[-1]) + 1) % len(sizes)


def cut(clips: int, sizes: Sequence[int], *, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Cut `clips` into batches whose sizes go through the short cycle `sizes` from `first` on.

    Every batch has at least half and at most one and a half times the clips of its size: a size
    more than twice as large as the remaining clips is skipped, and a remainder too small for every
    size is added to the last batch. If `clips` is too small for every size from the start, they
    form one batch at position `first`.

    Returns:
        The position in the short cycle and the number of clips of each batch, int64 (batches,).
    """
    if 2 * clips < min(sizes):
        return np.array([first]), np.array([clips])
    sizes = [*sizes[first:], *sizes[:first]]
    whole_cycles, clips = divmod(clips, sum(sizes))
    positions, batches, after = [], [], 0
    while clips > 0:
        in_order = ((after + i) % len(sizes) for i in range(len(sizes)))
        position = next((i for i in in_order if 2 * clips >= sizes[i]), None)
        if position is None:
            break
        positions.append(position)
        batches.append(min(sizes[position], clips))
        clips -= batches[-1]
        after = position + 1
    every_position = np.tile(np.arange(len(sizes)), whole_cycles)
    every_position = np.append(every_position, np.array(positions, dtype=np.int64))
    every_batch = np.append(np.tile(sizes, whole_cycles), np.array(batches, dtype=np.int64))
    every_batch[-1] += clips
    return (every_position + first) % len(sizes), every_batch
