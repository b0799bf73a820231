"""Which checkpoint `--resume auto` goes on from, and whether a new run may start in a folder."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from train.checkpoint.opening import load_checkpoint
from train.checkpoint.saving import OPTIMISER, epoch_files
from train.results.file_writing import naming, set_aside
from train.results.history import TABLES
from train.train_errors import OtherRunError, TrainError

log = logging.getLogger(__name__)


def checkpoints(folder: Path, network: str) -> list[Path]:
    """The run's checkpoints in `folder`: last.pth, those of epochs from the newest on, best.pth."""
    epochs = reversed(epoch_files(folder, network).values())
    paths = [folder / "last.pth", *epochs, folder / "best.pth"]
    return [path for path in paths if path.is_file()]


def newest_checkpoint(
    folder: Path, network: str, check: Callable[[Path, dict[str, Any]], object]
) -> tuple[Path, dict[str, Any]] | None:
    """The newest whole checkpoint in `folder` and its content; None where the folder holds no run.

    One with the optimiser's state is preferred to a newer one without. Damaged ones are set aside
    under another name, with a warning.

    Args:
        folder: the results folder.
        network: the network's name, of which the checkpoints of epochs have theirs.
        check: raises TrainError for a checkpoint's path and content that are damaged.

    Raises:
        OtherRunError: `check` says so; then nothing is set aside.
        TrainError: there is a run, but none of its checkpoints can be used.
        OSError: a checkpoint may not be read, or a damaged one not be renamed.
    """
    found: tuple[Path, dict[str, Any]] | None = None
    damaged: dict[Path, TrainError] = {}
    for path in checkpoints(folder, network):
        try:
            state = _load(path)
            check(path, state)
        except OtherRunError:
            raise
        except TrainError as error:
            damaged[path] = error
            continue
        if OPTIMISER in state:
            found = (path, state)
            break
        found = found or (path, state)
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
        log.warning("%s; it is now %s, and the run goes on from %s", error, aside.name, found[0])
    if not damaged and found[0].name != "last.pth":
        log.warning("%s is missing: the run goes on from %s", folder / "last.pth", found[0])
    return found


def _load(path: Path) -> dict[str, Any]:
    with naming(path), path.open("rb"):  # a file that may not be read is not a damaged one
        pass
    return load_checkpoint(path)


def run_files(folder: Path, network: str) -> list[Path]:
    """The files that make `folder` hold a run: checkpoints, damaged ones too, and csv files."""
    there = [*checkpoints(folder, network), *folder.glob("*.pth.damaged")]
    return there + [folder / name for name in TABLES if (folder / name).exists()]


def refuse_second_start(folder: Path, network: str) -> None:
    """Raise TrainError where a new run would replace the files of an earlier one in `folder`."""
    there = run_files(folder, network)
    if there:
        raise TrainError(
            f"{folder}: holds a run already ({there[0].name}); --resume auto goes on with it, "
            "--task-name NAME starts another one beside it, --overwrite True deletes it"
        )


def delete_run(folder: Path, network: str) -> None:
    """Delete the files of an earlier run: checkpoints, csv files, curves, TensorBoard's events.

    The log stays, and goes on.

    Raises:
        OSError: naming a file that cannot be deleted.
    """
    there = run_files(folder, network)
    for path in [*there, *folder.glob("*.pth.replaced"), folder / "curves.png"]:
        path.unlink(missing_ok=True)
    board = folder / "tensorboard"
    if board.exists():
        with naming(board):
            shutil.rmtree(board)
    if there:
        log.info("--overwrite: deleted the %d files of the earlier run in %s", len(there), folder)


def set_later_epochs_aside(folder: Path, network: str, first: int) -> None:
    """Rename the checkpoints of the epochs that `--resume-epoch` trains again, from `first` on.

    Left in place, they would be taken for the new run's by a later `--resume auto`.
    """
    later = [path for epoch, path in epoch_files(folder, network).items() if epoch >= first]
    for path in later:
        set_aside(path, "replaced")
    if later:
        log.info(
            "%d checkpoints of epochs from %d on are kept as %s.replaced",
            len(later), first, later[0].name,
        )  # fmt: skip
