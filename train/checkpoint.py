"""Save checkpoints: a crash at any moment leaves a complete file under every name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch


def save_checkpoint(path: Path, content: dict[str, Any], *, also: Sequence[Path] = ()) -> None:
    """Write `content` to `path`: into a temporary file, to the disk, then renamed into place.

    `also` names further files of the same content in the same folder. They are hard links where
    the file system has them, which is safe: a checkpoint is replaced, never written into.

    Raises:
        OSError: the disk is full, or the folder cannot be written. What `path` held stays.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    second = path.with_name(f".{path.name}.{os.getpid()}.link")
    try:
        with unfinished.open("wb") as file:
            _write(content, file, path)
            file.flush()
            os.fsync(file.fileno())
        for other in also:
            try:
                os.link(unfinished, second)
            except OSError:
                shutil.copyfile(unfinished, second)
            second.replace(other)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
        second.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _write(content: dict[str, Any], file: BinaryIO, path: Path) -> None:
    try:
        torch.save(content, file)
    except RuntimeError as error:
        # torch fails once more while it closes its archive, and the disk's own word is lost
        if isinstance(error.__context__, OSError):
            raise OSError(error.__context__.errno, error.__context__.strerror, path) from error
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def epoch_file(folder: Path, network: str, epoch: int) -> Path:
    """`<network>_ep-0020.pth`."""
    return folder / f"{network}_ep-{epoch:04d}.pth"


def drop_old(folder: Path, network: str, keep: int, *, newest: int) -> None:
    """Delete all but the last `keep` checkpoints of epochs up to `newest`; 0 keeps all."""
    if keep:
        limit = epoch_file(folder, network, newest)
        paths = sorted(path for path in folder.glob(f"{network}_ep-*.pth") if path <= limit)
        for path in paths[:-keep]:
            path.unlink()


def sweep_unfinished(folder: Path) -> None:
    """Delete what a killed run was writing."""
    for path in folder.glob(".*.pth.*"):
        path.unlink(missing_ok=True)
