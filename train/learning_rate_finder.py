"""A learning-rate range test: train for some steps while the rate rises, and watch the loss.

Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017, section 3.3.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from data.file_writing import write_atomically
from train.config import Config
from train.devices import Devices
from train.freezing import set_training_mode
from train.loaders import training_batches
from train.prefetch import prefetched
from train.run_clock import duration
from train.schedule.steps_table import make_schedule
from train.setup import prepare
from train.speed_monitor import SpeedMonitor
from train.step import train_step
from train.step_timing import time_steps
from train.train_errors import DivergedError, TrainError
from train.training_run import TrainingRun

FEWEST_STEPS = 20  # fewer rates show no curve
WINDOW = 1 / 25  # of the smoothing: its standard deviation, as a share of the steps
RISEN = 2.0  # the test ends where the loss is this far above its minimum, in natural logarithms
LEAST_RISE = 0.05  # above the minimum; where single losses differ, their usual distance more
MARGIN = 3.0  # the rate from which the loss rises is divided by this


class RangeTest(NamedTuple):
    """The result: a point for each step, (n,), and what was trained."""

    rates: np.ndarray
    losses: np.ndarray  # of single batches
    config: Config  # with the values of the recipe
    highest: float  # the rate with which the test would have ended

    @property
    def smoothed(self) -> np.ndarray:
        """The losses, smoothed, (n,)."""
        return smoothed(self.losses)

    @property
    def _rise(self) -> float:
        """By how much the smoothed loss must exceed its minimum so that this is not noise."""
        # of the median, since where training is unstable a few losses are far off
        return LEAST_RISE + float(np.median(np.abs(self.losses - self.smoothed)))

    @property
    def limit(self) -> float:
        """The highest rate at which the loss has not risen yet."""
        low = np.flatnonzero(self.smoothed <= self.smoothed.min() + self._rise)
        return float(self.rates[low[-1]])

    @property
    def has_risen(self) -> bool:
        """Whether the loss rose before the highest rate."""
        return self.limit < self.highest

    @property
    def has_fallen(self) -> bool:
        """Whether the loss fell at all, from its start to its minimum, by more than noise."""
        return bool(self.smoothed[0] - self.smoothed.min() > self._rise)

    @property
    def suggestion(self) -> float:
        """The rate to train with, to two digits."""
        return float(f"{self.limit / MARGIN:.1e}")

    def rows(self) -> list[dict[str, float]]:
        """Return the points as rows of numbers."""
        columns = (self.rates.tolist(), self.losses.tolist(), self.smoothed.tolist())
        return [
            {"lr": rate, "loss": loss, "smoothed": mean}
            for rate, loss, mean in zip(*columns, strict=True)
        ]


def range_test(
    config: Config,
    devices: Devices,
    *,
    steps: int,
    minutes: float,
    lowest: float | None,
    highest: float | None,
) -> RangeTest:
    """Train from the start with the full shape while the rate rises from `lowest` to `highest`.

    Everything else is as in a run of `config`: recipe, weights, batches, augmentation. Nothing is
    saved.

    Args:
        config: options of a training script.
        devices: where to train; one process.
        steps: number of steps, fewer if the time does not allow them.
        minutes: the longest time for all steps.
        lowest: the first rate; None for a hundredth of the rate that the run would have.
        highest: the last rate; None for a hundred times that rate.

    Raises:
        TrainError: too few steps are possible in the time; the rates are the wrong way round; or
            the input cannot be used.
    """
    run = prepare(replace(config, resume="no", resume_epoch=0, max_minutes=0.0), devices)
    usual = run.config.lr_base
    lowest = usual / 100 if lowest is None else lowest
    highest = usual * 100 if highest is None else highest
    if not 0 < lowest < highest:
        raise TrainError(f"--from {lowest:g} --to {highest:g}: the first must be the lower one")
    _plan_constant(run, steps)
    time_steps(run)
    a_step = run.clock.step_times.seconds(run.schedule.table[:1])
    possible = int(60 * minutes / a_step)
    if possible < min(steps, FEWEST_STEPS):
        raise TrainError(
            f"a step takes {a_step:.1f} s, so --minutes {minutes:g} are {possible} steps; fewer "
            f"than {FEWEST_STEPS} show no curve: give --minutes "
            f"{math.ceil(FEWEST_STEPS * a_step / 60 + 1)}, or smaller clips or batches"
        )
    rates = np.geomspace(lowest, highest, min(steps, possible))
    run.schedule.table["lr"][: len(rates)] = rates
    losses = _losses(run, len(rates))
    if not len(losses):
        raise TrainError(f"the loss is not finite at the first rate, {lowest:g}: lower --from")
    return RangeTest(rates[: len(losses)], losses, run.config, highest)


def _plan_constant(run: TrainingRun, steps: int) -> None:
    """Give the run a schedule of at least so many steps, all of the full shape."""
    clips = len(run.train_clips)
    config = replace(
        run.config, multigrid="off", lr_policy="constant", warmup_epochs=0.0, head_epochs=0.0
    )
    an_epoch = make_schedule(replace(config, end_epoch=1), clips).total_steps
    run.config = replace(config, end_epoch=-(-steps // an_epoch))
    run.schedule = make_schedule(run.config, clips)


def _losses(run: TrainingRun, steps: int) -> np.ndarray:
    """Take the steps and return their losses; stop early if the loss becomes too high."""
    run.parallel_net.train()
    set_training_mode(run.net, run.config)
    monitor, losses = SpeedMonitor(run.devices.device), []
    batches = prefetched(training_batches(run), run.devices)
    bar = tqdm(range(steps), desc="range test", unit="step", disable=not sys.stderr.isatty())
    for _ in bar:
        try:
            loss = train_step(run, next(batches), monitor).loss
        except DivergedError:
            break
        if not math.isfinite(loss):
            break
        run.step += 1
        losses.append(loss)
        means = smoothed(np.array(losses))
        if means[-1] > RISEN + means.min():
            break
        bar.set_postfix_str(f"loss {means[-1]:.3f}", refresh=False)
    return np.array(losses)


def smoothed(losses: np.ndarray) -> np.ndarray:
    """Return the losses (n,) averaged over their neighbours, with Gaussian weights.

    An exponential moving average would lag behind the losses, and so shift the rates.
    """
    places = np.arange(len(losses))
    weights = np.exp(-0.5 * ((places[:, None] - places) / max(1.0, WINDOW * len(losses))) ** 2)
    return (weights @ losses) / weights.sum(1)


def verdict(test: RangeTest, seconds: float) -> str:
    """Return what the test has found, as text for the user."""
    config = test.config
    said = [
        f"{len(test.rates)} steps with rates from {test.rates[0]:.2g} to {test.rates[-1]:.2g} in "
        f"{duration(seconds)}"
    ]
    if test.has_risen:
        said.append(f"the loss rises from a rate of {test.limit:.2g} on; a third of that:")
    else:
        said.append(f"the loss has not risen up to {test.highest:.2g}: try a higher --to; so far:")
    said.append(f"  --lr-base {test.suggestion:g}")
    said.append(
        f"for --optimiser {config.optimiser} --batch-size {config.batch_size} (--recipe "
        f"{config.recipe} takes {config.lr_base:g}); another batch needs another rate"
    )
    if not test.has_fallen:
        said.append(
            "the loss has not fallen in so few steps, so this shows only where training becomes "
            "unstable, not whether it learns below; more --steps show more"
        )
    return "\n".join(said)


def draw_range(test: RangeTest, path: Path) -> None:
    """Draw the losses over the rates, with the suggestion and the rate that the run would have."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axis, config = figure.subplots(), test.config
    axis.plot(test.rates, test.losses, ".", color="C0", alpha=0.35, label="loss of a batch")
    axis.plot(test.rates, test.smoothed, color="C0", label="smoothed")
    if test.has_risen:
        axis.axvline(test.limit, color="C3", lw=1, label=f"rises from {test.limit:.2g} on")
    axis.axvline(test.suggestion, color="C2", label=f"suggested: {test.suggestion:g}")
    axis.axvline(config.lr_base, color="0.5", ls="--", label=f"of the run: {config.lr_base:g}")
    axis.set_xscale("log")
    bottom = min(test.losses.min(), test.smoothed.min())
    axis.set_ylim(bottom - 0.1, min(test.losses.max(), test.smoothed.min() + RISEN + 0.5) + 0.1)
    axis.set_xlabel("learning rate")
    axis.set_ylabel("training loss")
    axis.set_title(
        f"learning-rate range test: {config.network}, {config.optimiser}, batches of "
        f"{config.batch_size}",
        fontsize=10,
    )
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")
    kind = path.suffix.removeprefix(".") or "png"
    write_atomically(path, lambda file: figure.savefig(file, format=kind, dpi=120))
