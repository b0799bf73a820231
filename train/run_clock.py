"""How long a run takes: the seconds of each epoch, and an estimate of the time that is left."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from data.clips.loader import StepPlan
from train.schedule.multigrid_phases import Shape
from train.schedule.steps_table import Schedule
from train.speed_monitor import SpeedReport

MEMORY = 0.95  # each step multiplies the weight of earlier steps of its shape by this
PARTS = {"reading": "r", "forward": "f", "backward": "b"}  # the names in a SpeedReport
VALIDATION_SHARE = 1 / 3  # assumed time of a validation per clip, relative to a training step


class StepTimes:
    """The seconds per clip of the training steps of each clip shape; late steps count most."""

    def __init__(self) -> None:
        # (frames, size) -> weighted sums of clips and of seconds
        self._sums: dict[tuple[int, int], tuple[float, float]] = {}

    def __bool__(self) -> bool:
        """Whether any step has been timed."""
        return bool(self._sums)

    def add(self, plan: StepPlan, seconds: float) -> None:
        """Add a step that took so long."""
        clips, before = self._sums.get((plan.frames, plan.size), (0.0, 0.0))
        self._sums[plan.frames, plan.size] = (
            clips * MEMORY + plan.batch,
            before * MEMORY + seconds,
        )

    def seconds(self, steps: np.ndarray) -> float:
        """Estimate the time of `steps`, rows of a schedule's table; NaN before the first `add`."""
        if not len(steps):
            return 0.0
        if not self._sums:
            return math.nan
        shapes = steps["frames"].astype(np.int64) << 16 | steps["size"]
        kinds, kind = np.unique(shapes, return_inverse=True)
        clips = np.bincount(kind, weights=steps["batch"])
        each = [self.seconds_a_clip(shape >> 16, shape % 2**16) for shape in kinds.tolist()]
        return float(clips @ each)

    def seconds_a_clip(self, frames: int, size: int) -> float:
        """Estimate the share of a step's time that one clip of this shape takes.

        For a shape that has not been timed, the mean time per pixel of the others is used.
        """
        if (frames, size) in self._sums:
            clips, seconds = self._sums[frames, size]
            return seconds / clips
        if not self._sums:
            return math.nan
        pixels = sum(clips * f * s**2 for (f, s), (clips, _) in self._sums.items())
        return frames * size**2 * sum(seconds for _, seconds in self._sums.values()) / pixels


class RunClock:
    """Times the steps and epochs of a run, including those before it was resumed."""

    def __init__(self, val_clips: int = 0) -> None:
        self.step_times = StepTimes()
        self._val_clips = val_clips
        self.validation = math.nan  # seconds of the last validation, NaN before the first
        self.saving = 0.0  # seconds of the last end of an epoch
        #: Seconds of the current epoch's steps that were spent on each.
        self.parts = dict.fromkeys(PARTS, 0.0)
        self._steps, self._first_counts = 0, False
        self._spent = 0.0  # seconds of earlier processes
        self._epoch_spent = 0.0  # of these, for the current epoch
        self._started = self._epoch_started = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds that the run has taken so far, those of earlier processes included."""
        return self._spent + time.monotonic() - self._started

    @property
    def epoch_seconds(self) -> float:
        """Seconds since the end of the epoch before the current one."""
        return self._epoch_spent + time.monotonic() - self._epoch_started

    def begin_epoch(self) -> None:
        """Start to measure the next epoch."""
        self._epoch_spent, self._epoch_started = 0.0, time.monotonic()
        self.parts = dict.fromkeys(PARTS, 0.0)

    def begin_process(self, started: float) -> None:
        """Count the time since `started`; if the run is resumed, only the time from now on."""
        self._started = time.monotonic() if self._spent else started

    def begin_training(self) -> None:
        """Measure this process's first epoch from now on, without the run's preparation."""
        self._epoch_started = time.monotonic()

    def add_step(self, plan: StepPlan, seconds: float) -> None:
        """Add a training step.

        The first one of the process waits for the workers to start and for memory to be allocated:
        it counts only as long as no other has been timed.
        """
        self._steps += 1
        if self._steps == 1:
            self._first_counts = not self.step_times
            if not self._first_counts:
                return
        elif self._steps == 2 and self._first_counts:
            self.step_times = StepTimes()
        self.step_times.add(plan, seconds)

    def add_report(self, report: SpeedReport) -> None:
        """Add what some steps spent on reading, forward and backward passes."""
        for name, short in PARTS.items():
            self.parts[name] += report.seconds[short]

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Time a `validation`, or the `saving` at the end of an epoch."""
        since = time.monotonic()
        yield
        setattr(self, name, time.monotonic() - since)

    def seconds_left(self, schedule: Schedule, step: int, *, epoch: int, every: int) -> float:
        """Estimate the seconds from `step` to the end of the run; NaN as long as nothing was timed.

        Args:
            schedule: of the run.
            step: the next one.
            epoch: the current one; its validation is not done yet.
            every: epochs between two validations.
        """
        if epoch > schedule.epochs:
            return 0.0
        validations = schedule.epochs // every - (epoch - 1) // every
        validations += schedule.epochs % every > 0  # the last epoch always has one
        return (
            self.step_times.seconds(schedule.table[step:])
            + validations * self.validation_seconds(schedule.full)
            + (schedule.epochs - epoch + 1) * self.saving
        )

    def validation_seconds(self, full: Shape) -> float:
        """Return the seconds of the last validation; before the first, estimate them."""
        if not math.isnan(self.validation):
            return self.validation
        a_clip = self.step_times.seconds_a_clip(full.frames, full.size)
        return VALIDATION_SHARE * self._val_clips * a_clip

    def state_dict(self) -> dict[str, float]:
        """Return the content of a checkpoint."""
        return {"spent": self.spent, "epoch": self.epoch_seconds, **self.parts}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Load the time that the run took before it was resumed; none if `state` is empty."""
        self._spent, self._epoch_spent = state.get("spent", 0.0), state.get("epoch", 0.0)
        self.parts = {name: state.get(name, 0.0) for name in PARTS}


def duration(seconds: float) -> str:
    """Return a time as short text: `45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`; `unknown` for NaN."""
    if math.isnan(seconds):
        return "unknown"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours + (minutes >= 30), 24)
    return f"{days} d {hours} h"
