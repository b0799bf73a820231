"""Read one label csv into numpy arrays: the videos, their classes, and the unusable rows.

The csv has a header and a row for each video. Columns are found by name, in any order and in upper
or lower case: `label`; `youtube_id` or `id`; optionally `time_start` and `time_end`, both or
neither; optionally `split`, which is train, val, test or empty. Other columns are ignored. Fields
are separated by comma, semicolon or tab and may be quoted; a byte order mark may be there; the file
may be compressed (`.gz`). Class names may have spaces or underscores, and upper or lower case.
"""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import numpy as np

from data.annotations.class_names import ClassNumbers, class_dictionary
from data.data_error import DataError, Unusable

COLUMNS = {
    "label": ("label", "class", "class_name", "category", "action"),
    "id": ("id", "youtube_id", "video_id", "video", "name"),
    "start": ("time_start", "start_time", "start"),
    "end": ("time_end", "end_time", "end"),
    "split": ("split", "subset"),
}
NO_SPLIT, TRAIN, VAL, TEST = -1, 0, 1, 2
PARTS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "validate", "validation", "valid"), VAL),
    **dict.fromkeys(("test", "testing"), TEST),
}
CHUNK = 16_384  # rows that are held as Python objects, which take far more memory than arrays
LONGEST_HEADER = 100_000  # characters; the module csv limits a field to little more
LENGTH_OF_TIMES = len("_000010_000020")  # at the end of the names in `LabelTable.ids`
LONGEST_ID = 230  # bytes, as a folder's name may have 255 and the times add to the id


@dataclass(frozen=True)
class LabelTable:
    """The usable rows of a csv.

    Attributes:
        path: the csv.
        ids: str (N,), names of the videos' folders: the id, or for rows with times
            `<id>_<start>_<end>`, in seconds, with six digits each.
        labels: int64 (N,), indices into `classes`.
        classes: names of the classes.
        parts: int8 (N,), TRAIN, VAL or TEST as the row's split says, NO_SPLIT if it is empty.
        rows: int32 (N,), line numbers in the csv. The header is line 1.
        rejected: (line number, reason) of each row that cannot be used.
        times: float64 (N, 2), seconds at which the row's part of a video starts and ends, NaN where
            the row says none; None if the csv has no such columns.
    """

    path: Path
    ids: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    parts: np.ndarray
    rows: np.ndarray
    rejected: list[tuple[int, str]]
    times: np.ndarray | None = None

    def video_ids(self) -> np.ndarray:
        """Return the ids without times, str (N,)."""
        if self.times is None:
            return self.ids
        timed = np.isfinite(self.times[:, 0])
        return np.where(timed, [name[:-LENGTH_OF_TIMES] for name in self.ids.tolist()], self.ids)

    def keep(self, rows: np.ndarray) -> LabelTable:
        """Return a table of the rows for which `rows`, bool (N,), is true."""
        columns = ("ids", "labels", "parts", "rows", "times")
        kept = {name: getattr(self, name) for name in columns}
        kept = {name: column[rows] for name, column in kept.items() if column is not None}
        return replace(self, **kept)

    def __len__(self) -> int:
        return len(self.ids)


def load_labels(path: str | Path, classes: Sequence[str] | None = None) -> LabelTable:
    """Read a label csv. Rows that cannot be used are listed in `.rejected` of the result.

    Args:
        path: the csv or csv.gz.
        classes: names of the classes in the order of their numbers; rows of other classes are
            rejected. None takes them from the `<prefix>dictionary.json` of the csv (see
            `data.annotations.class_names`). Without such a file the classes are numbered in the
            order in which they first appear.

    Raises:
        DataError: there is no such file, it is not a csv, lacks a column, or has no row.
    """
    path = Path(path)
    if classes is None:
        classes = class_dictionary(path)
    numbers = ClassNumbers(classes)
    rejected: list[tuple[int, str]] = []
    try:
        with _open(path) as file:
            reader, columns = _reader(path, file)
            chunks = list(_chunks(reader, _RowParser(columns, numbers), rejected))
    except (OSError, EOFError, zlib.error) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error
        raise DataError(f"{path}: cannot be read ({reason})") from error
    if not (chunks or rejected):
        raise DataError(f"{path}: has no rows")
    chunks = chunks or [[np.empty(0, str), *[np.empty(0, np.int64)] * 3]]
    ids, labels, parts, rows, *times = (
        np.concatenate(column) for column in zip(*chunks, strict=True)
    )
    return LabelTable(
        path=path,
        ids=ids,
        labels=labels.astype(np.int64),
        classes=tuple(numbers.names),
        parts=parts.astype(np.int8),
        rows=rows.astype(np.int32),
        rejected=rejected,
        times=np.stack(times, 1) if times else None,
    )


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line number of each row of a label csv, and its fields as text, by column name.

    Fields that a short row lacks are left out.
    """
    with _open(path) as file:
        reader, columns = _reader(path, file)
        for line, row in _lines(reader, []):
            yield line, {name: row[at].strip() for name, at in columns.items() if at < len(row)}


def _open(path: Path) -> TextIO:
    # surrogateescape keeps bytes that are not UTF-8, so that they still name files on the disk.
    options = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": ""}
    if path.suffix == ".gz":
        return gzip.open(path, "rt", **options)
    return path.open(**options)


def _reader(path: Path, file: TextIO) -> tuple[Iterator[list[str]], dict[str, int]]:
    """Read the header. Return a csv reader of the rows, and the position of each of COLUMNS."""
    start = file.readline(LONGEST_HEADER)
    if len(start) == LONGEST_HEADER:
        raise DataError(f"{path}:1: the line is too long for a header; is this a csv?")
    if "\0" in start:
        raise DataError(f"{path}:1: has zero bytes, as in UTF-16; save it as a UTF-8 csv")
    delimiter = next((mark for mark in ",;\t" if mark in start), ",")
    header = [name.strip().lower() for name in next(csv.reader([start], delimiter=delimiter), [])]
    if {"classname", "label"} <= set(header):
        raise DataError(f"{path}: is HACS's own csv; convert it by `python -m run.labels hacs`")
    columns = {}
    for column, names in COLUMNS.items():
        at = next((header.index(name) for name in names if name in header), None)
        if at is not None:
            if header.count(header[at]) > 1:
                raise DataError(f"{path}:1: two columns of the header are named {header[at]!r}")
            columns[column] = at
        elif column in ("label", "id"):
            found = repr(", ".join(header[:8]) or "nothing")[:100]  # escaped bytes take six each
            raise DataError(
                f"{path}:1: no column {' or '.join(names[:2])} in the header ({found}); "
                "it must read label,id,split or label,youtube_id,time_start,time_end,split"
            )
    if ("start" in columns) != ("end" in columns):
        raise DataError(f"{path}:1: the header has only one of time_start and time_end")
    return csv.reader(file, delimiter=delimiter), columns


def _chunks(
    reader: Iterator[list[str]], parse: _RowParser, rejected: list[tuple[int, str]]
) -> Iterator[list[np.ndarray]]:
    """Yield the arrays ids, labels, parts and rows of up to CHUNK usable rows at a time."""
    ids, labels, parts, lines = columns = [[], [], [], []]
    starts, ends = [], []
    if parse.times:
        columns += [starts, ends]
    for line, row in _lines(reader, rejected):
        try:
            name, number, part, start, end = parse(row)
        except Unusable as reason:
            rejected.append((line, str(reason)))
            continue
        ids.append(name)
        labels.append(number)
        parts.append(part)
        lines.append(line)
        if parse.times:
            starts.append(start)
            ends.append(end)
        if len(ids) == CHUNK:
            yield [np.array(column) for column in columns]
            for column in columns:
                column.clear()
    if ids:
        yield [np.array(column) for column in columns]


def _lines(reader, rejected: list[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the fields of each row below the header that is not blank."""
    end = reader.line_num + 1  # the line on which the previous row ends
    while True:
        line = end + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            end = reader.line_num + 1
            rejected.append((line, f"is not csv ({error})"))
            continue
        end = reader.line_num + 1
        if end > line:
            rejected.append((line, f"has a quote that closes on line {end} only"))
        elif row:
            yield line, row


class _RowParser:
    """Turn a row's fields into (folder name, class number, part, start, end). Raises Unusable."""

    def __init__(self, columns: dict[str, int], numbers: ClassNumbers):
        self.label, self.id = columns["label"], columns["id"]
        self.times = (columns["start"], columns["end"]) if "start" in columns else ()
        self.split = columns.get("split")
        self.needed = max(self.label, self.id, *self.times) + 1
        self.numbers, self.stamps, self.parts = numbers, _Stamps(), _Parts()

    def __call__(self, row: list[str]) -> tuple[str, int, int, float, float]:
        if len(row) < self.needed:
            raise Unusable(f"has {len(row)} fields, needs {self.needed}")
        name = row[self.id].strip()
        if not name:
            raise Unusable("has no video id")
        size = len(name.encode(errors="surrogateescape"))
        if "/" in name or "\0" in name or name.startswith(".") or size > LONGEST_ID:
            raise Unusable(f"has the id {name[:40]!r}, which no folder can be named")
        start = end = math.nan
        if self.times:
            first, start = self.stamps[row[self.times[0]]]
            last, end = self.stamps[row[self.times[1]]]
            if bool(first) != bool(last):
                raise Unusable("has only one of time_start and time_end")
            name += first + last
        split = self.split
        part = self.parts[row[split]] if split is not None and split < len(row) else NO_SPLIT
        number = self.numbers[row[self.label]]  # last, since a rejected row must not number a class
        return name, number, part, start, end


class _Stamps(dict):
    """A dictionary from a time to its part of the folder's name: "10.5" -> ("_000010", 10.5)."""

    def __missing__(self, text: str) -> tuple[str, float]:
        try:
            seconds = float(text) if text.strip() else None
        except ValueError:
            raise Unusable(f"has the time {text[:20]!r}, not a number of seconds") from None
        if seconds is not None and not 0 <= seconds < 1e6:
            raise Unusable(f"has the time {text[:20]!r}, not within 0..999999 seconds")
        stamp = ("", math.nan) if seconds is None else (f"_{int(seconds):06d}", seconds)
        if len(self) < CHUNK:
            self[text] = stamp
        return stamp


class _Parts(dict):
    """A dictionary from the text of a row's split to TRAIN, VAL, TEST, or NO_SPLIT if empty."""

    def __missing__(self, text: str) -> int:
        word = text.strip().lower()
        if word and word not in PARTS:
            raise Unusable(f"has the split {text[:20]!r}, which is none of train, val and test")
        self[text] = PARTS.get(word, NO_SPLIT)
        return self[text]
