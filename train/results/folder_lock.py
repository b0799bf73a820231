"""Lock the results folder, so that two runs never write into the same one."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from data.file_writing import naming
from train.train_errors import TrainError

NAME = "train.lock"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
#: Errors of file systems without locks.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make `folder` and hold its lock; at the end delete the lock, and the folder if it is empty.

    The lock is a file that names its owner (host, process id, start time). The file itself is
    locked by the operating system, which releases it when the process ends in any way. On another
    machine that shares the folder that lock may not be visible: there, the file's text decides.

    Raises:
        TrainError: another training holds the lock, or `folder` is a file.
        OSError: the folder or the lock cannot be written.
    """
    made = _make_folder(folder)
    path = folder / NAME
    try:
        with naming(path):
            descriptor = _take(path)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # deleted while training
                path.unlink()
            os.close(descriptor)
    finally:
        for made_folder in made:
            with contextlib.suppress(OSError):  # it is not empty
                made_folder.rmdir()


def _make_folder(folder: Path) -> list[Path]:
    """Make `folder` and its parents; return those that were missing, the deepest first."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise TrainError(
            f"{folder}: a file has the name of the results folder; move it, or give another "
            "--model-dir or --task-name"
        ) from error
    return made


def _take(path: Path) -> int:
    """Lock the file, write this process's identity into it, and return the open descriptor."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            # not flock: worker processes inherit it, and survive a killed owner for a while
            has_locks = _lock(descriptor, path)
            if not _is_still(path, descriptor):  # its owner has just deleted it: make a new one
                os.close(descriptor)
                continue
            _refuse_a_living_owner(path, _owner(descriptor), has_locks)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(_myself()).encode(), 0)
            os.fsync(descriptor)
            return descriptor
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(descriptor)
            raise


def _lock(descriptor: int, path: Path) -> bool:
    """Take the operating system's lock; return whether the file system has such locks."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS:
            return False
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        raise _refusal(path, _owner(descriptor), "wait for it to end, or stop it") from None
    return True


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _refuse_a_living_owner(path: Path, owner: dict[str, Any] | None, has_locks: bool) -> None:
    """Raise TrainError unless the process that wrote the lock file is known to have ended."""
    me = _myself()
    if owner is None:  # the file is empty: its process ended too early, or is about to write it
        ended = has_locks
    elif owner["boot"] == me["boot"]:
        # another container on this machine has other process ids: there the lock alone can tell
        ended = not _is_running(owner) and (has_locks or owner["host"] == me["host"])
    else:
        ended = owner["host"] == me["host"]  # this machine, before it was started again
    if not ended:
        raise _refusal(path, owner, f"if it has ended, delete {path}")


def _refusal(path: Path, owner: dict[str, Any] | None, advice: str) -> TrainError:
    who = f" (process {owner['pid']} on {owner['host']})" if owner else ""
    return TrainError(
        f"{path.parent}: another training{who} is writing into this folder; {advice}, or give "
        "another --task-name"
    )


def _owner(descriptor: int) -> dict[str, Any] | None:
    """Read the owner from the lock file; None if the file is empty or damaged."""
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
        return {name: kind(owner[name]) for name, kind in _KINDS.items()}
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


_KINDS = {"host": str, "pid": int, "started": float, "boot": str}


def _myself() -> dict[str, Any]:
    """Return host, process id and start time of this process; ids are used again, times are not."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
        "boot": BOOT_ID.read_text().strip() if BOOT_ID.exists() else socket.gethostname(),
    }


def _is_running(owner: dict[str, Any]) -> bool:
    try:
        started = psutil.Process(owner["pid"]).create_time()
    except (psutil.Error, ValueError, OverflowError):
        return False
    return abs(started - owner["started"]) < 2  # seconds: the machine's clock may be corrected
