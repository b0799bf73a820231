"""What a run shows while it trains: the progress bar and the lines of the log."""

from __future__ import annotations

import logging
import math
import sys

from tqdm import tqdm

from train.run_clock import duration
from train.speed_monitor import SpeedMonitor
from train.step_outcome import StepOutcome
from train.training_run import TrainingRun

log = logging.getLogger(__name__)


def progress_bar(run: TrainingRun, steps: range) -> tqdm:
    """Return a bar over the `steps` of the current epoch, hidden where stderr is not a terminal.

    Behind it, `show_progress` writes the best accuracy so far and the time that the run has left.
    """
    return tqdm(
        total=len(steps),
        initial=run.step - steps.start,
        desc=f"epoch {run.epoch}/{run.schedule.epochs}",
        unit="step",
        leave=False,
        disable=not (run.devices.is_first and sys.stderr.isatty()),
    )


def show_progress(run: TrainingRun, bar: tqdm, seconds_left: float) -> None:
    """Write behind the bar the best top-1 accuracy of all validations, and the run's time left."""
    best = [f"best top1 {run.best_top1:.1f}"] if run.best_top1 >= 0 else []
    left = [] if math.isnan(seconds_left) else [f"run: {duration(seconds_left)} left"]
    bar.set_postfix_str(", ".join(best + left), refresh=False)


def log_progress(
    run: TrainingRun,
    done: int,
    outcome: StepOutcome,
    monitor: SpeedMonitor,
    *,
    seconds_left: float,
) -> None:
    """Log epoch, batch, speeds, loss, accuracy so far, batch shape, learning rate and time left.

    The line has the original's format, with the time that the run has left at its end. `done` is
    the number of steps taken in the epoch.
    """
    report = run.speed = monitor.report()
    run.clock.add_report(report)
    scores = run.meter.scores(run.devices)
    total = len(run.schedule.epoch_steps(run.epoch))
    log.info(
        "Epoch [%d] Batch [%d/%d] %s loss %.4f top1 %.2f top5 %.2f batch (%s) lr %.4g left %s",
        run.epoch,
        done,
        total,
        report,
        outcome.loss,
        scores["top1"],
        scores["top5"],
        ",".join(map(str, outcome.shape)),
        outcome.lr,
        duration(seconds_left),
    )
    verdict = report.verdict(run.config.workers)
    if verdict:
        log.info(verdict)


def log_epoch(
    run: TrainingRun,
    epoch: int,
    scores: dict[str, dict[str, float]],
    gates: dict[str, float],
    *,
    seconds_left: float,
) -> None:
    """Log an epoch's scores by part (train, val), best score, times, gates and unreadable videos.

    The epoch is in the run's history already.
    """
    parts = [
        f"{part}: loss {values['loss']:.4f} top1 {values['top1']:.2f} top5 {values['top5']:.2f}"
        for part, values in scores.items()
    ]
    validations = run.history.tables["val_results.csv"].rows
    if validations:
        best = max(validations, key=lambda row: row["Top1"])  # the first of equal ones
        parts.append(f"best top1 {best['Top1']:.2f} (epoch {best['Epoch']})")
    took = duration(scores["train"]["seconds"])
    if "val" in scores:
        took += f" (validation {duration(scores['val']['seconds'])})"
    if seconds_left > 0:  # not NaN
        took += f", {duration(seconds_left)} left"
    log.info("Epoch [%d] %s", epoch, " | ".join([*parts, took]))
    if gates:
        log.info("gates open: %s", " ".join(f"{k} {v:.0%}" for k, v in gates.items()))
    if run.unreadable:
        names = sorted(run.train_clips.videos.folder(i).name for i in run.unreadable)
        log.warning(
            "%d unreadable videos were replaced: %s%s",
            len(names), ", ".join(names[:5]), ", ..." if len(names) > 5 else "",
        )  # fmt: skip
