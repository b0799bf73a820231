"""Folders under construction: each is locked by the process that fills it, and swept once that
process is gone.
"""

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
FORGOTTEN = 24 * 3600  # seconds after which a folder is swept where the disk knows no locks


@contextlib.contextmanager
def unfinished_folder(parent: Path) -> Iterator[Path]:
    """A new folder in `parent`, locked while the block runs, and removed behind it.

    Inside the block it may be renamed, after which it stays.
    """
    path, lock = _make(parent)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)  # which unlocks


def _make(parent: Path) -> tuple[Path, int]:
    """A new folder and the file descriptor that locks it."""
    while True:
        path = parent / f"{PART}{uuid.uuid4().hex}"  # unique on a disk that machines share too
        path.mkdir()
        try:
            lock = os.open(path, os.O_RDONLY)
        except FileNotFoundError:  # swept before it could be locked
            continue
        with contextlib.suppress(OSError):  # a disk without locks: its age alone protects it
            fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return path, lock
        os.close(lock)  # swept between the two calls


def sweep_unfinished(parent: str | os.PathLike) -> None:
    """Remove the folders in `parent` whose process ended without removing them."""
    for path in Path(parent).glob(f"{PART}*"):
        with contextlib.suppress(OSError):  # it has gone meanwhile, or is not ours to remove
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                if _is_abandoned(path, lock):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)


def _is_abandoned(path: Path, lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False  # its process is at work
    except OSError:  # a disk without locks
        return time.time() - path.stat().st_mtime > FORGOTTEN
    return True
