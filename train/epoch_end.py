"""Finish an epoch: log its scores, save its checkpoints, write its csv rows."""

from __future__ import annotations

import contextlib
import logging
import shutil

from data.file_writing import write_atomically
from network import gate_rates
from train.checkpoint.saving import save_checkpoint, save_epoch
from train.divergence import check_last_step
from train.metrics import Meter
from train.progress import log_epoch
from train.results.losses_file import append_losses, as_row
from train.results.recorder import Recorder
from train.results.results_folder import epoch_file, keeps_epoch
from train.training_run import TrainingRun
from train.training_warnings import warnings_after_epoch

log = logging.getLogger(__name__)


def finish_epoch(
    run: TrainingRun, recorder: Recorder | None, validated: dict[str, float] | None
) -> None:
    """Log, save and record the current epoch, and begin the next one.

    Where epochs are short, `last.pth` and the curves are not written at the end of each of them:
    see --epoch-save-seconds.

    Args:
        run: all its steps of the epoch have been taken.
        recorder: of rank 0; None in other ranks, which write nothing.
        validated: the scores of the validation; None where the epoch had none.

    Raises:
        DivergedError: the last step was not finite; nothing is saved then.
    """
    check_last_step(run)
    seconds = {"seconds": run.clock.epoch_seconds, **run.clock.parts}
    scores = {"train": run.meter.scores(run.devices) | seconds}
    if validated:
        scores["val"] = validated | {"seconds": run.clock.validation}
    gates = gate_rates(run.net, reset=True) if run.config.gates else {}
    improved = validated is not None and validated["top1"] > run.best_top1
    if improved:
        run.best_top1 = validated["top1"]
    lr = run.schedule.lr(run.step - 1)
    finished, run.epoch = run.epoch, run.epoch + 1
    left = seconds_left(run)
    run.history.add_epoch(
        finished, scores, lr=lr, gates=gates, seconds_left=left, best_top1=run.best_top1
    )
    log_epoch(run, finished, scores, gates, seconds_left=left)
    if recorder:
        for warning in warnings_after_epoch(run.history, finished, len(run.classes)):
            log.warning(warning)
    run.clock.begin_epoch()
    run.meter = Meter(run.devices.device)
    losses = run.losses.state(run.devices)
    run.losses.clear()
    state = run.state_dict()
    if recorder:
        with run.clock.timing("saving"):
            # Losses first: a run that resumes from an earlier epoch deletes them. Then the
            # checkpoint. If the run dies then, the csv files lack the epoch's rows, but are written
            # again from the checkpoint.
            row = as_row(losses, len(run.train_clips), len(run.classes))
            append_losses(run.folder, finished, row)
            is_last = finished == run.schedule.epochs
            now = is_last or run.saved.seconds >= run.config.epoch_save_seconds
            _save(run, state, improved=improved, is_last=is_last, last_pth=now)
            speeds = run.speed.speeds if run.speed else {}
            recorder.write_epoch(finished, scores, lr=lr, gates=gates, speeds=speeds, draw=now)


def _save(run: TrainingRun, state: dict, *, improved: bool, is_last: bool, last_pth: bool) -> None:
    save_epoch(run.folder, run.config, state, improved=improved, last=is_last, last_pth=last_pth)
    if last_pth:
        run.saved.saved_last(run.step)
    elif keeps_epoch(run.config, state["epoch"], last=is_last):
        run.saved.saved_epoch(run.step, epoch_file(run.folder, run.config.network, state["epoch"]))


def seconds_left(run: TrainingRun) -> float:
    """Estimate the seconds until the run ends; NaN before its first step."""
    return run.clock.seconds_left(
        run.schedule, run.step, epoch=run.epoch, every=run.config.val_frequency
    )


def save_last(run: TrainingRun) -> None:
    """Save `last.pth`, from which the run can resume with its next step.

    Raises:
        DivergedError: the last step was not finite; `last.pth` is not replaced then.
    """
    check_last_step(run)
    state = run.state_dict()
    if run.devices.is_first:
        save_checkpoint(run.folder / "last.pth", state)
    run.saved.saved_last(run.step)


def update_last(run: TrainingRun) -> None:
    """Copy the newest epoch's checkpoint to `last.pth` if that is older; for a run that fails."""
    if run.saved.newer is None:
        return
    with contextlib.suppress(OSError), run.saved.newer.open("rb") as newer:
        write_atomically(run.folder / "last.pth", lambda file: shutil.copyfileobj(newer, file))
