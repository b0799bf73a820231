"""Save checkpoints, delete old ones, and drop the optimiser's state from older ones."""

from __future__ import annotations

import logging
import os
import zipfile
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch

from data.file_writing import set_aside, write_atomically
from train.checkpoint.opening import load_checkpoint
from train.config import Config
from train.optimiser import OPTIMISER
from train.results.results_folder import FULL, epoch_file, epoch_files, keeps_epoch
from train.train_errors import TrainError

log = logging.getLogger(__name__)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` to `path` atomically.

    Raises:
        OSError: the disk is full, or the folder cannot be written. The error names `path`, which
            keeps its old content.
    """
    write_atomically(path, partial(_write, state))


def _write(state: dict[str, Any], file: BinaryIO) -> None:
    try:
        torch.save(state, file)
    except RuntimeError as error:
        # torch fails once more while it closes its archive; the disk's own error is the first one
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def holds_optimiser(path: Path) -> bool:
    """Return whether a checkpoint has the optimiser's state, without reading its tensors.

    For a damaged file it returns True: loading the file then reports the damage.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = (name for name in archive.namelist() if name.endswith("/data.pkl"))
            return OPTIMISER.encode() in archive.read(next(names))
    except Exception:  # zipfile raises many kinds of errors for a damaged file
        return True


def slimmed(state: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint without the optimiser's state: enough to evaluate and to fine-tune."""
    return {name: part for name, part in state.items() if name != OPTIMISER}


def save_epoch(
    folder: Path,
    config: Config,
    state: dict[str, Any],
    *,
    improved: bool,
    last: bool,
    last_pth: bool = True,
) -> None:
    """Save the checkpoints of a finished epoch; delete older ones, or their optimiser state.

    `best.pth` is written first: a run that ends after that resumes within the epoch and writes it
    again. No file is a link to another, so damage to one leaves the others intact.

    Args:
        folder: the results folder.
        config: which epochs are kept, and which of them with the optimiser's state.
        state: what `TrainingRun.state_dict` returns after the epoch.
        improved: whether its validation accuracy is the best so far.
        last: whether it is the last epoch.
        last_pth: whether to write `last.pth`; where epochs are short, not each of them does.

    Raises:
        OSError: a file could not be written; the error names it. Older checkpoints are undamaged.
    """
    epoch = state["epoch"]
    keep_all = config.keep_optimiser == "all"
    if improved:
        save_checkpoint(folder / "best.pth", state if keep_all else slimmed(state))
    if keeps_epoch(config, epoch, last=last):
        save_checkpoint(epoch_file(folder, config.network, epoch), state)
    if last_pth:
        save_checkpoint(folder / "last.pth", state)
    drop_old(folder, config.network, config.keep, newest=epoch)
    if not keep_all:
        slim_old(folder, config.network, newest=epoch)


def drop_old(folder: Path, network: str, keep: int, *, newest: int) -> None:
    """Delete all but the last `keep` checkpoints of epochs up to `newest`; 0 keeps all."""
    for path in _up_to(folder, network, newest)[:-keep] if keep else ():
        path.unlink()


def slim_old(folder: Path, network: str, *, newest: int) -> None:
    """Remove the optimiser's state from all checkpoints up to `newest` but the last two."""
    for path in _up_to(folder, network, newest)[:-FULL]:
        if not holds_optimiser(path):
            continue
        try:
            state = load_checkpoint(path, to_resume=False)
        except TrainError as error:
            log.warning("%s; it is now %s", error, set_aside(path, "damaged").name)
        else:
            finished = path.stat()
            save_checkpoint(path, slimmed(state))
            os.utime(path, ns=(finished.st_atime_ns, finished.st_mtime_ns))  # when it was trained


def _up_to(folder: Path, network: str, newest: int) -> list[Path]:
    return [path for epoch, path in epoch_files(folder, network).items() if epoch <= newest]
