"""Find a video in the shards of a dataset: `jpg/shards.index` says which shard holds it.

A shard, `jpg/shard-00001.db`, is a SQLite file with the frames of many videos. Its tables are those
of a single frame store. The frames of all its videos are numbered one after the other, and the
table `Videos` says for each video the number before its first frame. Shards never change; see
`data.store.shard_writer`.

The index only repeats what the shards say, so `data.store.shard_index_writer` can make it anew. A
video is opened only if the index and the shard agree about it.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from data.data_error import DataError
from data.store.format import open_file, read_header

INDEX = "shards.index"
INDEX_ID, VERSION = 0x46525349, 1  # in the file's header: "FRSI", and the version written
SHARD_NAME = re.compile(r"shard-(\d{5,})\.db")
REMEDY = "`python -m run.convert --pack` makes the index anew"


class Place(NamedTuple):
    """Where a video is."""

    path: Path  # the shard
    name: bytes  # the video's folder, relative to jpg/
    first: int  # number of the frame before its first one
    n_frames: int


def shard_path(jpg: Path, number: int) -> Path:
    """Return the path of a shard."""
    return jpg / f"shard-{number:05d}.db"


def shard_numbers(jpg: str | os.PathLike) -> dict[int, int]:
    """Return number -> bytes of the shards that are there, in order."""
    with os.scandir(jpg) as entries:
        found = ((SHARD_NAME.fullmatch(entry.name), entry) for entry in entries)
        return dict(
            sorted((int(match[1]), entry.stat().st_size) for match, entry in found if match)
        )


class ShardIndex:
    """The index of one dataset, read only.

    Args:
        jpg: the folder that holds the index.

    Raises:
        DataError: it is damaged, or does not belong to the shards that are there.
    """

    def __init__(self, jpg: str):
        self.jpg, self.path = Path(jpg), Path(jpg) / INDEX
        file = open_file(self.path)
        try:
            read_header(self.path, file, application=INDEX_ID, newest=VERSION)
        finally:
            os.close(file)
        with self._errors():
            self._connection = connect(self.path)
            said = dict(self._connection.execute("SELECT shard, bytes FROM Shards").fetchall())
            _check_integers(*said, *said.values())
        there = shard_numbers(self.jpg)
        for number, size in said.items():
            if there.get(number) != size:
                found = f"has {there[number]:,}" if number in there else "is missing"
                self.close()
                raise DataError(
                    f"{shard_path(self.jpg, number)}: {found}, but {INDEX} says {size:,} bytes; "
                    f"copy the dataset again, or delete {INDEX}: {REMEDY}"
                )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def find(self, name: bytes) -> Place | None:
        """Return where a video is; None if no shard holds it."""
        sql = "SELECT shard, first, n_frames FROM Videos WHERE name = ?"
        with self._errors():
            row = self._connection.execute(sql, (name,)).fetchone()
            _check_integers(*(row or ()))
        return Place(shard_path(self.jpg, row[0]), name, *row[1:]) if row else None

    def count(self) -> tuple[int, int]:
        """Return the numbers of videos and of shards."""
        with self._errors():
            sql = "SELECT (SELECT count(*) FROM Videos), (SELECT count(*) FROM Shards)"
            return self._connection.execute(sql).fetchone()

    def names(self) -> Iterator[str]:
        """Yield the name of every video, in the order of their bytes."""
        with self._errors():
            for (name,) in self._connection.execute("SELECT name FROM Videos ORDER BY name"):
                yield os.fsdecode(name)

    def folders(self) -> list[str]:
        """Return the names directly below jpg/: class folders, and videos without one."""
        found, after = [], b""
        sql = "SELECT name FROM Videos WHERE name >= ? ORDER BY name LIMIT 1"
        with self._errors():
            while row := self._connection.execute(sql, (after,)).fetchone():
                top, slash, _ = row[0].partition(b"/")
                found.append(os.fsdecode(top))
                # behind all names that begin with `top/`, or just behind `top`
                after = top + b"0" if slash else top + b"\0"
        return list(dict.fromkeys(found))

    def inside(self, folder: str) -> list[str]:
        """Return the names of the videos in a class folder."""
        prefix = os.fsencode(folder) + b"/"
        sql = "SELECT substr(name, ?) FROM Videos WHERE name >= ? AND name < ?"
        with self._errors():
            rows = self._connection.execute(sql, (len(prefix) + 1, prefix, prefix[:-1] + b"0"))
            return [os.fsdecode(name) for (name,) in rows]

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, TypeError) as error:
            raise DataError(f"{self.path}: damaged ({error}); delete it: {REMEDY}") from error


def _check_integers(*values: object) -> None:
    """Refuse other types, which a damaged row may have."""
    if not all(type(value) is int and 0 <= value < 2**53 for value in values):
        raise sqlite3.DatabaseError(f"a row has {values!r:.80}")


def connect(path: Path) -> sqlite3.Connection:
    """Open a SQLite file that is never changed."""
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    return sqlite3.connect(uri, uri=True, check_same_thread=False)


class _OpenIndices(threading.local):
    """The open indices of one thread: folder -> what identifies the file, and the index."""

    def __init__(self):
        self.process: int = os.getpid()
        self.indices: dict[str, tuple[tuple, ShardIndex]] = {}
        self.inherited: list[dict] = []


_open_indices = _OpenIndices()


def open_index(jpg: str | os.PathLike) -> ShardIndex | None:
    """Return the index of a dataset's folder jpg/, which stays open; None if it has none.

    Raises:
        DataError: see `ShardIndex`.
    """
    cache, jpg = _open_indices, os.fspath(jpg)
    if cache.process != os.getpid():
        # After a fork the child must neither use nor close the parent's SQLite connections.
        cache.inherited.append(cache.indices)
        cache.process, cache.indices = os.getpid(), {}
    try:
        stat = os.stat(f"{jpg}/{INDEX}")  # noqa: PTH116  # faster than a Path
    except OSError:
        return None
    identity = stat.st_ino, stat.st_size, stat.st_mtime_ns
    known = cache.indices.get(jpg)
    if known and known[0] == identity:
        return known[1]
    if known:
        known[1].close()
        del cache.indices[jpg]
    index = ShardIndex(jpg)
    cache.indices[jpg] = identity, index
    return index


def find_in_shards(folder: str | os.PathLike) -> Place | None:
    """Return the place of a video by its folder, `jpg/[<class>/]<id>`; None if no shard holds it.

    Raises:
        DataError: the index is damaged.
    """
    parent, name = os.path.split(os.path.abspath(folder))  # noqa: PTH100
    for _ in range(2):
        index = open_index(parent)
        place = index.find(os.fsencode(name)) if index else None
        if place:
            return place
        parent, above = os.path.split(parent)
        name = f"{above}/{name}"
    return None
