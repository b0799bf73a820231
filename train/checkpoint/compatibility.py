"""Check that a checkpoint is undamaged and belongs to the run that wants to resume from it."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from data.annotations.dataset_fingerprint import Fingerprint
from train.checkpoint.opening import check_scaler, check_tensors
from train.optimiser import OPTIMISER, optimiser_problem
from train.results.history import check_history
from train.train_errors import OtherRunError, TrainError
from train.training_run import TrainingRun, gate_counts

log = logging.getLogger(__name__)

#: Options that may change when a run is resumed. Those of the machine (devices, micro-batches)
#: change how sums are rounded and how batch norm's batches are divided, but not what is trained.
FREE_OPTIONS = {
    "given",
    "seeds",
    "end_epoch",  # the schedule follows it, see train.schedule.replanning
    "max_minutes",
    "schedule_parts",
    "dataset",
    "labels",
    "gpus",
    "deterministic",
    "workers",
    "batch_timeout",
    "micro_batch",
    "model_dir",
    "task_name",
    "log_file",
    "log_interval",
    "debug_mode",
    "val_frequency",
    "save_frequency",
    "save_steps",
    "save_minutes",
    "epoch_save_seconds",
    "keep",
    "keep_optimiser",
    "overwrite",
    "resume",
    "pretrained_3d",
    "pretrained_partial",
    "tensorboard",
    "wandb",
    "plan",
    "on_nan",
}


def check_checkpoint(run: TrainingRun, path: Path, state: dict[str, Any]) -> None:
    """Check all of `state`, the content of `path`, against `run`; changes nothing.

    Raises:
        OtherRunError: the checkpoint is of a run with other data, options or steps.
        TrainError: the checkpoint is damaged.
    """
    _check_same_data(run, path, state)
    _check_same_options(run, path, state)
    check_tensors(path, "state_dict", state["state_dict"], run.net.state_dict())
    if run.ema:
        check_tensors(path, "ema", state["ema"] or {}, run.ema.state_dict())
    check_tensors(path, "counts", state["counts"], gate_counts(run.net))
    check_tensors(path, "scores", {"meter": state["meter"]}, {"meter": run.meter.sums})
    losses = state.get("losses", torch.empty(2, 0))
    if losses.shape != (2, 0):  # it is within an epoch
        own = run.losses.values[:, :-1]
        check_tensors(path, "losses", {"losses": losses}, {"losses": own})
    check_scaler(path, state["scaler"], run.scaler)
    if OPTIMISER in state:
        problem = optimiser_problem(run.optimiser, state[OPTIMISER])
        if problem:
            raise TrainError(f"{path}: the optimiser's state cannot be used: {problem}")
    check_history(path, state)
    _check_step(run, path, state)


def _check_same_data(run: TrainingRun, path: Path, state: dict[str, Any]) -> None:
    now, then = map(Fingerprint.parse, (run.fingerprint, state["fingerprint"]))
    conflict, remark = now.conflict(then), now.remark(then)
    if conflict:
        raise OtherRunError(
            f"{path}: was trained on a dataset with {conflict}; resume with the same one, or "
            "take its weights by --pretrained-3d"
        )
    if remark:
        log.warning("%s: %s", path, remark)


def _check_same_options(run: TrainingRun, path: Path, state: dict[str, Any]) -> None:
    now, then = asdict(run.config), state["config"]
    for name in now:
        if name not in FREE_OPTIONS and name in then and now[name] != then[name]:
            raise OtherRunError(
                f"{path}: was trained with --{name.replace('_', '-')} {then[name]}, not "
                f"{now[name]}; give the same options, or take its weights by --pretrained-3d"
            )


def _check_step(run: TrainingRun, path: Path, state: dict[str, Any]) -> None:
    try:
        schedule = run.schedule_after(state)
    except TrainError as error:
        raise OtherRunError(f"{path}: {error}") from error
    epoch, step = state["epoch"] + 1, state["step"]
    if epoch > schedule.epochs:
        return
    steps = schedule.epoch_steps(epoch)
    if not steps.start <= step <= steps.stop:
        raise OtherRunError(
            f"{path}: is at step {step} of epoch {epoch}, which in this run has the steps from "
            f"{steps.start} to {steps.stop}: it has another schedule; take its weights by "
            "--pretrained-3d"
        )
