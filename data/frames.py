"""The frames of one video: `frames.db`, a SQLite file, and `n_frames` beside it. The only SQL here.

What is written: one row a frame, clustered by the integer key `frame` (from 1), so that a clip's
frames lie side by side on the disk, each with the crc32 of its bytes; `ObjId` is indexed, and the
columns that older tools select are there. `Summary` is a view of constants, so that what opening a
store asks for comes with the file's first page. What is read: that, layout 1, which lacks the view,
and every `Images(ObjId, frames, size)` table without key, index or order, as the package
dataset2database writes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import struct
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from data.ahead import extent, fetch, knots
from data.errors import DataError
from data.jpegs import BadJpeg, BadJpegAt, check_jpeg, decode_jpegs, shrink_jpeg
from data.unfinished import unfinished_folder

DATABASE, COUNT = "frames.db", "n_frames"
APPLICATION_ID, LAYOUT = 0x46524D53, 2  # in the file's header: "FRMS", and the version of ours
PAGE_SIZE = 4096
OPEN_STORES = 64  # connections that `open_store` keeps in a thread: a file descriptor each
MOST_KEYS = 512  # frames in one query
CACHE_KIB = 256  # of a connection. SQLite's own default is 2 MB

IMAGES = (
    "CREATE TABLE Images(ObjId STRING, frames BLOB, size INT, frame INTEGER PRIMARY KEY, crc32 INT)"
)
COMPANIONS = "CREATE TABLE Companions{}(frame INTEGER PRIMARY KEY, frames BLOB, crc32 INT)"
SUMMARY = "CREATE VIEW Summary AS SELECT {} AS n_frames, '{}' AS places"
FRAME_NAME = re.compile(r"frame_(\d+)$")


class FrameStore:
    """One video's frames, read only. A context manager.

    Args:
        folder: the video's folder, which holds `frames.db` and, as a rule, `n_frames`.

    Attributes:
        n_frames: how many frames there are.
        companions: short sides, in pixels, of the companion frames that there are, rising.
        layout: the version of our layout, or 0 where it is not ours.

    Raises:
        DataError: the file is missing, damaged, incomplete or something else, or `n_frames` is
            not the number of its frames. The message names the file.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        self.path = self.folder / DATABASE
        self._file: int | None = _open(self.path)  # for hints to the kernel
        self._connection: sqlite3.Connection | None = None
        try:
            fetch(self._file, 0, 2 * PAGE_SIZE)  # while the other file is read
            count = self._read_count()
            self.layout = _read_header(self.path, self._file)
            with self._errors():
                self._connect()
                self._summarise()
                self._check_count(count)
        except DataError:
            self.close()
            raise

    def _connect(self) -> None:
        # Nobody writes into an indexed file: it is replaced as a whole. So SQLite need not lock.
        mode = "mode=ro&immutable=1" if self.layout else "mode=ro"
        uri = f"{self.path.absolute().as_uri()}?{mode}"
        self._connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
        self._connection.text_factory = lambda text: text.decode(errors="replace")
        self._connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")

    def _summarise(self) -> None:
        """Find out what there is: `n_frames`, `companions`, and of another's layout the rows."""
        self._rows, self._places, self._tables = None, None, {}
        if self.layout == 0:
            self._rows = self._scan()
            self.n_frames = len(self._rows)
        elif self.layout == 1:
            self.n_frames = self._count()
            row = self._connection.execute("SELECT short_side FROM Companions LIMIT 1").fetchone()
            self._tables = {row[0]: "Companions"} if row else {}
        else:
            query = "SELECT n_frames, places FROM Summary"
            self.n_frames, places = self._connection.execute(query).fetchone()
            try:
                self._places = json.loads(places)
                sides = self._places["companions"]
            except (ValueError, KeyError, TypeError) as error:
                raise sqlite3.DatabaseError(f"its summary is {places!r:.40}") from error
            self._tables = {side: f"Companions{side}" for side in sides}
        self.companions = tuple(self._tables)

    def __enter__(self) -> FrameStore:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def __len__(self) -> int:
        return self.n_frames

    def close(self) -> None:
        """Close the file. Reading raises afterwards."""
        if self._connection is not None:
            self._connection.close()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def read(self, indices: Sequence[int]) -> np.ndarray:
        """Frames at 0-based `indices`, in that order, repeats allowed.

        Returns:
            uint8 (len(indices), H, W, 3), RGB.

        Raises:
            DataError: a frame is missing, damaged or truncated, with the file and the frame.
            IndexError: an index is not in 0..n_frames - 1.
        """
        return self._decode(indices, "Images", 0)

    def read_at_least(self, indices: Sequence[int], short_side: int) -> np.ndarray:
        """As `read`, at a smaller size where that costs less.

        Returns:
            uint8 (len(indices), h, w, 3), RGB, of which min(h, w) is at least `short_side`, or
            what `read` gives where the frames are no larger than that. Taken from the companion
            frames where those are large enough, and decoded roughly and at a fraction of their
            size: see `decode_jpegs`.
        """
        enough = (side for side in self.companions if 0 < short_side <= side)
        table = self._tables.get(next(enough, 0), "Images")
        return self._decode(indices, table, short_side)

    def jpegs(self, indices: Sequence[int]) -> list[bytes]:
        """The stored JPEGs at 0-based `indices`, as `read` takes them, undecoded."""
        return self._fetch(np.asarray(indices, np.int64).tolist(), "Images")

    def check_structure(self) -> None:
        """Let SQLite check its pages and indices. Raises DataError."""
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
        """The JPEGs, whose bytes have the crc32 stored with them."""
        if indices and not 0 <= min(indices) <= max(indices) < self.n_frames:
            raise IndexError(f"{self.path}: frames {indices} of 0..{self.n_frames - 1}")
        key, crc32 = ("frame", "crc32") if self.layout else ("rowid", "NULL")
        keys = [i + 1 for i in indices] if self.layout else self._rows[indices].tolist()
        if self._places and len(indices) > 1:
            self._read_ahead(range(min(indices), max(indices) + 1), table)
        rows = {}
        with self._errors():
            for start in range(0, len(keys), MOST_KEYS):
                wanted = keys[start : start + MOST_KEYS]
                marks = ",".join("?" * len(wanted))
                sql = f"SELECT {key}, frames, {crc32} FROM {table} WHERE {key} IN ({marks})"
                rows |= {row[0]: row for row in self._connection.execute(sql, wanted)}
        found = []
        for index, key in zip(indices, keys, strict=True):
            _, jpeg, crc32 = rows.get(key, (key, None, None))
            if not isinstance(jpeg, bytes):
                raise self._bad_frame(index, "is missing")
            if crc32 is not None and zlib.crc32(jpeg) != crc32:
                raise self._bad_frame(index, "is damaged (its crc32 differs)")
            found.append(jpeg)
        return found

    def _read_ahead(self, frames: range, table: str) -> None:
        """Have the kernel fetch the frames at once, if they are on the disk only."""
        place, shares = self._places[table], self._places["knots"]
        if self._file is not None:
            fetch(self._file, *extent(frames, self.n_frames, shares, place))

    def _scan(self) -> np.ndarray:
        """Row ids of the frames of an unordered table, in order of the frames: int64 (n,)."""
        rows = []
        for rowid, name in self._connection.execute("SELECT rowid, ObjId FROM Images"):
            match = FRAME_NAME.search(str(name))
            if not match:
                raise DataError(f"{self.path}: row {rowid} is named {name!r}, not .../frame_00001")
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
        """What `n_frames` says. dataset2database writes none."""
        path = self.folder / COUNT
        try:
            return path.read_text().strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read ({error})") from error

    def _check_count(self, text: str | None) -> None:
        fits = text is None or (text.isdecimal() and int(text) == self.n_frames)
        if self.layout and not (fits and self.n_frames):
            self.n_frames = self._count()
        if not self.n_frames:
            raise DataError(f"{self.path}: holds no frames; convert the video again")
        if not fits:
            raise DataError(
                f"{self.folder / COUNT}: says {text[:20]!r}, but {DATABASE} holds {self.n_frames} "
                "frames; convert the video again, or delete this file if it is the one that is "
                "wrong"
            )

    def _bad_frame(self, index: int, what: str) -> DataError:
        return DataError(f"{self.path}: frame_{index + 1:05d} {what}")

    def _count(self) -> int:
        return self._connection.execute("SELECT max(frame) FROM Images").fetchone()[0] or 0

    @contextlib.contextmanager
    def _errors(self):
        """SQLite's errors as DataError."""
        try:
            yield
        except sqlite3.ProgrammingError:
            raise  # ours: a closed store
        except sqlite3.Error as error:
            raise DataError(
                f"{self.path}: damaged, or not a frame store ({error}); convert the video again"
            ) from error


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; `python -m run.convert` makes it") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _read_header(path: Path, file: int) -> int:
    """The version of our layout, or 0. SQLite itself takes an empty file, and half of one."""
    try:
        header, size = os.read(file, 100), os.fstat(file).st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if size == 0:
        raise DataError(f"{path}: is empty (0 bytes); convert the video again")
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise DataError(f"{path}: is not a SQLite file; convert the video again")
    # Offsets: https://www.sqlite.org/fileformat.html, "The Database Header".
    (page_size,) = struct.unpack_from(">H", header, 16)
    changes, pages = struct.unpack_from(">II", header, 24)
    layout, _, application = struct.unpack_from(">III", header, 60)
    (valid_for,) = struct.unpack_from(">I", header, 92)
    expected = pages * (65536 if page_size == 1 else page_size)
    if changes == valid_for and size < expected:
        raise DataError(
            f"{path}: is cut off, {size} of {expected} bytes; copy it or convert the video again"
        )
    if application == APPLICATION_ID and layout > LAYOUT:
        raise DataError(f"{path}: has layout {layout}, this version reads up to {LAYOUT}")
    return layout if application == APPLICATION_ID else 0


def write_store(
    folder: str | os.PathLike,
    video_id: str,
    jpegs: Iterable[bytes],
    *,
    companions: Sequence[int] = (),
) -> int:
    """Write a video's frames; at every moment the folder holds all of them or what it held before.

    Args:
        folder: the video's folder, made if need be. A store there is replaced.
        video_id: names the frames: ObjId is `<video_id>/frame_00001` and so on.
        jpegs: the frames' JPEGs in order. Consumed one by one; what it raises passes through.
        companions: also store each frame with these short sides, for `FrameStore.read_at_least`.

    Returns:
        The number of frames.

    Raises:
        DataError: no frames, or one that is not a whole JPEG.
        OSError: the disk is full, or the folder cannot be written.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with unfinished_folder(folder.parent) as part:
        n_frames = _write_database(part / DATABASE, video_id, jpegs, companions)
        (part / COUNT).write_text(f"{n_frames}\n")
        for name in (DATABASE, COUNT):
            _sync(part / name)
        _sync(part)
        _move_into_place(part, folder)
    return n_frames


def is_finished(folder: str | os.PathLike) -> bool:
    """Whether a folder holds a whole store, as far as the file's header and `n_frames` tell."""
    folder = Path(folder)
    path = folder / DATABASE
    try:
        file = _open(path)
        try:
            _read_header(path, file)
        finally:
            os.close(file)
    except DataError:
        return False
    return (folder / COUNT).exists()


def _write_database(
    path: Path, video_id: str, jpegs: Iterable[bytes], companions: Sequence[int]
) -> int:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # A crash leaves a .part folder that nobody reads, so SQLite need not guard the file.
        connection.executescript(
            f"PRAGMA page_size={PAGE_SIZE}; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
            f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={LAYOUT}; BEGIN"
        )
        # ObjId must be UTF-8, which a file's name need not be.
        video_id = os.fsencode(video_id).decode(errors="replace")
        places, sizes = {}, []
        small: dict[int, list[tuple]] = {side: [] for side in sorted(companions)}
        with _placed(connection, "Images", places):
            connection.execute(IMAGES)
            for count, jpeg in enumerate(jpegs, start=1):
                name = f"{video_id}/frame_{count:05d}"
                try:
                    height, width = check_jpeg(jpeg)
                    for side, rows in small.items():
                        if side < min(height, width):
                            smaller = shrink_jpeg(jpeg, side)
                            rows.append((count, smaller, zlib.crc32(smaller)))
                except BadJpeg as error:
                    raise DataError(f"{path.parent.parent / name} {error}") from error
                row = (name, jpeg, width, count, zlib.crc32(jpeg))
                connection.execute("INSERT INTO Images VALUES (?, ?, ?, ?, ?)", row)
                sizes.append(len(jpeg))
        if not sizes:
            raise DataError(f"{path.parent.parent / video_id}: no frames")
        small = {side: rows for side, rows in small.items() if len(rows) == len(sizes)}
        for side, rows in small.items():
            with _placed(connection, f"Companions{side}", places):
                connection.execute(COMPANIONS.format(side))
                connection.executemany(f"INSERT INTO Companions{side} VALUES (?, ?, ?)", rows)
        connection.execute("CREATE INDEX ImagesByObjId ON Images(ObjId)")
        places |= {"companions": list(small), "knots": knots(sizes)}
        summary = json.dumps(places, separators=(",", ":"))
        connection.execute(SUMMARY.format(len(sizes), summary))
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise OSError(f"{path}: {error}") from error
    finally:
        connection.close()
    return len(sizes)


@contextlib.contextmanager
def _placed(connection: sqlite3.Connection, table: str, places: dict) -> Iterator[None]:
    """Note which bytes of the file what is written meanwhile takes."""

    def end() -> int:
        return connection.execute("PRAGMA page_count").fetchone()[0] * PAGE_SIZE

    start = end()
    yield
    places[table] = [start, end()]


def _move_into_place(part: Path, folder: Path) -> None:
    if folder.exists():
        # A store without n_frames is whole, one with another store's n_frames is not.
        (folder / COUNT).unlink(missing_ok=True)
        (part / DATABASE).replace(folder / DATABASE)
        (part / COUNT).replace(folder / COUNT)
        _sync(folder)
    else:
        part.rename(folder)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def upgrade_store(folder: str | os.PathLike, *, companions: Sequence[int] = ()) -> bool:
    """Rewrite an older store in our layout, its JPEGs byte for byte; False where it has it already.

    Companion frames that it has are made anew unless `companions` names others.

    Raises:
        DataError: the store is damaged. It is left as it is.
    """
    with FrameStore(folder) as store:
        if store.layout == LAYOUT and store.companions == tuple(
            sorted(companions or store.companions)
        ):
            return False
        frames = (store.jpegs([index])[0] for index in range(store.n_frames))
        write_store(folder, Path(folder).name, frames, companions=companions or store.companions)
    return True


def verify_store(folder: str | os.PathLike) -> int:
    """Read and decode every frame of a store. Returns their number.

    Raises:
        DataError: the first thing found wrong, with the file and the frame.
    """
    with FrameStore(folder) as store:
        for start in range(0, store.n_frames, 32):
            # Beside the first frame, since a clip's frames must be equally large.
            chunk = [0, *range(start, min(start + 32, store.n_frames))]
            store.read(chunk)
            for side in store.companions:
                store.read_at_least(chunk, side)
        store.check_structure()
        return store.n_frames


class _OpenStores(threading.local):
    """This thread's open stores, the latest used last."""

    def __init__(self):
        self.process, self.stores = os.getpid(), OrderedDict()
        self.inherited = []


_open_stores = _OpenStores()


def open_store(folder: str | os.PathLike) -> FrameStore:
    """A `FrameStore` that stays open for the next call: at most OPEN_STORES in a thread.

    Do not close it, and do not keep it: the store that was asked for longest ago is closed.
    """
    cache = _open_stores
    if cache.process != os.getpid():
        # After a fork: a SQLite connection must be neither used nor closed by the child.
        cache.inherited.append(cache.stores)
        cache.process, cache.stores = os.getpid(), OrderedDict()
    key = os.fspath(folder)
    store = cache.stores.pop(key, None) or FrameStore(folder)
    cache.stores[key] = store
    if len(cache.stores) > OPEN_STORES:
        cache.stores.popitem(last=False)[1].close()
    return store
