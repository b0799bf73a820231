"""Compute how much a run will write, and check that it fits on the disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from data.file_writing import naming
from train.config import Config
from train.results.results_folder import FULL, checkpoints, epoch_files, keeps_epoch
from train.train_errors import TrainError

#: Number of tensors of a parameter's size in the state of each optimiser.
STATE_TENSORS = {"sgd": 1, "adamw": 2}


class Sizes(NamedTuple):
    """Bytes of a checkpoint with and without the optimiser's state."""

    full: int
    slim: int


def checkpoint_sizes(net: nn.Module, config: Config) -> Sizes:
    """Return the sizes of this run's checkpoints, counting their tensors only."""
    slim = _bytes(net.state_dict().values()) * (2 if config.ema else 1)
    kept = STATE_TENSORS[config.optimiser] if config.optimiser != "sgd" or config.momentum else 0
    return Sizes(slim + kept * _bytes(net.parameters()), slim)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def check_space(
    folder: Path, config: Config, sizes: Sizes, *, first_epoch: int, last_epoch: int
) -> str:
    """Return a line on how much the run will write into `folder`, and how much space is free.

    The folder need not exist yet.

    Raises:
        TrainError: the disk has too little space.
    """
    before = [epoch for epoch in epoch_files(folder, config.network) if epoch < first_epoch]
    epochs = len(before) + sum(
        keeps_epoch(config, epoch, last=epoch == last_epoch)
        for epoch in range(first_epoch, last_epoch + 1)
    )
    epochs = min(epochs, config.keep or epochs)
    full = epochs if config.keep_optimiser == "all" else min(FULL, epochs)
    of_epochs = full * sizes.full + (epochs - full) * sizes.slim
    best = sizes.full if config.keep_optimiser == "all" else sizes.slim
    # while a file is replaced there are two of it; the third newest epoch is slimmed last
    total = sizes.full + of_epochs + best + 2 * sizes.full
    there = set(checkpoints(folder, config.network))
    if config.resume_epoch:  # later epochs are renamed and keep their space
        later = epoch_files(folder, config.network).items()
        there -= {path for epoch, path in later if epoch >= first_epoch}
    with naming(folder):
        new = total - sum(path.stat().st_size for path in there)
        there_already = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(there_already).free
    said = (
        f"checkpoints will take {_gb(total)}: last.pth {_gb(sizes.full)}, {epochs} of epochs "
        f"{_gb(of_epochs)}, best.pth {_gb(best)}, {_gb(2 * sizes.full)} while saving; "
        f"{_gb(free)} are free in {folder}"
    )
    if new > free:
        raise TrainError(
            f"{said}: free disk space, keep fewer checkpoints by --keep N or a larger "
            "--save-frequency, or give another --model-dir"
        )
    return said


def _gb(number: int) -> str:
    return f"{number / 1e9:.2f} GB"
