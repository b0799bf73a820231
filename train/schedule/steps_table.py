"""The table of all steps of a run, filled before it starts.

It depends on the options and the number of clips alone, so it is the same after a crash and on any
number of devices.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from data.clips.loader import StepPlan
from train.config import Config
from train.schedule.epoch_table import STEP, epochs_table
from train.schedule.learning_rate import learning_rates, lr_levels
from train.schedule.multigrid_phases import Phase, Shape, multigrid_phases
from train.schedule.replanning import Part, rows_of_part
from train.train_errors import TrainError

LEVELS = 64  # more than the learning rate can have steps
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
    part: Part | None = None  # of its last steps, if the run was planned anew

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

    def is_within_first(self, epochs: float, step: int) -> bool:
        """Return whether a step is within the first `epochs` of the schedule asked for.

        If the run was compressed, so were they, see `Part.beginning`.
        """
        if self.part and self.part.is_compressed:
            done = step * self.part.epochs / self.total_steps
            return done < self.part.beginning(epochs)
        row = self._row(step)
        return bool(row["epoch"] - 1 + row["start"] / self.n_clips < epochs)

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

    See `multigrid_phases` for the policies, `train.schedule.epoch_table` for the sizes of batches
    and `Part` for `config.schedule_parts`.

    Raises:
        TrainError: there are no clips, or too many steps.
    """
    if n_clips < 1:
        raise TrainError("the training split has no clips")
    table, factors, levels = np.empty(0, STEP), np.empty(0), np.empty(0, np.int64)
    phases: list[Phase] = []
    parts = [Part(int(step), *epochs) for step, *epochs in config.schedule_parts]
    for number, part in enumerate(parts or [None]):
        own_phases, lr_steps, planned = _planned(config, n_clips, part)
        planned["phase"] += len(phases)
        phases += own_phases
        kept, added = (
            rows_of_part(table, planned, part, n_clips)
            if number
            else (np.arange(0), np.arange(len(planned)))
        )
        step = part.step if part else 0
        factors = np.concatenate([factors[kept], planned["lr"][added]])
        table = np.concatenate([table[kept], planned[added]])
        level, rates = _rates(config, table, lr_steps, n_clips, part)
        levels = np.concatenate([levels[:step], level[step:] + number * LEVELS])
        table["lr"][step:] = (factors * rates)[step:]
    # a phase in which the learning rate steps becomes two
    numbers, table["phase"] = np.unique(levels * len(phases) + table["phase"], return_inverse=True)
    return Schedule(
        table=table,
        phase_shapes=tuple(phases[number % len(phases)] for number in numbers),
        n_clips=n_clips,
        full=Shape(config.batch_size, config.clip_length, config.clip_size),
        epochs_without_multigrid=_epochs_without_multigrid(config, parts),
        part=parts[-1] if parts else None,
    )


def _epochs_without_multigrid(config: Config, parts: Sequence[Part]) -> int:
    if not parts or not parts[-1].is_compressed:
        return config.end_epoch
    return max(1, round(config.end_epoch * parts[-1].epochs / parts[-1].of_epochs))


def _planned(
    config: Config, n_clips: int, part: Part | None
) -> tuple[list[Phase], list[int], np.ndarray]:
    """Return phases, steps of the learning rate and table of a run that is planned as `part`.

    The field `lr` of the table has the factor of the batch size only.
    """
    total = None
    if part and (part.is_compressed or config.multigrid != "paper"):
        whole = math.ceil(part.epochs)
        last_clips = max(1, round((part.epochs - whole + 1) * n_clips))
        total = (whole - 1) * n_clips + last_clips
        if config.multigrid == "paper":
            epochs = total / n_clips
            steps = [step * epochs / part.of_epochs for step in config.lr_steps]
            config = replace(config, end_epoch=epochs / config.multigrid_epochs, lr_steps=steps)
        else:
            config = replace(config, end_epoch=whole)
    phases, lr_steps = multigrid_phases(config, n_clips, total=total)
    epochs = math.ceil(phases[-1].end / n_clips)
    most = epochs * max(1, n_clips // config.batch_size)
    if most > MOST_STEPS:
        raise TrainError(
            f"{epochs:,} epochs of {n_clips:,} clips are up to {most:,} steps, more than the "
            f"largest schedule, {MOST_STEPS:,}: lower --end-epoch or raise --batch-size"
        )
    return phases, lr_steps, epochs_table(config, phases, n_clips)


def _rates(
    config: Config, table: np.ndarray, lr_steps: Sequence[int], n_clips: int, part: Part | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return how often the learning rate has stepped before each step, and each step's rate.

    If the run was compressed into fewer epochs, the course of the learning rate is compressed too:
    after k of n steps the rate has fallen as often as in the whole schedule after k/n of its
    epochs. With `--multigrid paper`, the phases were compressed before, and so were the clips after
    which the rate falls. See `Part.beginning` for the warm-up.
    """
    step, run_done = np.arange(len(table)), np.arange(len(table)) / len(table)
    clips_before = (table["epoch"].astype(np.int64) - 1) * n_clips + table["start"]
    epochs_done = table["epoch"] - 1 + (table["start"] + table["batch"]) / n_clips
    warmup = config.warmup_epochs
    if part and part.is_compressed:
        warmup = part.beginning(warmup)
        epochs_done = (step + 1) * part.epochs / len(table)
        if config.multigrid != "paper":  # as many clips as the whole schedule has then had
            clips_before = (step * part.of_epochs) // len(table) * n_clips
    level = lr_levels(config, lr_steps, clips_before)
    return level, learning_rates(config, level, epochs_done, run_done, warmup)
