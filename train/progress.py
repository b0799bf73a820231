"""What a run shows while it trains: the progress bar and the lines of the log."""

from __future__ import annotations

import logging
import sys

from tqdm import tqdm

from train.speed_monitor import SpeedMonitor
from train.step_outcome import StepOutcome
from train.training_run import TrainingRun

log = logging.getLogger(__name__)


def progress_bar(run: TrainingRun, steps: range) -> tqdm:
    """Return a bar over the `steps` of the current epoch, hidden where stderr is no terminal."""
    return tqdm(
        total=len(steps),
        initial=run.step - steps.start,
        desc=f"epoch {run.epoch}/{run.schedule.epochs}",
        unit="step",
        leave=False,
        disable=not (run.devices.is_first and sys.stderr.isatty()),
    )


def log_progress(run: TrainingRun, done: int, outcome: StepOutcome, monitor: SpeedMonitor) -> None:
    """Log epoch, batch, speeds, loss, accuracy so far, batch shape and learning rate.

    The line has the original's format. `done` is the number of steps taken in the epoch.
    """
    report = run.speed = monitor.report()
    scores = run.meter.scores(run.devices)
    total = len(run.schedule.epoch_steps(run.epoch))
    log.info(
        "Epoch [%d] Batch [%d/%d] %s loss %.4f top1 %.2f top5 %.2f batch (%s) lr %.4g",
        run.epoch,
        done,
        total,
        report,
        outcome.loss,
        scores["top1"],
        scores["top5"],
        ",".join(map(str, outcome.shape)),
        outcome.lr,
    )
    verdict = report.verdict(run.config.workers)
    if verdict:
        log.info(verdict)


def log_epoch(
    run: TrainingRun, scores: dict[str, dict[str, float]], gates: dict[str, float]
) -> None:
    """Log the scores of the current epoch by part (train, val), its gates and unreadable videos."""
    parts = [
        f"{part}: loss {values['loss']:.4f} top1 {values['top1']:.2f} top5 {values['top5']:.2f}"
        for part, values in scores.items()
    ]
    log.info("Epoch [%d] %s", run.epoch, " | ".join(parts))
    if gates:
        log.info("gates open: %s", " ".join(f"{k} {v:.0%}" for k, v in gates.items()))
    if run.unreadable:
        names = sorted(run.train_clips.videos.folder(i).name for i in run.unreadable)
        log.warning(
            "%d unreadable videos were replaced: %s%s",
            len(names), ", ".join(names[:5]), ", ..." if len(names) > 5 else "",
        )  # fmt: skip
