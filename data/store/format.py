"""The format of `frames.db`: its header, its tables and its versions, called layouts.

Stores are written in layout 3. The table `Images` has one row for each frame, clustered by the
integer key `frame` (from 1), so that the frames of a clip lie side by side on the disk. Each row
has a checksum of its JPEG, and the columns that older tools select. Tables named `Companions<side>`
hold smaller copies of the frames. The view `Summary` holds numbers that are needed to open a store.
The view is never executed: its text, which is in the first page of the file, is parsed. Stores of
video files also hold the frame rate; see `data.store.frame_times`.

Two other layouts can be read. In layout 2, the checksums of companion frames cover only the bytes
of the JPEG. Layout 0 is the table `Images(ObjId, frames, size)` that the package dataset2database
writes, without key, index or order.

A shard holds the frames of many videos in the same tables. It has a table `Videos` in place of the
view; see `data.store.shard_index`.

Only this package contains SQL.
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
from data.store.frame_times import Rate, parse_rate
from data.store.read_ahead import WHOLE

DATABASE, COUNT = "frames.db", "n_frames"
APPLICATION_ID, LAYOUT = 0x46524D53, 3  # in the file's header: "FRMS", and the version written
SHARD_ID = 0x46525348  # of a shard: "FRSH"
PAGE_SIZE = 4096

IMAGES = (
    "CREATE TABLE Images(ObjId STRING, frames BLOB, size INT, frame INTEGER PRIMARY KEY, crc32 INT)"
)
COMPANIONS = "CREATE TABLE Companions{}(frame INTEGER PRIMARY KEY, frames BLOB, crc32 INT)"
TIMES = "CREATE TABLE Times(microseconds BLOB, crc32 INT)"
#: Of a shard: the number before the video's first frame, the places of its frames in the file.
VIDEOS = (
    "CREATE TABLE Videos(first INTEGER PRIMARY KEY, name BLOB, n_frames INT, places TEXT, "
    "microseconds BLOB, crc32 INT)"
)
SUMMARY = "CREATE VIEW Summary AS SELECT {} AS n_frames, '{}' AS places"
COLUMNS = ["objid", "frames", "size", "frame", "crc32"]  # of Images in layouts 2 and 3
SUMMARY_PATTERN = re.compile(SUMMARY.replace("{}", r"(\d{1,9})", 1).replace("{}", "([^']*)"))


class Header(NamedTuple):
    """What the header of the file says. A single flipped bit can make it wrong."""

    ours: bool  # the application id is APPLICATION_ID
    layout: int


@dataclass(frozen=True)
class Contents:
    """What a store contains, read from its schema.

    Attributes:
        layout: its version; 0 for a store of dataset2database.
        companions: the table of companion frames for each short side in pixels, in rising order.
        n_frames: the number of frames in the summary; None in layout 0.
        places: for each table, the first byte of its frames and the byte after them; and under
            "knots" the result of `data.store.read_ahead.byte_shares`. None in layout 0.
        rate: the video's frame rate; None in stores that were written without it.
    """

    layout: int
    companions: dict[int, str] = field(default_factory=dict)
    n_frames: int | None = None
    places: dict[str, list[int]] | None = None
    rate: Rate | None = None


def frame_name(video_id: str, number: int) -> str:
    """Return the `ObjId` of a frame; `number` counts from 1."""
    return f"{video_id}/frame_{number:05d}"


def checksum(jpeg: bytes, number: int, table: str, layout: int = LAYOUT) -> int:
    """Return the `crc32` of a row.

    A companion frame has no `ObjId` that says which frame it is. Its checksum therefore includes
    its table and number, so that another row, returned by a damaged page, is noticed.
    """
    if table == "Images" or layout < 3:
        return zlib.crc32(jpeg)
    return zlib.crc32(jpeg, zlib.crc32(f"{table} {number}".encode()))


def open_file(path: Path) -> int:
    """Open a store's file for reading and return the file descriptor.

    Raises:
        DataError: there is no such file, or it cannot be read.
        MachineError: the process has no file descriptor left.
    """
    try:
        # O_NONBLOCK, because opening a named pipe would wait for a writer.
        return os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; `python -m run.convert` makes it") from None
    except OSError as error:
        raise shortage(error) or unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> DataError:
    """Return the error for a file that the operating system does not let us read."""
    return DataError(f"{path}: cannot be read ({error.strerror})")


def read_header(
    path: Path, file: int, *, application: int | None = None, newest: int = LAYOUT
) -> Header:
    """Read the header of a store's file and check the file's length, which SQLite does not check.

    Args:
        path: of the file.
        file: its descriptor.
        application: the application id that the file must have; None allows any, since older
            stores have none.
        newest: the newest layout that this program reads.

    Raises:
        DataError: it is not a SQLite file, is cut off, or has a layout newer than this program.
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
    layout, _, found = struct.unpack_from(">III", header, 60)
    (valid_for,) = struct.unpack_from(">I", header, 92)
    expected = pages * (65536 if page_size == 1 else page_size)
    if changes == valid_for and size < expected:
        raise DataError(
            f"{path}: is cut off, {size} of {expected} bytes; copy it or convert the video again"
        )
    if application is not None and found != application:
        raise DataError(f"{path}: damaged, or another kind of file (application id {found:#x})")
    if found in (APPLICATION_ID, application) and layout > newest:
        raise DataError(f"{path}: has layout {layout}, this version reads up to {newest}")
    return Header(found == APPLICATION_ID, layout)


def read_contents(connection: sqlite3.Connection, header: Header) -> Contents:
    """Read from the schema what a store contains.

    Layout 0 is recognised by the columns of `Images`: a flipped bit in the header must not turn off
    checksums.

    Raises:
        sqlite3.DatabaseError: it is damaged, or is not a frame store.
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
    if not 2 <= header.layout <= LAYOUT:
        raise sqlite3.DatabaseError(f"its layout is {header.layout}")
    match = SUMMARY_PATTERN.fullmatch(objects.get("Summary", ("", ""))[1])
    if not match:
        raise sqlite3.DatabaseError(f"its summary is {objects.get('Summary', ('', ''))[1]!r:.80}")
    contents = summarised_contents(header.layout, int(match[1]), match[2])
    for table in contents.companions.values():
        _check_table(objects, table)
    if contents.rate and contents.rate.varies:
        _check_table(objects, "Times")
    return contents


def summarised_contents(layout: int, n_frames: int, summary: object) -> Contents:
    """Return what a video's summary says. Raises sqlite3.DatabaseError if it is damaged."""
    places = _parse_places(summary)
    companions = {side: f"Companions{side}" for side in places["companions"]}
    try:
        rate = parse_rate(places["fps"]) if "fps" in places else None
    except ValueError as error:
        raise sqlite3.DatabaseError(str(error)) from error
    return Contents(layout, companions, n_frames, places, rate)


def _check_table(objects: dict[str, tuple[str, str]], name: str) -> None:
    """Refuse a view or a virtual table in place of a table, since reading one may never end."""
    kind, sql = objects.get(name, ("", ""))
    if not kind:
        raise sqlite3.DatabaseError(f"no such table: {name}")
    if kind != "table" or sql.upper().startswith("CREATE VIRTUAL"):
        raise sqlite3.DatabaseError(f"{name} is not a table of rows")


def _parse_places(text: object) -> dict[str, list[int]]:
    """Parse the json of a summary; return `Contents.places`."""
    try:
        places = json.loads(text)
        sides, shares = places["companions"], places["knots"]
        extents = [places[table] for table in ("Images", *(f"Companions{s}" for s in sides))]
        numbers = [*sides, *shares, *(number for extent in extents for number in extent)]
        if (
            all(type(number) is int and 0 <= number < 2**62 for number in numbers)
            and all(len(extent) == 2 and extent[0] <= extent[1] for extent in extents)
            and len(shares) > 1
            and max(shares) <= WHOLE
        ):
            return places
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise sqlite3.DatabaseError(f"its summary is {text!r:.80}")
