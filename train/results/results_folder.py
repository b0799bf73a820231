"""The path of a run's results folder, and the names of the checkpoints in it."""

from __future__ import annotations

from pathlib import Path

from train.config import Config

#: The number of newest epochs whose checkpoints keep the optimiser's state. With two, a run can
#: resume exactly even if the newest checkpoint is damaged.
FULL = 2


def results_folder(config: Config) -> Path:
    """Return `<model-dir>/<network>_gates_<True|False>`, followed by `_<task-name>` if given."""
    task = f"_{config.task_name}" if config.task_name else ""
    network = file_name(config.network)
    return Path(config.model_dir or "results") / f"{network}_gates_{config.gates}{task}"


def keeps_epoch(config: Config, epoch: int, *, last: bool) -> bool:
    """Return whether an epoch has a checkpoint of its own; the last epoch always has one."""
    return last or epoch % config.save_frequency == 0


def epoch_file(folder: Path, network: str, epoch: int) -> Path:
    """Return the path of an epoch's checkpoint, `<network>_ep-0020.pth`."""
    return folder / f"{file_name(network)}_ep-{epoch:04d}.pth"


def file_name(network: str) -> str:
    """Return a network's name without colons, for file names: scp reads `a:b` as host and path."""
    return network.replace(":", "_")


def epoch_files(folder: Path, network: str) -> dict[int, Path]:
    """Return the checkpoints of finished epochs in `folder`, by epoch, in ascending order."""
    found = {}
    start = f"{file_name(network)}_ep-"
    for path in folder.glob(f"{start}*.pth"):
        number = path.stem.removeprefix(start)
        if number.isdecimal() and path.is_file():
            found[int(number)] = path
    return dict(sorted(found.items()))


def checkpoints(folder: Path, network: str) -> list[Path]:
    """Return the checkpoints in `folder`: last.pth, the epochs' (newest first), best.pth."""
    epochs = reversed(epoch_files(folder, network).values())
    paths = [folder / "last.pth", *epochs, folder / "best.pth"]
    return [path for path in paths if path.is_file()]
