"""One label csv as numpy arrays: which videos, of which class; what cannot be used, and why.

The format: a header, then a row a video. Columns are found by name, in any order, in any case:
`label`; `youtube_id` or `id`; optionally `time_start` and `time_end`, both or neither; optionally
`split`. Others are ignored. Comma, semicolon or tab; quoted or not; with or without byte order
mark; plain or `.gz`. A class may be spelled with spaces or underscores, and in any case.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from data.errors import DataError

COLUMNS = {
    "label": ("label", "class", "class_name", "category", "action"),
    "id": ("id", "youtube_id", "video_id", "video", "name"),
    "start": ("time_start", "start_time", "start"),
    "end": ("time_end", "end_time", "end"),
    "split": ("split", "subset"),
}
UNSAID, TRAIN, VAL, TEST = -1, 0, 1, 2
PARTS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "validate", "validation", "valid"), VAL),
    **dict.fromkeys(("test", "testing"), TEST),
}
CHUNK = 16_384  # rows held as Python objects at a time
LONGEST_ID = 230  # bytes: a folder's name holds 255


class Unusable(ValueError):
    """A row that cannot be used. The message is the reason, without file and row."""


@dataclass(frozen=True)
class LabelTable:
    """The usable rows of a csv.

    Attributes:
        path: the csv.
        ids: str (N,), names of the videos' folders: the id, for time-sliced sets
            `<youtube_id>_<start>_<end>` with the seconds as six digits.
        labels: int64 (N,), indices into `classes`.
        classes: names of the classes.
        parts: int8 (N,), TRAIN, VAL or TEST as the row's split says, else UNSAID.
        rows: int32 (N,), line numbers in the csv. The header is line 1.
        rejected: (line number, reason) of each row that cannot be used.
    """

    path: Path
    ids: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    parts: np.ndarray
    rows: np.ndarray
    rejected: list[tuple[int, str]]

    def __len__(self) -> int:
        return len(self.ids)


def load_labels(path: str | Path, classes: Sequence[str] | None = None) -> LabelTable:
    """Read a label csv. A row that cannot be used lands in `.rejected`.

    Args:
        path: the csv, or csv.gz.
        classes: names of the classes, which fix the numbers; any other is a reason to reject.
            Without, the numbers are those of `<prefix>dictionary.json` beside the csv, whose
            prefix the csv's name must begin with; without that, the order in which the classes
            appear in the csv.

    Raises:
        DataError: there is no such file, it is no csv, lacks a column, or has no row at all.
    """
    path = Path(path)
    if classes is None:
        classes = _dictionary(path)
    numbers = _ClassNumbers(classes)
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
    ids, labels, parts, rows = (np.concatenate(column) for column in zip(*chunks, strict=True))
    return LabelTable(
        path=path,
        ids=ids,
        labels=labels.astype(np.int64),
        classes=tuple(numbers.names),
        parts=parts.astype(np.int8),
        rows=rows.astype(np.int32),
        rejected=rejected,
    )


def class_key(name: str) -> str:
    """What spellings of a class have in common: `Brush_Hair` and `brush hair` are one."""
    return " ".join(name.replace("_", " ").split()).casefold()


def _open(path: Path) -> TextIO:
    # Escaped, bytes that are not UTF-8 still name the file that they name on the disk.
    options = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": ""}
    if path.suffix == ".gz":
        return gzip.open(path, "rt", **options)
    return path.open(**options)


def _reader(path: Path, file: TextIO) -> tuple[Iterator[list[str]], dict[str, int]]:
    """A csv reader behind the header, and the column that holds each of COLUMNS."""
    start = file.readline()
    delimiter = next((mark for mark in ",;\t" if mark in start), ",")
    header = [name.strip().lower() for name in next(csv.reader([start], delimiter=delimiter), [])]
    if {"classname", "label"} <= set(header):
        raise DataError(f"{path}: is HACS's own csv; convert it by `python -m run.labels hacs`")
    columns = {}
    for column, names in COLUMNS.items():
        at = next((header.index(name) for name in names if name in header), None)
        if at is not None:
            columns[column] = at
        elif column in ("label", "id"):
            found = ", ".join(header[:8])[:100] or "nothing"
            raise DataError(
                f"{path}:1: no column {' or '.join(names[:2])} in the header ({found!r}); "
                "it must read label,id,split or label,youtube_id,time_start,time_end,split"
            )
    if ("start" in columns) != ("end" in columns):
        raise DataError(f"{path}:1: the header has only one of time_start and time_end")
    return csv.reader(file, delimiter=delimiter), columns


def _chunks(
    reader: Iterator[list[str]], parse: _RowParser, rejected: list[tuple[int, str]]
) -> Iterator[list[np.ndarray]]:
    """Columns (ids, labels, parts, rows) of up to CHUNK usable rows at a time."""
    columns = ids, labels, parts, lines = [], [], [], []
    for line, row in _lines(reader, rejected):
        try:
            name, number, part = parse(row)
        except Unusable as reason:
            rejected.append((line, str(reason)))
            continue
        ids.append(name)
        labels.append(number)
        parts.append(part)
        lines.append(line)
        if len(ids) == CHUNK:
            yield [np.array(column) for column in columns]
            for column in columns:
                column.clear()
    if ids:
        yield [np.array(column) for column in columns]


def _lines(reader, rejected: list[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of the rows that are not blank, below a header on line 1."""
    end = reader.line_num + 1  # of the row before
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
    """Fields of a row -> (folder name, class number, part). Raises Unusable."""

    def __init__(self, columns: dict[str, int], numbers: _ClassNumbers):
        self.label, self.id = columns["label"], columns["id"]
        self.times = (columns["start"], columns["end"]) if "start" in columns else ()
        self.split = columns.get("split")
        self.needed = max(self.label, self.id, *self.times) + 1
        self.numbers, self.stamps, self.parts = numbers, _Stamps(), _Parts()

    def __call__(self, row: list[str]) -> tuple[str, int, int]:
        if len(row) < self.needed:
            raise Unusable(f"has {len(row)} fields, needs {self.needed}")
        name = row[self.id].strip()
        if not name:
            raise Unusable("has no video id")
        if "/" in name or "\0" in name or name in (".", "..") or len(name) > LONGEST_ID:
            raise Unusable(f"has the id {name[:40]!r}, which no folder can be named")
        if self.times:
            start, end = self.stamps[row[self.times[0]]], self.stamps[row[self.times[1]]]
            if bool(start) != bool(end):
                raise Unusable("has only one of time_start and time_end")
            name += start + end
        number = self.numbers[row[self.label]]  # last: a rejected row numbers no class
        split = self.split
        part = self.parts[row[split]] if split is not None and split < len(row) else UNSAID
        return name, number, part


class _ClassNumbers(dict):
    """Label as spelled in a row -> number. With no `classes` given, new labels get the next."""

    def __init__(self, classes: Sequence[str] | None):
        self.names = list(classes or ())
        self.closed = classes is not None
        self.by_key = {class_key(name): number for number, name in enumerate(self.names)}

    def __missing__(self, label: str) -> int:
        key = class_key(label)
        if not key:
            raise Unusable("has no label")
        if key not in self.by_key:
            if self.closed:
                raise Unusable(f"has the unknown class {label[:60]!r}")
            self.by_key[key] = len(self.names)
            self.names.append(label.strip())
        self[label] = self.by_key[key]
        return self[label]


class _Stamps(dict):
    """Seconds as text -> what they add to a folder's name: "10.0" -> "_000010", "" -> ""."""

    def __missing__(self, text: str) -> str:
        try:
            seconds = float(text) if text.strip() else None
        except ValueError:
            raise Unusable(f"has the time {text[:20]!r}, not a number of seconds") from None
        if seconds is not None and not 0 <= seconds < 1e6:
            raise Unusable(f"has the time {text[:20]!r}, not within 0..999999 seconds")
        stamp = "" if seconds is None else f"_{int(seconds):06d}"
        if len(self) < CHUNK:
            self[text] = stamp
        return stamp


class _Parts(dict):
    """A row's split -> TRAIN, VAL, TEST or UNSAID."""

    def __missing__(self, text: str) -> int:
        self[text] = PARTS.get(text.strip().lower(), UNSAID)
        return self[text]


def _dictionary(path: Path) -> list[str] | None:
    """Class names in order from the `<prefix>dictionary.json` that belongs to the csv, if any."""
    suffix = "dictionary.json"
    beside = path.parent.glob(f"*{suffix}") if path.parent.is_dir() else ()
    own = [file for file in beside if path.name.startswith(file.name.removesuffix(suffix))]
    if not own:
        return None
    file = max(own, key=lambda file: len(file.name))
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
        pairs = list(content.items())
        if all(isinstance(value, str) for _, value in pairs):
            pairs = [(name, number) for number, name in pairs]
        by_number = {int(number): name for name, number in pairs}
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise DataError(f"{file}: is not a json of {{class: number}} ({error})") from error
    if sorted(by_number) != list(range(len(pairs))) or not pairs:
        raise DataError(f"{file}: its numbers are not 0..{len(pairs) - 1}, each once")
    return [by_number[number] for number in range(len(pairs))]
