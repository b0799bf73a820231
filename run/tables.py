"""Tables of results: as csv files, in Markdown, and as aligned text."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from data.file_writing import write_atomically
from run.worker_pool import printable
from train.text_table import text_table


def write_csv(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows with equal keys, atomically; at least one row is needed.

    Numbers that are not finite become empty cells. Bytes of names that are not UTF-8 are kept.
    """
    rows = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    content = text.getvalue().encode(errors="surrogateescape")
    write_atomically(path, lambda file: file.write(content))


def _cell(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else ""
    return value


def text_cells(rows: Sequence[Mapping[str, object]]) -> list[list[str]]:
    """Return a line of names, one for each key that a row has, and a line of cells for each row."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[row.get(name, "") for name in names] for row in rows]
    return [names, *([f"{v:.4g}" if isinstance(v, float) else str(v) for v in c] for c in cells)]


def aligned_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows as text with aligned columns, one for each key that a row has."""
    return text_table(text_cells(rows), str.ljust) if rows else "(no rows)"


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(map(_escaped, cells))} |" for cells in lines]


def _escaped(cell: str) -> str:
    return " ".join(printable(cell).replace("|", "\\|").split())
