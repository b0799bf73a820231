"""Write the index of a dataset's shards, from what the shards themselves say."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import uuid
from pathlib import Path

from data.data_error import DataError
from data.file_writing import naming, sync_to_disk
from data.store.format import SHARD_ID, open_file, read_header
from data.store.shard_index import (
    INDEX,
    INDEX_ID,
    VERSION,
    ShardIndex,
    connect,
    shard_numbers,
    shard_path,
)

TABLES = (
    "CREATE TABLE Videos(name BLOB PRIMARY KEY, shard INT, first INT, n_frames INT) WITHOUT ROWID;"
    "CREATE TABLE Shards(shard INTEGER PRIMARY KEY, bytes INT);"
)
CACHE_KIB = 64 * 1024  # while the index is written, since names come in no order


def write_index(jpg: Path) -> None:
    """Bring the index up to date with the shards that are there, atomically.

    Rows of shards that the old index knows are copied. A damaged index is made anew.

    Raises:
        DataError: a shard is damaged.
        OSError: the disk is full, or the folder cannot be written.
    """
    path, there = jpg / INDEX, shard_numbers(jpg)
    unfinished = path.with_name(f".{INDEX}.{uuid.uuid4().hex}.tmp")
    with naming(path):
        try:
            known = _copy(jpg, unfinished, there)
            if known == there:
                return
            _add_rows(jpg, unfinished, {n: size for n, size in there.items() if n not in known})
            sync_to_disk(unfinished)
            unfinished.replace(path)
            sync_to_disk(jpg)
        except sqlite3.Error as error:
            raise OSError(f"{path}: {error}") from error
        finally:
            unfinished.unlink(missing_ok=True)


def _copy(jpg: Path, unfinished: Path, there: dict[int, int]) -> dict[int, int]:
    """Copy the old index; return its shards. Begin a new one if it is missing or damaged."""
    try:
        index = ShardIndex(os.fspath(jpg))
        index.close()
        shutil.copyfile(jpg / INDEX, unfinished)
        connection = connect(unfinished)
        with contextlib.closing(connection):
            (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            known = dict(connection.execute("SELECT shard, bytes FROM Shards").fetchall())
        if verdict == "ok" and known.items() <= there.items():
            return known
    except (DataError, sqlite3.Error):
        pass
    unfinished.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(unfinished)) as connection:
        connection.executescript(
            f"PRAGMA application_id={INDEX_ID}; PRAGMA user_version={VERSION}; {TABLES}"
        )
    return {}


def _add_rows(jpg: Path, unfinished: Path, shards: dict[int, int]) -> None:
    connection = sqlite3.connect(unfinished, isolation_level=None)
    with contextlib.closing(connection):
        # No sync: the file is synced as a whole before it is renamed.
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        connection.execute("BEGIN")
        for number, size in shards.items():
            rows = ((name, number, first, count) for name, first, count in videos_of(jpg, number))
            connection.executemany("INSERT OR REPLACE INTO Videos VALUES (?, ?, ?, ?)", rows)
            connection.execute("INSERT INTO Shards VALUES (?, ?)", (number, size))
        connection.execute("COMMIT")


def videos_of(jpg: Path, number: int) -> list[tuple[bytes, int, int]]:
    """Return (name, first, n_frames) of the videos of a shard.

    Raises:
        DataError: the shard is damaged.
    """
    path = shard_path(jpg, number)
    file = open_file(path)
    try:
        read_header(path, file, application=SHARD_ID)
    finally:
        os.close(file)
    try:
        with contextlib.closing(connect(path)) as connection:
            return connection.execute("SELECT name, first, n_frames FROM Videos").fetchall()
    except sqlite3.DatabaseError as error:
        raise DataError(f"{path}: damaged ({error}); copy it again") from error
