"""What is in a frame store's file: its layouts, its header, its tables. Only this package has SQL.

What is written: one row a frame, clustered by the integer key `frame` (from 1), so that a clip's
frames lie side by side on the disk, each with a checksum of its bytes; `ObjId` is indexed, and the
columns that older tools select are there. `Summary` is a view of constants, so that what opening a
store asks for comes with the file's first page. It is never executed: its text is parsed.

What is read: that (layout 3); layout 2, whose companions' checksums depend on their bytes only;
layout 1, which has one table `Companions` and no view; and every
`Images(ObjId, frames, size)` table without key, index or order, as the package dataset2database
writes it (layout 0).
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from data.data_error import DataError
from data.resource_shortage import shortage
from data.store.read_ahead import UNIT

DATABASE, COUNT = "frames.db", "n_frames"
APPLICATION_ID, LAYOUT = 0x46524D53, 3  # in the file's header: "FRMS", and the version of ours
PAGE_SIZE = 4096

IMAGES = (
    "CREATE TABLE Images(ObjId STRING, frames BLOB, size INT, frame INTEGER PRIMARY KEY, crc32 INT)"
)
COMPANIONS = "CREATE TABLE Companions{}(frame INTEGER PRIMARY KEY, frames BLOB, crc32 INT)"
SUMMARY = "CREATE VIEW Summary AS SELECT {} AS n_frames, '{}' AS places"
COLUMNS = ["objid", "frames", "size", "frame", "crc32"]  # of our Images
SUMMARISED = re.compile(SUMMARY.replace("{}", r"(\d{1,9})", 1).replace("{}", "([^']*)"))


class Header(NamedTuple):
    """What the first bytes of the file say. One flipped bit can make either wrong."""

    ours: bool
    layout: int


@dataclass(frozen=True)
class Contents:
    """What there is in a store, as its schema says.

    Attributes:
        layout: the version of our layout, or 0 where it is another's.
        companions: the tables of companion frames by their short side in pixels, rising.
        n_frames: as the summary says, or None where there is no summary.
        places: for each table, the first byte of its frames and the byte behind them; "knots".
    """

    layout: int
    companions: dict[int, str] = field(default_factory=dict)
    n_frames: int | None = None
    places: dict[str, list[int]] | None = None


def frame_name(video_id: str, number: int) -> str:
    """The `ObjId` of a frame; `number` counts from 1."""
    return f"{video_id}/frame_{number:05d}"


def checksum(jpeg: bytes, number: int, table: str, layout: int = LAYOUT) -> int:
    """The `crc32` of a row.

    Companions have no `ObjId` that tells which frame they are, so the sum depends on their table
    and number: a row that a damaged page puts in another one's place is noticed.
    """
    if table == "Images" or layout < 3:
        return zlib.crc32(jpeg)
    return zlib.crc32(jpeg, zlib.crc32(f"{table} {number}".encode()))


def open_file(path: Path) -> int:
    """A file descriptor of a store's file, to read."""
    try:
        # A named pipe would be waited for otherwise.
        return os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; `python -m run.convert` makes it") from None
    except OSError as error:
        raise shortage(error) or unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> DataError:
    """The error for a file that the operating system does not let us read."""
    return DataError(f"{path}: cannot be read ({error.strerror})")


def read_header(path: Path, file: int) -> Header:
    """The header of a store's file. Checks its length, which SQLite itself does not.

    Raises:
        DataError: it is no SQLite file, cut off, or of a layout that is newer than this program.
    """
    try:
        header, size = os.read(file, 100), os.fstat(file).st_size
    except OSError as error:
        raise unreadable(path, error) from error
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
    return Header(application == APPLICATION_ID, layout)


def read_contents(connection: sqlite3.Connection, header: Header) -> Contents:
    """What there is in a store.

    The columns of its table decide whether it is ours: whether checksums are looked at must not
    depend on one bit of the header.

    Raises:
        sqlite3.DatabaseError: it is damaged, or no frame store.
    """
    objects = {}
    for kind, name, sql in connection.execute("SELECT type, name, sql FROM sqlite_master"):
        if kind in ("table", "view"):
            objects[str(name)] = (kind, str(sql))
    _check_table(objects, "Images")
    columns = [str(row[1]).lower() for row in connection.execute("PRAGMA table_info(Images)")]
    if columns != COLUMNS:
        if header.ours or {"frame", "crc32"} & {*columns} or not {"objid", "frames"} <= {*columns}:
            raise sqlite3.DatabaseError(f"Images has the columns {', '.join(columns)[:80]!r}")
        return Contents(layout=0)
    if header.layout == 1:
        _check_table(objects, "Companions")
        row = connection.execute("SELECT short_side FROM Companions LIMIT 1").fetchone()
        if row and not isinstance(row[0], int):
            raise sqlite3.DatabaseError(f"a short side is {row[0]!r:.40}")
        return Contents(layout=1, companions={row[0]: "Companions"} if row else {})
    if not 1 < header.layout <= LAYOUT:
        raise sqlite3.DatabaseError(f"its layout is {header.layout}")
    n_frames, places = _parse_summary(objects.get("Summary", ("", ""))[1])
    companions = {side: f"Companions{side}" for side in places["companions"]}
    for table in companions.values():
        _check_table(objects, table)
    return Contents(header.layout, companions, n_frames, places)


def _check_table(objects: dict[str, tuple[str, str]], name: str) -> None:
    """Only tables: a view, or a virtual table, may compute without end."""
    kind, sql = objects.get(name, ("", ""))
    if not kind:
        raise sqlite3.DatabaseError(f"no such table: {name}")
    if kind != "table" or sql.upper().startswith("CREATE VIRTUAL"):
        raise sqlite3.DatabaseError(f"{name} is not a table of rows")


def _parse_summary(sql: str) -> tuple[int, dict[str, list[int]]]:
    match = SUMMARISED.fullmatch(sql)
    try:
        places = json.loads(match[2])
        sides, shares = places["companions"], places["knots"]
        extents = [places[table] for table in ("Images", *(f"Companions{s}" for s in sides))]
        numbers = [*sides, *shares, *(number for extent in extents for number in extent)]
        if (
            all(type(number) is int and 0 <= number < 2**62 for number in numbers)
            and all(len(extent) == 2 and extent[0] <= extent[1] for extent in extents)
            and len(shares) > 1
            and max(shares) <= UNIT
        ):
            return int(match[1]), places
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise sqlite3.DatabaseError(f"its summary is {sql!r:.80}")
