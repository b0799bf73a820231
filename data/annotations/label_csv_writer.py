"""Write label csvs, one file for each part; a file is replaced only when it is complete."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from data.annotations.class_names import class_key
from data.data_error import DataError
from data.file_writing import write_atomically


class Row(NamedTuple):
    """One video of a label csv; `start` and `end` are in seconds, or both None."""

    label: str
    id: str
    part: str  # "train", "val" or "test"
    start: float | None = None
    end: float | None = None


def write_csvs(
    rows: Iterable[Row], name: Callable[[str], Path], classes: Sequence[str] | None = None
) -> dict[Path, int]:
    """Write a label csv for each part that has rows. Equal rows are written once.

    Args:
        rows: the rows of all parts.
        name: returns the path of a part's csv, which is compressed if the path ends in .gz.
        classes: class names in the order of their numbers. The rows are sorted by it, because
            readers number the classes in the order in which they first appear.

    Returns:
        The number of rows of each csv, by its path.

    Raises:
        DataError: there is no row, or a row's class is not among `classes`.
    """
    by_part: dict[str, dict[Row, None]] = {}
    for row in rows:
        by_part.setdefault(row.part, {})[row] = None
    if not by_part:
        raise DataError("there is no row to write")
    order = {class_key(label): number for number, label in enumerate(classes or ())}
    written = {}
    for part, unique in by_part.items():
        part_rows = list(unique)
        if classes:
            unknown = {row.label for row in part_rows if class_key(row.label) not in order}
            if unknown:
                raise DataError(f"unknown class {min(unknown)[:60]!r}: not in the class list")
            part_rows.sort(key=lambda row: order[class_key(row.label)])
        path = name(part)
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, _as_csv(part_rows))
        written[path] = len(part_rows)
    return written


def _as_csv(rows: list[Row]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    if any(row.start is not None for row in rows):
        writer.writerow(("label", "youtube_id", "time_start", "time_end", "split"))
        writer.writerows((row.label, row.id, row.start, row.end, row.part) for row in rows)
    else:
        writer.writerow(("label", "id", "split"))
        writer.writerows((row.label, row.id, row.part) for row in rows)
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    """Write a file atomically."""
    content = text.encode(errors="surrogateescape")
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)  # without the time, so that the bytes repeat
    write_atomically(path, lambda file: file.write(content))
