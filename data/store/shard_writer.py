"""Pack single frame stores into shards, SQLite files of many videos each.

A shard is written to a temporary folder, synced to the disk and renamed; then the index is
rewritten; only then are the single stores deleted. Whenever the process is killed, each video is
therefore in its single store, in a shard, or in both with the same frames.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import threading
from pathlib import Path
from threading import Event

from data.data_error import DataError
from data.file_writing import sync_to_disk
from data.store.format import (
    COMPANIONS,
    COUNT,
    DATABASE,
    IMAGES,
    LAYOUT,
    PAGE_SIZE,
    SHARD_ID,
    VIDEOS,
    checksum,
    frame_name,
)
from data.store.frame_times import pack_times, rate_entry
from data.store.jpeg import check_jpeg
from data.store.read_ahead import byte_shares
from data.store.reader import FrameStore
from data.store.shard_index import find_in_shards, open_index, shard_numbers, shard_path
from data.store.shard_index_writer import write_index
from data.store.unfinished_folders import sweep_unfinished, unfinished_folder
from data.store.writer import placed, verify_frames

LOCK = ".shards.lock"
GIB = 2**30
CHUNK = 32  # frames that are copied at a time


class Packer:
    """Pack stores into shards as they are finished, in any number of threads. A context manager.

    Args:
        jpg: the dataset's folder jpg/.
        shard_bytes: a shard is written as soon as the stores that are not packed yet have this
            size.
        stop: once this is set, shards that are being written are given up.

    Attributes:
        failed: (folder, reason) of each store that could not be packed. It is left as it was.

    Raises:
        DataError: another process is packing this dataset.
    """

    def __init__(self, jpg: Path, shard_bytes: int = 2 * GIB, stop: Event | None = None):
        self.jpg, self.shard_bytes, self.stop = jpg, shard_bytes, stop or Event()
        self.failed: list[tuple[Path, str]] = []
        self._waiting: list[Path] = []
        self._bytes = 0
        self._lock = threading.Lock()  # of the lists
        self._publishing = threading.Lock()  # one thread at a time adds to the index

    def __enter__(self) -> Packer:
        self.jpg.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.jpg / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise DataError(f"{self.jpg}: is being packed by another process") from None
        except OSError:  # a disk without locks
            pass
        sweep_unfinished(self.jpg)
        if shard_numbers(self.jpg):
            write_index(self.jpg)  # a killed process may have left a shard that is not in it
        return self

    def __exit__(self, *exception) -> None:
        os.close(self._file)  # which unlocks

    def count(self) -> tuple[int, int]:
        """Return the numbers of videos and of shards in the index."""
        index = open_index(self.jpg)
        return index.count() if index else (0, 0)

    def add(self, folder: Path) -> None:
        """Add a finished single store to those to pack; write a shard if they are large enough."""
        try:
            size = (folder / DATABASE).stat().st_size
        except FileNotFoundError:  # it is in a shard already
            return
        if find_in_shards(folder):
            self._remove_copy(folder)
            return
        with self._lock:
            self._waiting.append(folder)
            self._bytes += size
            if self._bytes < self.shard_bytes:
                return
            folders, self._waiting, self._bytes = self._waiting, [], 0
        self._pack(folders)

    def finish(self) -> None:
        """Write the stores that are left to a last, smaller shard."""
        folders, self._waiting, self._bytes = self._waiting, [], 0
        if folders:
            self._pack(folders)

    def _pack(self, folders: list[Path]) -> None:
        folders = sorted(folders)  # so that the videos of a class lie together
        with unfinished_folder(self.jpg) as part:
            path = part / "shard.db"
            packed = self._write(path, folders)
            if self.stop.is_set() or not packed:
                return
            sync_to_disk(path)
            with self._publishing:
                number = max(shard_numbers(self.jpg), default=0) + 1
                path.rename(shard_path(self.jpg, number))
                sync_to_disk(self.jpg)
                write_index(self.jpg)
        for folder in packed:
            remove_single_store(folder, self.jpg)

    def _write(self, path: Path, folders: list[Path]) -> list[Path]:
        """Write a shard of the undamaged stores, and return their folders."""
        packed = []
        try:
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
                create_shard(connection)
                first = 0
                for folder in folders:
                    if self.stop.is_set():
                        return []
                    connection.execute("SAVEPOINT video")
                    try:
                        first += copy_store(connection, folder, self.jpg, first)
                    except DataError as error:
                        connection.execute("ROLLBACK TO video")
                        with self._lock:
                            self.failed.append((folder, str(error)))
                    else:
                        packed.append(folder)
                    connection.execute("RELEASE video")
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise OSError(f"{path}: {error}") from error
        return packed

    def _remove_copy(self, folder: Path) -> None:
        """Delete a single store that a killed process has packed but not yet deleted."""
        try:
            if same_frames(folder):
                remove_single_store(folder, self.jpg)
                return
            reason = f"{folder}: differs from the video of this name in {find_in_shards(folder)[0]}"
            reason += "; the folder's is used; rename or delete it"
        except DataError as error:
            reason = str(error)
        with self._lock:
            self.failed.append((folder, reason))


def create_shard(connection: sqlite3.Connection) -> None:
    """Create the tables of a shard in an empty file, and begin a transaction."""
    # No sync: a shard is synced as a whole before it is renamed. The journal is only needed to
    # leave out a damaged video.
    connection.executescript(
        f"PRAGMA page_size={PAGE_SIZE}; PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF;"
        f"PRAGMA application_id={SHARD_ID}; PRAGMA user_version={LAYOUT}; BEGIN"
    )
    connection.execute(IMAGES)
    connection.execute(VIDEOS)


def copy_store(connection: sqlite3.Connection, folder: Path, jpg: Path, first: int) -> int:
    """Copy a store into a shard, with checks of every frame, and return its number of frames.

    Args:
        connection: of the shard.
        folder: the video's folder.
        jpg: the dataset's folder jpg/; the video's name is relative to it.
        first: number of the shard's last frame so far.

    Raises:
        DataError: a frame is damaged.
    """
    name = os.fsencode(folder.relative_to(jpg))
    with FrameStore(folder, single=True) as store:
        if store.layout == 0:
            verify_frames(store)  # its frames have no checksums
        places: dict[str, object] = {}
        tables = {"Images": None, **{f"Companions{side}": side for side in store.companions}}
        for table, side in tables.items():
            if side is not None:
                sql = COMPANIONS.format(side)
                connection.execute(sql.replace("TABLE", "TABLE IF NOT EXISTS"))
            with placed(connection, table, places):
                sizes = _copy_frames(connection, store, table, name, first)
            if side is None:
                places["knots"] = byte_shares(sizes)
        places["companions"] = list(store.companions)
        times = (None, None)
        if store.fps:
            places["fps"] = rate_entry(store.rate)
            if store.has_varying_rate:
                times = pack_times((store.times() * 1e6).round())
        summary = json.dumps(places, separators=(",", ":"))
        row = (first, name, store.n_frames, summary, *times)
        connection.execute("INSERT INTO Videos VALUES (?, ?, ?, ?, ?, ?)", row)
        return store.n_frames


def _copy_frames(
    connection: sqlite3.Connection, store: FrameStore, table: str, name: bytes, first: int
) -> list[int]:
    """Copy the frames of one table; return the bytes of each."""
    sizes, video = [], name.decode(errors="replace")
    for start in range(0, store.n_frames, CHUNK):
        indices = range(start, min(start + CHUNK, store.n_frames))
        for index, jpeg in zip(indices, store.jpegs(indices, table), strict=True):
            number = first + index + 1
            crc32 = checksum(jpeg, number, table)
            sizes.append(len(jpeg))
            if table == "Images":
                width = check_jpeg(jpeg)[1]
                row = (frame_name(video, index + 1), jpeg, width, number, crc32)
                connection.execute("INSERT INTO Images VALUES (?, ?, ?, ?, ?)", row)
            else:
                connection.execute(f"INSERT INTO {table} VALUES (?, ?, ?)", (number, jpeg, crc32))
    return sizes


def same_frames(folder: Path) -> bool:
    """Tell whether a single store has the frames of the video of its name in a shard."""
    place = find_in_shards(folder)
    with FrameStore(folder, single=True) as one, FrameStore(folder, place=place) as other:
        if (one.n_frames, one.companions) != (other.n_frames, other.companions):
            return False
        chunks = (
            range(start, min(start + CHUNK, one.n_frames))
            for start in range(0, one.n_frames, CHUNK)
        )
        return all(one.jpegs(chunk) == other.jpegs(chunk) for chunk in chunks)


def remove_single_store(folder: Path, jpg: Path) -> None:
    """Delete a single store, and its folders if nothing else is in them."""
    for name in (COUNT, DATABASE):
        (folder / name).unlink(missing_ok=True)
    for empty in (folder, folder.parent):
        if empty != jpg:
            with contextlib.suppress(OSError):
                empty.rmdir()
