"""The files of an earlier run in a results folder: find, refuse, delete or rename them."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from data.file_writing import naming, set_aside
from train.results.history import TABLES
from train.results.results_folder import checkpoints, epoch_files
from train.train_errors import TrainError

log = logging.getLogger(__name__)

#: Files that are written from the results, which alone do not make a run.
REPORTS = ("curves.png", "report.html", "schedule.json", "train_losses.npy", "val_predictions.csv")


def run_files(folder: Path, network: str) -> list[Path]:
    """Return the files that show that `folder` holds a run: checkpoints, also damaged, and csvs."""
    found = [*checkpoints(folder, network), *folder.glob("*.pth.damaged")]
    return found + [folder / name for name in TABLES if (folder / name).exists()]


def refuse_second_start(folder: Path, network: str) -> None:
    """Raise TrainError if a new run would replace the files of an earlier one in `folder`."""
    found = run_files(folder, network)
    if found:
        raise TrainError(
            f"{folder}: holds a run already ({found[0].name}); --resume auto continues it, "
            "--task-name NAME starts another one beside it, --overwrite True deletes it"
        )


def delete_run(folder: Path, network: str) -> None:
    """Delete an earlier run: checkpoints, csv files, report, TensorBoard events; not the log.

    Raises:
        OSError: a file cannot be deleted; the error names it.
    """
    found = run_files(folder, network)
    drawn = [folder / name for name in REPORTS]
    for path in [*found, *folder.glob("*.pth.replaced"), *drawn]:
        path.unlink(missing_ok=True)
    board = folder / "tensorboard"
    if board.exists():
        with naming(board):
            shutil.rmtree(board)
    if found:
        log.info("--overwrite: deleted the %d files of the earlier run in %s", len(found), folder)


def set_later_epochs_aside(folder: Path, network: str, first: int) -> None:
    """Rename the checkpoints of the epochs from `first` on, which `--resume-epoch` trains again.

    A later `--resume auto` would take them for checkpoints of the new run.
    """
    later = [path for epoch, path in epoch_files(folder, network).items() if epoch >= first]
    for path in later:
        set_aside(path, "replaced")
    if later:
        log.info(
            "%d checkpoints of epochs from %d on are kept as %s.replaced",
            len(later), first, later[0].name,
        )  # fmt: skip
