"""Write the frames of a video to a store, upgrade a store of an older layout, verify a store."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from data.data_error import DataError
from data.file_writing import sync_to_disk
from data.store.format import (
    APPLICATION_ID,
    COMPANIONS,
    COUNT,
    DATABASE,
    IMAGES,
    LAYOUT,
    PAGE_SIZE,
    SUMMARY,
    TIMES,
    checksum,
    frame_name,
    open_file,
    read_header,
)
from data.store.frame_times import measure, pack_times, rate_entry
from data.store.jpeg import BadJpeg, check_jpeg, shrink_jpeg
from data.store.read_ahead import byte_shares
from data.store.reader import FrameStore
from data.store.shard_index import find_in_shards
from data.store.unfinished_folders import unfinished_folder

CHUNK = 32  # frames that are decoded at a time to verify a store


def write_store(
    folder: str | os.PathLike,
    video_id: str,
    jpegs: Iterable[bytes],
    *,
    companions: Sequence[int] = (),
    times: Sequence[float] = (),
) -> int:
    """Write all the frames of a video, or change nothing.

    At every moment, also after a crash, the folder holds either the new store or what it held
    before.

    Args:
        folder: the video's folder, created if need be. A store in it is replaced.
        video_id: the name in the frames' ObjId, `<video_id>/frame_00001` and so on.
        jpegs: the frames' JPEGs in order, consumed one by one. Errors that it raises are passed on.
        companions: short sides in pixels of smaller copies to store of each frame, for
            `FrameStore.read_at_least`.
        times: the seconds at which each frame is shown; empty if they are not known.
            `FrameStore.fps` is computed from them. They are read after the last JPEG, so `jpegs`
            may add to them.

    Returns:
        The number of frames.

    Raises:
        DataError: there is no frame, or one is not a whole JPEG.
        OSError: the disk is full, or the folder cannot be written.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with unfinished_folder(folder.parent) as part:
        n_frames = _write_database(part / DATABASE, video_id, jpegs, companions, times)
        (part / COUNT).write_text(f"{n_frames}\n")
        for name in (DATABASE, COUNT):
            sync_to_disk(part / name)
        sync_to_disk(part)
        _move_into_place(part, folder)
    return n_frames


def is_finished(folder: str | os.PathLike) -> bool:
    """Tell whether a video has a whole store, in its folder or in a shard.

    A folder is judged by the header of its file and by `n_frames`, a shard by its index.

    Raises:
        DataError: the index of the shards is damaged.
    """
    return has_single_store(folder) or find_in_shards(folder) is not None


def has_single_store(folder: str | os.PathLike) -> bool:
    """Tell whether a folder holds a whole store, judging by the file's header and `n_frames`."""
    folder = Path(folder)
    path = folder / DATABASE
    try:
        file = open_file(path)
        try:
            read_header(path, file)
        finally:
            os.close(file)
    except DataError:
        return False
    return (folder / COUNT).exists()


def _write_database(
    path: Path,
    video_id: str,
    jpegs: Iterable[bytes],
    companions: Sequence[int],
    times: Sequence[float],
) -> int:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # No journal and no sync: after a crash nobody reads the unfinished folder.
        connection.executescript(
            f"PRAGMA page_size={PAGE_SIZE}; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
            f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={LAYOUT}; BEGIN"
        )
        # ObjId must be UTF-8, but the name of a file need not be.
        video_id = os.fsencode(video_id).decode(errors="replace")
        places, sizes = {}, []
        small: dict[int, list[tuple]] = {side: [] for side in sorted(companions)}
        with placed(connection, "Images", places):
            connection.execute(IMAGES)
            for count, jpeg in enumerate(jpegs, start=1):
                name = frame_name(video_id, count)
                try:
                    height, width = check_jpeg(jpeg)
                    for side, rows in small.items():
                        if side < min(height, width):
                            smaller = shrink_jpeg(jpeg, side)
                            crc32 = checksum(smaller, count, f"Companions{side}")
                            rows.append((count, smaller, crc32))
                except BadJpeg as error:
                    raise DataError(f"{path.parent.parent / name} {error}") from error
                row = (name, jpeg, width, count, checksum(jpeg, count, "Images"))
                connection.execute("INSERT INTO Images VALUES (?, ?, ?, ?, ?)", row)
                sizes.append(len(jpeg))
        if not sizes:
            raise DataError(f"{path.parent.parent / video_id}: no frames")
        small = {side: rows for side, rows in small.items() if len(rows) == len(sizes)}
        for side, rows in small.items():
            with placed(connection, f"Companions{side}", places):
                connection.execute(COMPANIONS.format(side))
                connection.executemany(f"INSERT INTO Companions{side} VALUES (?, ?, ?)", rows)
        connection.execute("CREATE INDEX ImagesByObjId ON Images(ObjId)")
        places |= {"companions": list(small), "knots": byte_shares(sizes)}
        measured = measure(times, len(sizes))
        if measured:
            rate, microseconds = measured
            places["fps"] = rate_entry(rate)
            if rate.varies:
                connection.execute(TIMES)
                connection.execute("INSERT INTO Times VALUES (?, ?)", pack_times(microseconds))
        summary = json.dumps(places, separators=(",", ":"))
        connection.execute(SUMMARY.format(len(sizes), summary))
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise OSError(f"{path}: {error}") from error
    finally:
        connection.close()
    return len(sizes)


@contextlib.contextmanager
def placed(connection: sqlite3.Connection, table: str, places: dict) -> Iterator[None]:
    """Record in `places` which bytes of a store the block writes."""

    def end() -> int:
        return connection.execute("PRAGMA page_count").fetchone()[0] * PAGE_SIZE

    start = end()
    yield
    places[table] = [start, end()]


def _move_into_place(part: Path, folder: Path) -> None:
    if folder.exists():
        # A store without n_frames is valid, but one with another store's n_frames is not.
        (folder / COUNT).unlink(missing_ok=True)
        (part / DATABASE).replace(folder / DATABASE)
        (part / COUNT).replace(folder / COUNT)
        sync_to_disk(folder)
    else:
        part.rename(folder)
    sync_to_disk(folder.parent)


def upgrade_store(
    folder: str | os.PathLike,
    *,
    companions: Sequence[int] = (),
    times: Callable[[int], Sequence[float]] | None = None,
) -> bool:
    """Rewrite a store in the newest layout, with the same JPEGs.

    The frames of layout 0 have no checksums, so they are decoded first: a frame that cannot be
    decoded must not get a checksum that declares it good.

    Args:
        folder: the video's folder.
        companions: short sides of the companion frames to make; if empty, those of the store.
        times: returns the seconds of each frame, given their number; called if the store does not
            say its frame rate.

    Returns:
        False if the store has the newest layout, these companions and a frame rate already.

    Raises:
        DataError: the store is damaged. It is left unchanged.
    """
    with FrameStore(folder) as store:
        wanted = tuple(sorted(companions or store.companions))
        lacks_rate = times is not None and store.fps is None
        if store.layout == LAYOUT and store.companions == wanted and not lacks_rate:
            return False
        seconds = times(store.n_frames) if lacks_rate else store.times() if store.fps else ()
        if store.layout == 0:
            verify_frames(store)
        frames = (store.jpegs([index])[0] for index in range(store.n_frames))
        write_store(folder, Path(folder).name, frames, companions=wanted, times=seconds)
    return True


def verify_store(folder: str | os.PathLike) -> int:
    """Read and decode every frame of a store, and return the number of frames.

    Raises:
        DataError: names the file and the frame of the first fault.
    """
    with FrameStore(folder) as store:
        verify_frames(store)
        store.check_structure()
        if store.fps:
            store.times()
        return store.n_frames


def verify_frames(store: FrameStore) -> None:
    """Decode every frame and companion frame. Raises DataError for the first damaged one."""
    for start in range(0, store.n_frames, CHUNK):
        # Each chunk includes frame 0, to check that all frames have its size.
        chunk = [0, *range(start, min(start + CHUNK, store.n_frames))]
        store.read(chunk)
        for side in store.companions:
            store.read_at_least(chunk, side)
