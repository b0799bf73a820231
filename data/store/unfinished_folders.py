"""Unfinished folders: locked by the process that fills them, removed once that process has died."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

PART = ".part-"  # begins the name of a folder that is being filled
ABANDONED_AFTER = 24 * 3600  # seconds without a change, on a disk that has no locks


@contextlib.contextmanager
def unfinished_folder(parent: Path) -> Iterator[Path]:
    """Create a folder in `parent` that is locked during the block and removed at its end.

    To keep the folder, rename it inside the block.
    """
    path, lock = _make(parent)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)  # which unlocks


def _make(parent: Path) -> tuple[Path, int]:
    """Create a folder; return it and the file descriptor that locks it."""
    while True:
        path = parent / f"{PART}{uuid.uuid4().hex}"  # unique among machines that share a disk
        path.mkdir()
        try:
            lock = os.open(path, os.O_RDONLY)
        except FileNotFoundError:  # removed by another process before it could be locked
            continue
        with contextlib.suppress(OSError):  # a disk without locks: the folder's age protects it
            fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return path, lock
        os.close(lock)  # removed between opening and locking


def sweep_unfinished(parent: str | os.PathLike) -> None:
    """Remove the unfinished folders in `parent` whose process has died."""
    for path in Path(parent).glob(f"{PART}*"):
        with contextlib.suppress(OSError):  # it has been removed meanwhile, or may not be removed
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                if _is_abandoned(path, lock):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)


def _is_abandoned(path: Path, lock: int) -> bool:
    """Tell whether the process that fills a folder has died, by taking the folder's lock."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False  # its process is still working
    except OSError:  # a disk without locks
        return time.time() - path.stat().st_mtime > ABANDONED_AFTER
    return True
