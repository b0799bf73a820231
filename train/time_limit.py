"""Keep --max-minutes: fit the schedule to the time, and plan anew if the run turns out slower."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace

from train.distributed import broadcast_object
from train.epoch_end import seconds_left
from train.run_clock import duration
from train.schedule.steps_table import Schedule, make_schedule
from train.step_timing import time_steps
from train.train_errors import TrainError
from train.training_run import TrainingRun

log = logging.getLogger(__name__)

FITTED_SHARE = 0.9  # share of the minutes that a schedule may take; the rest is for errors
TOLERATED = 1.03  # a run that ends by this share of its minutes is not shortened
LOOK_EVERY = 1.0  # seconds between two estimates of the time left
TRIES = 20  # schedules that are a batch shorter than one that the ranks cannot share
#: Seconds, and share of the minutes. The schedule is shortened only if all estimates during the
#: longer of the two say that the run is too slow, so a few slow steps have no effect.
PATIENCE = 5.0, 0.05


def fit_to_time(run: TrainingRun) -> None:
    """Shorten the schedule of a run to --max-minutes, before its first step in this process.

    Some steps are timed, and rank 0 decides. The decision becomes part of the options and is saved
    in each checkpoint. A resumed run uses it without timing anything.

    Raises:
        TrainError: there is not time for one step.
    """
    config = run.config
    if not config.max_minutes:
        return
    if not run.step and config.schedule_parts:  # of the first run of --seeds
        run.fitted_minutes = config.max_minutes
    # only rank 0 has read the checkpoint of a resumed run
    run.fitted_minutes = broadcast_object(run.devices, run.fitted_minutes)
    if run.fitted_minutes == config.max_minutes:
        return
    is_finished = run.step >= run.schedule.total_steps
    if is_finished and not (run.schedule.part and run.schedule.part.is_compressed):
        return
    time_steps(run)
    parts, problem = config.schedule_parts, None
    if run.devices.is_first:
        left = seconds_left(run)
        seconds = FITTED_SHARE * 60 * config.max_minutes - run.clock.spent
        try:
            parts = fitted_parts(run, seconds, at_least_a_step=bool(run.step) and not is_finished)
        except TrainError as error:
            problem = None if is_finished else str(error)
    parts, problem = broadcast_object(run.devices, (parts, problem))
    if problem:
        raise TrainError(problem)
    asked, total = _end(run), run.schedule.total_steps
    run.plan_anew(parts)
    run.fitted_minutes = config.max_minutes
    if not run.devices.is_first:
        return
    if run.schedule.total_steps == total:
        log.info(
            "--max-minutes %g: the whole schedule of %s takes about %s",
            config.max_minutes, asked, duration(left),
        )  # fmt: skip
    elif run.step:
        log.info(
            "--max-minutes %g: from step %d on, the run is planned anew: it ends after %s instead "
            "of %s", config.max_minutes, run.step, _end(run), asked,
        )  # fmt: skip
    else:
        log.info(
            "--max-minutes %g: the whole schedule of %s would take about %s, so it is compressed "
            "into %s, %s steps",
            config.max_minutes, asked, duration(left), _end(run),
            f"{run.schedule.total_steps:,}",
        )  # fmt: skip


def _end(run: TrainingRun) -> str:
    """Return after how many epochs the run ends, as text."""
    parts = run.config.schedule_parts
    epochs = parts[-1][1] if parts else run.schedule.epochs
    return f"{epochs:.4g} epochs"


class TimeLimit:
    """Checks at most once a second whether a run is too slow for its --max-minutes."""

    def __init__(self, run: TrainingRun):
        minutes = run.config.max_minutes if run.devices.is_first else 0.0
        self._seconds = 60 * TOLERATED * minutes
        self._patience = max(PATIENCE[0], PATIENCE[1] * 60 * minutes)
        self._looked_at = self._in_time_at = time.monotonic()

    def is_too_short(self, run: TrainingRun) -> bool:
        """Return whether the run ends too late by its newest estimates; False on all ranks but 0.

        A run with one step left is not too slow: it ends anyway.
        """
        now = time.monotonic()
        if not self._seconds or now - self._looked_at < LOOK_EVERY:
            return False
        self._looked_at = now
        has_steps = run.step + 1 < run.schedule.total_steps
        if not (has_steps and run.clock.spent + seconds_left(run) > self._seconds):
            self._in_time_at = now
        if now - self._in_time_at < self._patience:
            return False
        self._in_time_at = now
        return True


def shorten(run: TrainingRun) -> None:
    """Compress the remaining schedule of a run that is too slow, with its learning rate.

    All ranks call it, after the same step. The new schedule should be saved at once.
    """
    parts, before, steps = run.config.schedule_parts, _end(run), run.schedule.total_steps
    if run.devices.is_first:
        seconds = FITTED_SHARE * (60 * run.config.max_minutes - run.clock.spent)
        if seconds_left(run) > seconds:  # not if the run has just become faster
            parts = fitted_parts(run, seconds, at_least_a_step=True)
    run.plan_anew(broadcast_object(run.devices, parts))
    if run.schedule.total_steps < steps and run.devices.is_first:
        log.warning(
            "the run is slower than it was estimated, too slow for --max-minutes %g: it now ends "
            "after %s instead of %s, in %s steps; the learning rate still reaches its final value",
            run.config.max_minutes, _end(run), before,
            f"{run.schedule.total_steps - run.step:,}",
        )  # fmt: skip


def fitted_parts(
    run: TrainingRun, seconds: float, *, at_least_a_step: bool = False
) -> list[list[float]]:
    """Return the parts of the longest schedule whose remaining steps take so many seconds.

    Raises:
        TrainError: not one step fits, and `at_least_a_step` is false.
    """
    config, clips = run.config, run.schedule.n_clips
    full = make_schedule(replace(config, schedule_parts=[]), clips).epochs
    earlier = [part for part in config.schedule_parts if part[0] < run.step]
    if not earlier and run.step:
        earlier = [[0, full, full]]

    def parts(epochs: float) -> list[list[float]]:
        if epochs == full and not earlier:
            return []
        return [*earlier, [run.step, epochs, full]]

    def planned(epochs: float) -> Schedule:
        return make_schedule(replace(config, schedule_parts=parts(epochs)), clips)

    def takes(epochs: float) -> float:
        return run.clock.seconds_left(
            planned(epochs), run.step, epoch=run.epoch, every=config.val_frequency
        )

    def usable(epochs: float) -> bool:
        return planned(epochs).batch_range()[0] >= run.devices.world_size

    with _quiet("train.schedule.multigrid_phases"):  # warnings about each schedule that is tried
        begun = run.epoch - 1
        whole = begun + _largest(lambda n: takes(begun + n) <= seconds, full - begun)
        if whole == full:
            return parts(full)
        most = _largest(lambda n: takes(whole + n / clips) <= seconds, clips - 1)
        if run.step == 0 and whole == 0 and most < min(config.batch_size, clips):
            most = 0  # not even a step of the batch asked for
        # a remainder of few clips may make a step that the ranks cannot share
        batches = most // config.batch_size
        for number in (most, *(config.batch_size * (batches - i) for i in range(TRIES))):
            if number > 0 and usable(whole + number / clips):
                return parts(whole + number / clips)
    if whole > begun:
        return parts(whole)
    if at_least_a_step:
        return parts(begun + 1 / clips)
    step = run.clock.step_times.seconds(run.schedule.table[run.step : run.step + 1])
    validation = run.clock.validation_seconds(run.schedule.full)
    needed = (run.clock.spent + step + validation + run.clock.saving) / FITTED_SHARE / 60
    raise TrainError(
        f"--max-minutes {config.max_minutes:g}: not enough for one step: preparing has taken "
        f"{duration(run.clock.spent)}, a step takes {step:.1f} s and the validation after it about "
        f"{duration(validation)}; give at least {math.ceil(needed * 10 + 1) / 10:g}"
    )


def _largest(holds: Callable[[int], bool], most: int) -> int:
    """Find by bisection the largest number up to `most` for which `holds` is true; 0 if none."""
    if most < 1 or holds(most):
        return max(0, most)
    low, high = 0, most  # low holds, high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


class _quiet:
    """Within the context, a logger logs nothing."""

    def __init__(self, name: str):
        self._logger = logging.getLogger(name)

    def __enter__(self) -> None:
        self._logger.disabled = True

    def __exit__(self, *_: object) -> None:
        self._logger.disabled = False
