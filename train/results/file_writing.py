"""Writing files so that a crash or a full disk leaves the old file or the new one, whole."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

#: What file systems that cannot sync a folder answer (some network and FUSE file systems).
CANNOT_SYNC_FOLDERS = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Make every OSError of the block name `path`, so that one line can say which file failed.

    Errors of open files (a full disk, a broken one) name no file; errors of a temporary file name
    one that the user never asked for.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a temporary file, bring it to the disk, and rename it to `path`.

    The temporary file's name is unique on every machine that shares the folder.

    Raises:
        OSError: naming `path`; what `path` held is still there, whole.
    """
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    with naming(path):
        try:
            with unfinished.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):  # the first error is the one to report
                unfinished.unlink()
            raise
        _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    write_atomically(path, lambda file: file.write(text.encode()))


def _sync_folder(folder: Path) -> None:
    """Bring the renaming to the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_SYNC_FOLDERS:
            raise
    finally:
        os.close(descriptor)


def set_aside(path: Path, word: str) -> Path:
    """Rename `path` to `<path>.<word>`, replacing what an earlier call left there."""
    aside = path.with_name(f"{path.name}.{word}")
    with naming(path):
        path.replace(aside)
    return aside


def sweep_unfinished(folder: Path) -> None:
    """Delete the temporary files of killed runs. Call it only while holding the folder's lock."""
    for pattern in (".*.tmp", ".*.pth.*"):  # the second one: as named by earlier versions
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
