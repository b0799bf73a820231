"""Lock the results folder for a run, and prepare it for the first step."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from torch import nn

from data.file_writing import delete_temporary_files
from train.config import Config
from train.results.disk_space import check_space, checkpoint_sizes
from train.results.earlier_run import delete_run, refuse_second_start, set_later_epochs_aside
from train.results.folder_lock import locked
from train.results.results_folder import results_folder

log = logging.getLogger(__name__)


@contextlib.contextmanager
def held_results(config: Config) -> Iterator[None]:
    """Make the results folder and hold its lock during the block. Only rank 0 calls it.

    Raises:
        TrainError: another run holds the lock; or the folder has an earlier run, and the options
            neither resume nor overwrite it.
    """
    folder = results_folder(config)
    with locked(folder):
        delete_temporary_files(folder)
        if config.resume == "no" and not config.resume_epoch and not config.overwrite:
            refuse_second_start(folder, config.network)
        yield


def start_results(
    folder: Path,
    config: Config,
    net: nn.Module,
    log_to: Callable[[Path], None],
    *,
    first_epoch: int,
    last_epoch: int,
) -> None:
    """Check the disk space, open the log with `log_to`, delete or rename an earlier run's files.

    Raises:
        TrainError: the run's checkpoints will not fit on the disk.
        OSError: a file cannot be written, renamed or deleted; the error names it.
    """
    sizes = checkpoint_sizes(net, config)
    log.info(check_space(folder, config, sizes, first_epoch=first_epoch, last_epoch=last_epoch))
    log_to(Path(config.log_file or folder / "train.log"))
    # last, so that no error in the options costs the user the earlier files
    if config.overwrite:
        delete_run(folder, config.network)
    if config.resume_epoch:
        set_later_epochs_aside(folder, config.network, first_epoch)
