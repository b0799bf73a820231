"""Finish an epoch: log its scores, save its checkpoints, write its csv rows."""

from __future__ import annotations

from network import gate_rates
from train.checkpoint.saving import save_checkpoint, save_epoch
from train.divergence import check_last_step
from train.metrics import Meter
from train.progress import log_epoch
from train.results.recorder import Recorder
from train.training_run import TrainingRun


def finish_epoch(
    run: TrainingRun, recorder: Recorder | None, validated: dict[str, float] | None
) -> None:
    """Log, save and record the current epoch, and begin the next one.

    Args:
        run: all its steps of the epoch have been taken.
        recorder: of rank 0; None in other ranks, which write nothing.
        validated: the scores of the validation; None where the epoch had none.

    Raises:
        DivergedError: the last step was not finite; nothing is saved then.
    """
    check_last_step(run)
    scores = {"train": run.meter.scores(run.devices)}
    if validated:
        scores["val"] = validated
    gates = gate_rates(run.net, reset=True) if run.config.gates else {}
    log_epoch(run, scores, gates)
    improved = validated is not None and validated["top1"] > run.best_top1
    if improved:
        run.best_top1 = validated["top1"]
    lr = run.schedule.lr(run.step - 1)
    run.history.add_epoch(run.epoch, scores, lr=lr, gates=gates)
    finished, run.epoch = run.epoch, run.epoch + 1
    run.meter = Meter(run.devices.device)
    state = run.state_dict()
    if recorder:
        # the checkpoint first: it has the rows that the csv files lack if the run dies in between
        is_last = finished == run.schedule.epochs
        save_epoch(run.folder, run.config, state, improved=improved, last=is_last)
        speeds = run.speed.speeds if run.speed else {}
        recorder.write_epoch(finished, scores, lr=lr, gates=gates, speeds=speeds)


def save_last(run: TrainingRun) -> None:
    """Save `last.pth`, from which the run can resume with its next step.

    Raises:
        DivergedError: the last step was not finite; `last.pth` is not replaced then.
    """
    check_last_step(run)
    state = run.state_dict()
    if run.devices.is_first:
        save_checkpoint(run.folder / "last.pth", state)
