"""The results folder of a run: held for it alone, and made ready for its first step."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from data.file_writing import delete_temporary_files
from train.config import Config
from train.results.disk_space import check_space, checkpoint_sizes
from train.results.earlier_run import delete_run, refuse_second_start, set_later_epochs_aside
from train.results.folder_lock import locked
from train.results.recorder import results_folder
from train.training_run import TrainingRun

log = logging.getLogger(__name__)


@contextlib.contextmanager
def held_results(config: Config) -> Iterator[None]:
    """Make the results folder and hold its lock. Only the first process of a run does that.

    Raises:
        TrainError: another training holds it, or there is a run in it that nobody asked to go on
            with or to delete.
    """
    folder = results_folder(config)
    with locked(folder):
        delete_temporary_files(folder)
        if config.resume == "no" and not config.resume_epoch and not config.overwrite:
            refuse_second_start(folder, config.network)
        yield


def start_results(run: TrainingRun, log_to: Callable[[Path], None]) -> None:
    """Check the space, open the log by `log_to`, and move what the run will replace out of its way.

    Raises:
        TrainError: the run's checkpoints will not fit on the disk.
        OSError: naming a file that cannot be written, renamed or deleted.
    """
    config, folder = run.config, run.folder
    said = check_space(
        folder,
        config,
        checkpoint_sizes(run.net, config),
        first_epoch=run.epoch,
        last_epoch=run.schedule.epochs,
    )
    log.info(said)
    log_to(Path(config.log_file or folder / "train.log"))
    # last, when nothing that the user can get wrong is left
    if config.overwrite:
        delete_run(folder, config.network)
    if config.resume_epoch:
        set_later_epochs_aside(folder, config.network, run.epoch)
