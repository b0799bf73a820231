"""Resume a run: `--resume auto` from its newest checkpoint, `--resume-epoch` from a given one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from data.file_writing import naming, set_aside
from train.checkpoint.compatibility import check_checkpoint
from train.checkpoint.opening import check_scaler, check_tensors, load_checkpoint
from train.optimiser import OPTIMISER, optimiser_problem, restore_optimiser, saved_groups
from train.results.earlier_run import run_files
from train.results.history import read_history
from train.results.results_folder import checkpoints, epoch_files
from train.train_errors import OtherRunError, TrainError
from train.training_run import TrainingRun

log = logging.getLogger(__name__)


def resume(run: TrainingRun) -> None:
    """Bring a new run to the state that `--resume` or `--resume-epoch` asks for.

    Raises:
        TrainError: there is nothing to resume from, or it does not fit the run.
    """
    if run.config.resume == "auto":
        _resume_newest(run)
    elif run.config.resume_epoch:
        _resume_epoch(run)


def _resume_newest(run: TrainingRun) -> None:
    found = newest_checkpoint(run.folder, run.config.network, partial(check_checkpoint, run))
    if not found:
        return
    path, state = found
    run.load_state_dict(state)
    log.info("continues from %s: epoch %d, step %d", path, run.epoch, run.step)
    before, now = state["config"].get("end_epoch"), run.config.end_epoch
    if before != now and run.config.lr_policy == "cosine" and run.epoch <= run.schedule.epochs:
        log.info(
            "--end-epoch %s instead of %s: from step %d of epoch %d on, the learning rate follows "
            "the cosine of %s epochs: it begins with %.4g and falls to 0",
            now, before, run.step, run.epoch, now, run.schedule.lr(run.step),
        )  # fmt: skip
    if OPTIMISER not in state:
        log.warning(
            "%s was saved without the optimiser's state, which saves disk space (see "
            "--keep-optimiser): the optimiser starts anew, so the results will differ "
            "from those of a run that was never interrupted", path,
        )  # fmt: skip


def _resume_epoch(run: TrainingRun) -> None:
    config = run.config
    if not config.pretrained_3d:
        log.warning("--resume-epoch without --pretrained-3d: the weights are random")
    if config.resume_epoch > run.schedule.epochs:
        raise TrainError(
            f"--resume-epoch {config.resume_epoch} is past the last epoch, "
            f"{run.schedule.epochs}: raise --end-epoch"
        )
    run.epoch = config.resume_epoch
    run.step = run.schedule.epoch_steps(run.epoch).start
    run.history = read_history(run.folder)
    run.history.keep_until(run.epoch - 1)
    if config.pretrained_3d and not (config.fine_tune and "fine_tune" in config.given):
        load_optimiser(run, Path(config.pretrained_3d))


def newest_checkpoint(
    folder: Path, network: str, check: Callable[[Path, dict[str, Any]], object]
) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest undamaged checkpoint in `folder` and its content; None without a run.

    That is `last.pth`, unless an epoch's checkpoint is newer: where epochs are short, not each of
    them writes `last.pth`. A checkpoint with the optimiser's state is preferred to a newer one
    without it. Damaged ones are renamed, with a warning.

    Args:
        folder: the results folder.
        network: the network's name, with which the names of the epochs' checkpoints begin.
        check: called with a checkpoint's path and content; raises TrainError if it is damaged.

    Raises:
        OtherRunError: raised by `check`; no file is renamed then.
        TrainError: there is a run, but none of its checkpoints can be used.
        OSError: a checkpoint may not be read, or a damaged one cannot be renamed.
    """
    found: tuple[Path, dict[str, Any]] | None = None
    damaged: dict[Path, TrainError] = {}
    of_epochs = {path: epoch for epoch, path in epoch_files(folder, network).items()}
    for path in checkpoints(folder, network):
        if found and of_epochs.get(path, 0) <= found[1]["epoch"] and OPTIMISER in found[1]:
            break
        try:
            state = _load(path)
            check(path, state)
        except OtherRunError:
            raise
        except TrainError as error:
            damaged[path] = error
            continue
        if found is None or OPTIMISER in state:
            found = (path, state)
    if found is None:
        if damaged or run_files(folder, network):
            why = str(next(iter(damaged.values()), f"{folder}: its checkpoints are gone"))
            raise TrainError(
                f"{why}; no other checkpoint there can be used: put one back, or start anew with "
                "--overwrite True or another --task-name"
            )
        return None
    for path, error in damaged.items():
        aside = set_aside(path, "damaged")
        log.warning("%s; it is now %s, and the run continues from %s", error, aside.name, found[0])
    if not (folder / "last.pth").exists() and not damaged:
        log.warning("%s is missing: the run continues from %s", folder / "last.pth", found[0])
    return found


def _load(path: Path) -> dict[str, Any]:
    with naming(path), path.open("rb"):  # a file that may not be read is not a damaged one
        pass
    return load_checkpoint(path)


def load_optimiser(run: TrainingRun, path: Path) -> None:
    """Load optimiser, loss scale and averaged weights if the checkpoint has those of this network.

    Otherwise they stay as they are, and a warning says why.

    Raises:
        TrainError: the checkpoint is of the same network and options, but its state is damaged.
    """
    state, reason = _state_with_optimiser(run, path)
    if state is None:
        log.warning("the optimiser starts anew: %s", reason)
        return
    problem = optimiser_problem(run.optimiser, state[OPTIMISER])
    if problem:
        raise TrainError(f"{path}: the optimiser's state cannot be used: {problem}")
    averaged = run.ema and state["ema"]
    if averaged:
        check_tensors(path, "ema", state["ema"], run.ema.state_dict())
    check_scaler(path, state["scaler"], run.scaler)
    restore_optimiser(run.optimiser, state[OPTIMISER])
    if state["scaler"]:
        run.scaler.load_state_dict(state["scaler"])
    run.best_top1 = state["best_top1"]
    if averaged:
        run.ema.load_state_dict(state["ema"])


def _state_with_optimiser(run: TrainingRun, path: Path) -> tuple[dict[str, Any] | None, str]:
    """Return the content of `path`; or None, and why its optimiser is not this run's."""
    try:
        state = load_checkpoint(path)
    except TrainError as error:
        return None, str(error)
    if OPTIMISER not in state:
        return None, (
            f"{path} was saved without its state, which saves disk space (see --keep-optimiser)"
        )
    shapes = {name: getattr(value, "shape", ()) for name, value in state["state_dict"].items()}
    if shapes != {name: tensor.shape for name, tensor in run.net.state_dict().items()}:
        return None, f"{path} is of another network"
    if state["config"]["optimiser"] != run.config.optimiser:
        return None, f"{path} was trained with {state['config']['optimiser']}"
    if saved_groups(state[OPTIMISER]) != saved_groups(run.optimiser.state_dict()):
        return None, f"{path} has other parameter groups"
    return state, ""
