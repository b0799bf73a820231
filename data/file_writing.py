"""Write files atomically: even after a crash, a file has its old or its new content as a whole."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

#: Errors of file systems that cannot sync a folder (some network and FUSE file systems).
CANNOT_SYNC_FOLDERS = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let every OSError of the block name `path`, so that an error line says which file failed.

    An error of an open file (a full or broken disk) names no file, and an error of a temporary
    file names a file that the user does not know.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a temporary file, sync it to the disk, and rename it to `path`.

    The temporary file's name is unique on every machine that shares the folder.

    Raises:
        OSError: the error names `path`, which still has its old content.
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
        sync_to_disk(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    write_atomically(path, lambda file: file.write(text.encode()))


def sync_to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_SYNC_FOLDERS:
            raise
    finally:
        os.close(descriptor)


def set_aside(path: Path, word: str) -> Path:
    """Rename `path` to `<path>.<word>`, replacing a file of that name; return the new path."""
    aside = path.with_name(f"{path.name}.{word}")
    with naming(path):
        path.replace(aside)
    return aside


def delete_temporary_files(folder: Path) -> None:
    """Delete temporary files of killed processes. Nobody else may be writing into `folder`."""
    for pattern in (".*.tmp", ".*.pth.*"):  # the second: names of earlier versions
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
