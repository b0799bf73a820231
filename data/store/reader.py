"""Read the frames of one video from its store, or from a shard."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from data.data_error import DataError
from data.resource_shortage import shortage
from data.store.format import (
    COUNT,
    DATABASE,
    LAYOUT,
    PAGE_SIZE,
    SHARD_ID,
    Contents,
    checksum,
    frame_name,
    open_file,
    read_contents,
    read_header,
    summarised_contents,
    unreadable,
)
from data.store.frame_times import unpack_times
from data.store.jpeg import BadJpegAt, decode_jpegs
from data.store.read_ahead import byte_range, prefetch
from data.store.shard_index import REMEDY, Place, find_in_shards

MOST_KEYS = 512  # frames in one query
CACHE_KIB = 256  # page cache of a connection; SQLite's default is 2 MB
LONGEST_COUNT = 64  # bytes that are read of an n_frames file
TRIES = 100  # to open a store that is being replaced at that moment
FRAME_NAME = re.compile(r"frame_(\d{1,9})$")


class FrameStore:
    """The frames of one video, read only. A context manager.

    Args:
        folder: the video's folder. It holds `frames.db` and usually `n_frames`. If it does not
            exist, the video of that name is read from a shard of its dataset.
        single: do not look for the video in shards.
        place: the video's place in a shard, which is read even if there is a single store.

    Attributes:
        n_frames: the number of frames.
        companions: short sides in pixels, rising, of the stored smaller copies of the frames.
        layout: the version of the format; 0 for a store of dataset2database.
        fps: frames per second, the mean if the rate varies; None if the store does not say it.

    Raises:
        DataError: the file is missing, damaged, incomplete or no frame store, or `n_frames` differs
            from the number of its frames. The message names the file.
        MachineError: this process can open no more files.
    """

    def __init__(
        self, folder: str | os.PathLike, *, single: bool = False, place: Place | None = None
    ):
        self.folder = Path(folder)
        self.path = self.folder / DATABASE
        self._single, self._place = single, place
        self._file: int | None = None
        self._connection: sqlite3.Connection | None = None
        for attempt in range(TRIES):
            try:
                self._open()
                return
            except BaseException as error:
                replaced = self._was_replaced()
                self.close()
                if not (replaced and isinstance(error, DataError) and attempt < TRIES - 1):
                    raise

    def _open(self) -> None:
        self._times: np.ndarray | None = None
        if self._place is None:
            try:
                # for the header and the requests to the kernel
                self._file = open_file(self.path)
            except DataError:
                self._place = None if self._single else find_in_shards(self.folder)
                if self._place is None:
                    raise
        if self._place is None:
            self._open_single()
        else:
            self._open_in_shard(self._place)
        self.companions = tuple(self._tables)
        self.fps = self.rate.fps if self.rate else None

    def _open_single(self) -> None:
        prefetch(self._file, 0, 2 * PAGE_SIZE)  # arrives while n_frames is read
        count = self._read_count()
        header = read_header(self.path, self._file)
        self._first, self._video = 0, ""
        with self._errors():
            self._connect(immutable=header.ours)
            contents = read_contents(self._connection, header)
            self._take(contents)
            self._rows = None if self.layout else self._scan()
            self.n_frames = self._check_count(count, contents.n_frames)

    def _open_in_shard(self, place: Place) -> None:
        """Open the video of a shard, after checking that the shard agrees with the index."""
        self.path, self._first, self._rows = place.path, place.first, None
        self._video = place.name.decode(errors="replace")
        self._file = open_file(self.path)
        read_header(self.path, self._file, application=SHARD_ID)
        with self._errors():
            self._connect(immutable=True)
            sql = "SELECT name, n_frames, places FROM Videos WHERE first = ?"
            row = self._connection.execute(sql, (place.first,)).fetchone()
            if row is None or row[:2] != (place.name, place.n_frames) or place.n_frames < 1:
                raise DataError(
                    f"{self.path}: does not agree with the index about {self._video!r}; copy the "
                    f"dataset again, or delete the index: {REMEDY}"
                )
            self._take(summarised_contents(LAYOUT, place.n_frames, row[2]))
        self.n_frames = place.n_frames

    def _take(self, contents: Contents) -> None:
        self.layout, self._tables = contents.layout, contents.companions
        self._places, self.rate = contents.places, contents.rate

    def _was_replaced(self) -> bool:
        """Tell whether the store was replaced while it was being opened.

        The header, the frames and `n_frames` may then have come from two different stores.
        """
        if self._file is None:
            return False
        try:
            return not os.path.samestat(self.path.stat(), os.fstat(self._file))
        except FileNotFoundError:
            return self._place is None  # it may have been packed into a shard
        except OSError:
            return False

    def _connect(self, *, immutable: bool) -> None:
        # Files of our layouts are replaced as a whole, never changed, so SQLite need not lock them.
        mode = "mode=ro&immutable=1" if immutable else "mode=ro"
        uri = f"{self.path.absolute().as_uri()}?{mode}"
        self._connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
        self._connection.text_factory = lambda text: text.decode(errors="replace")
        self._connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")

    def __enter__(self) -> FrameStore:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def __len__(self) -> int:
        return self.n_frames

    @property
    def duration(self) -> float | None:
        """Return the seconds that the video lasts; None if the store does not say its rate."""
        return self.n_frames / self.fps if self.fps else None

    @property
    def has_varying_rate(self) -> bool:
        """Tell whether the time from one frame to the next varies."""
        return bool(self.rate and self.rate.varies)

    def check_rate(self) -> None:
        """Raise DataError, which says what to do, if the store does not say its frame rate."""
        if self.rate is None:
            raise DataError(
                f"{self.path}: does not say its frame rate; add it from the videos by "
                "`python -m run.convert --videos FOLDER --dataset FOLDER --upgrade`, or give the "
                "rate of all by `--upgrade --fps N` without --videos"
            )

    def times(self) -> np.ndarray:
        """Return when each frame is shown, in seconds from the first one: float64 (n_frames,).

        Raises:
            DataError: the store does not say its frame rate, or the times are damaged.
        """
        self.check_rate()
        if not self.rate.varies:
            return np.arange(self.n_frames) / self.rate.fps
        if self._times is None:
            with self._errors():
                where = f"Videos WHERE first = {self._first:d}" if self._place else "Times"
                sql = f"SELECT microseconds, crc32 FROM {where}"
                row = self._connection.execute(sql).fetchone()
            try:
                self._times = unpack_times(*(row or (None, None)), self.n_frames)
            except ValueError as error:
                raise DataError(f"{self.path}: {error}; convert the video again") from error
        return self._times

    def close(self) -> None:
        """Close the file. Reading frames raises an error afterwards."""
        if self._connection is not None:
            self._connection.close()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def read(self, indices: Sequence[int]) -> np.ndarray:
        """Read the frames at `indices`, counted from 0, in that order; repeats are allowed.

        Returns:
            uint8 (len(indices), H, W, 3), RGB.

        Raises:
            DataError: names the file and the frame that is missing, damaged or truncated.
            IndexError: an index is not in 0..n_frames - 1.
        """
        return self._decode(indices, "Images", 0)

    def read_at_least(self, indices: Sequence[int], short_side: int) -> np.ndarray:
        """Read frames as `read` does, at a smaller size where that takes less time.

        Companion frames (smaller copies in the store) are read instead if they are large enough.
        Frames that are larger than asked for are decoded approximately and at a fraction of their
        size; see `decode_jpegs`.

        Returns:
            uint8 (len(indices), h, w, 3), RGB, min(h, w) at least `short_side`; the same as `read`
            if the stored frames are no larger than that.
        """
        enough = (side for side in self.companions if 0 < short_side <= side)
        table = self._tables.get(next(enough, 0), "Images")
        return self._decode(indices, table, short_side)

    def jpegs(self, indices: Sequence[int], table: str = "Images") -> list[bytes]:
        """Return the stored JPEGs of the frames at `indices`, undecoded. Raises as `read` does.

        `table` may also be the name of a table of smaller copies, such as "Companions128".
        """
        return self._fetch(np.asarray(indices, np.int64).tolist(), table)

    def check_structure(self) -> None:
        """Let SQLite check its pages and indices. Raises DataError where they are damaged.

        The pages of a shard are those of many videos and are not checked: a frame that cannot be
        found is noticed when it is read.
        """
        if self._place is not None:
            return
        with self._errors():
            (verdict,) = self._connection.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise DataError(f"{self.path}: damaged ({verdict}); convert the video again")

    def _decode(self, indices: Sequence[int], table: str, short_side: int) -> np.ndarray:
        indices = np.asarray(indices, np.int64).tolist()
        unique = sorted(set(indices))
        if not unique:
            raise IndexError(f"{self.path}: no frames were asked for")
        jpegs = self._fetch(unique, table)
        try:
            frames = decode_jpegs(jpegs, short_side, companions=table != "Images")
        except BadJpegAt as error:
            raise self._bad_frame(unique[error.position], str(error)) from error
        if indices == unique:
            return frames
        places = {index: place for place, index in enumerate(unique)}
        return frames[[places[index] for index in indices]]

    def _fetch(self, indices: list[int], table: str) -> list[bytes]:
        """Return the JPEGs of frames, whose checksums and names are checked except in layout 0."""
        if indices and not 0 <= min(indices) <= max(indices) < self.n_frames:
            raise IndexError(f"{self.path}: frames {indices} of 0..{self.n_frames - 1}")
        first = self._first + 1
        keys = [first + i for i in indices] if self.layout else self._rows[indices].tolist()
        if self._places and len(indices) > 1:
            self._read_ahead(range(min(indices), max(indices) + 1), table)
        rows = self._select(keys, table)
        found = []
        for index, key in zip(indices, keys, strict=True):
            row = rows.get(key)
            if row is None:
                raise self._bad_frame(index, "is missing")
            _, jpeg, crc32, name = row
            if not isinstance(jpeg, bytes):
                raise self._bad_frame(index, "is not a JPEG, but text or a number")
            if self.layout:
                self._check_row(index, table, jpeg, crc32, name)
            found.append(jpeg)
        return found

    def _select(self, keys: list[int], table: str) -> dict[int, tuple]:
        """Return key -> (key, JPEG, crc32 or None, ObjId or None) of the rows with these keys."""
        columns = "rowid, frames, NULL, NULL"
        if self.layout:
            columns = f"frame, frames, crc32, {'ObjId' if table == 'Images' else 'NULL'}"
        rows = {}
        with self._errors():
            for start in range(0, len(keys), MOST_KEYS):
                wanted = keys[start : start + MOST_KEYS]
                marks = ",".join("?" * len(wanted))
                sql = f"SELECT {columns} FROM {table} WHERE {columns.split(',')[0]} IN ({marks})"
                rows |= {row[0]: row for row in self._connection.execute(sql, wanted)}
        return rows

    def _check_row(
        self, index: int, table: str, jpeg: bytes, crc32: object, name: str | None
    ) -> None:
        """Check that a row is undamaged and belongs to this frame; its key may be damaged too."""
        if crc32 is None:
            raise self._bad_frame(index, "is damaged (its crc32 is missing)")
        if checksum(jpeg, self._first + index + 1, table, self.layout) != crc32:
            raise self._bad_frame(index, "is damaged (its crc32 differs)")
        if table == "Images" and not str(name).endswith(frame_name(self._video, index + 1)):
            raise self._bad_frame(index, f"is damaged (its row is named {name!r:.60})")

    def _read_ahead(self, frames: range, table: str) -> None:
        """Ask the kernel to fetch all these frames, in case they are not in memory yet."""
        place, shares = self._places[table], self._places["knots"]
        if self._file is not None:
            prefetch(self._file, *byte_range(frames, self.n_frames, shares, place))

    def _scan(self) -> np.ndarray:
        """Return the row ids of layout 0 in the order of the frames, int64 (n_frames,)."""
        rows = []
        for rowid, name in self._connection.execute("SELECT rowid, ObjId FROM Images"):
            match = FRAME_NAME.search(str(name))
            if not match or not isinstance(rowid, int):
                raise DataError(
                    f"{self.path}: row {rowid!r:.20} is named {name!r:.80}, not .../frame_00001"
                )
            rows.append((int(match[1]), rowid))
        table = np.array(sorted(rows), np.int64).reshape(-1, 2)
        gap = np.flatnonzero(table[:, 0] != np.arange(1, len(table) + 1))
        if len(gap):
            what, at = "is missing", gap[0]
            if at and table[at, 0] == table[at - 1, 0]:
                what, at = "is there twice", at - 1
            raise self._bad_frame(at, what)
        return table[:, 1]

    def _read_count(self) -> str | None:
        """Return the text of the file `n_frames`, None without it: dataset2database writes none."""
        path = self.folder / COUNT
        try:
            file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
            try:
                text = os.read(file, LONGEST_COUNT)
            finally:
                os.close(file)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise shortage(error) or unreadable(path, error) from error
        return text.decode("ascii", errors="replace").strip()

    def _check_count(self, text: str | None, summarised: int | None) -> int:
        """Return the number of frames, which the file `n_frames` and the store must agree on.

        The rows are counted only if the file and the summary differ, since that reads more pages.

        Args:
            text: the content of the file `n_frames`, if there is one.
            summarised: the number in the summary, if there is one.
        """
        said = int(text) if text and text.isdecimal() else None
        if self._rows is not None:
            found = len(self._rows)
        elif said and said == summarised:
            found = summarised
        else:
            found = self._count()
        if not found:
            raise DataError(f"{self.path}: holds no frames; convert the video again")
        if text is not None and said != found:
            raise DataError(
                f"{self.folder / COUNT}: says {text[:20]!r}, but {DATABASE} holds {found} "
                "frames; convert the video again, or delete this file if only it is wrong"
            )
        if text is None and summarised not in (None, found):
            raise sqlite3.DatabaseError(f"its summary says {summarised} frames, it holds {found}")
        return found

    def _count(self) -> int:
        (last,) = self._connection.execute("SELECT max(frame) FROM Images").fetchone()
        if not isinstance(last, int | None):
            raise sqlite3.DatabaseError(f"a frame's number is {last!r:.40}")
        return last or 0

    def _bad_frame(self, index: int, what: str) -> DataError:
        video = f"{self._video}/" if self._video else ""
        return DataError(f"{self.path}: {video}frame_{index + 1:05d} {what}")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise SQLite's errors as DataError, or as MachineError if no file can be opened."""
        try:
            yield
        except sqlite3.ProgrammingError:
            raise  # a mistake in the program: the store is closed
        except (sqlite3.Error, UnicodeDecodeError) as error:  # SQLite may quote damaged text
            raise self._shortage() or DataError(
                f"{self.path}: damaged, or not a frame store ({error}); convert the video again"
            ) from error

    def _shortage(self) -> Exception | None:
        """Return an error if no file can be opened any more, which SQLite does not say clearly."""
        try:
            os.close(os.dup(self._file))
        except OSError as error:
            return shortage(error)
        return None
