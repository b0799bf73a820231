"""The scores of every finished epoch, kept in the checkpoint and written as csv files."""

from __future__ import annotations

import csv
import io
import logging
import math
from pathlib import Path
from typing import Any

from data.file_writing import naming, set_aside, write_text
from train.train_errors import TrainError

log = logging.getLogger(__name__)

#: Seconds: of the whole epoch in train_results.csv, of its validation in val_results.csv.
#: train_results.csv also has Reading, Forward and Backward, seconds of the epoch's steps.
#: SecondsLeft: estimate of the time until the run ends. BestTop1: of all validations so far.
COLUMNS = (
    "Epoch", "Top1", "Top5", "Loss", "Lr", "Clips", "Seconds", "SecondsLeft", "BestTop1",
)  # fmt: skip
#: The columns of each csv file. gates.csv has one more column for each block.
TABLES = {"train_results.csv": COLUMNS, "val_results.csv": COLUMNS, "gates.csv": ("Epoch",)}


class Table:
    """A row of numbers for each epoch, in ascending order, that can be written as csv."""

    def __init__(self, columns: tuple[str, ...], rows: list[dict[str, float]] | None = None):
        self.columns = columns
        self.rows = rows or []

    def add(self, epoch: int, values: dict[str, float]) -> None:
        """Add the row of `epoch`, after deleting any rows of this and later epochs."""
        self.keep_until(epoch - 1)
        self.rows.append({"Epoch": epoch, **{name: float(v) for name, v in values.items()}})

    def keep_until(self, epoch: int) -> None:
        """Delete the rows of all epochs after `epoch`."""
        self.rows = [row for row in self.rows if row["Epoch"] <= epoch]

    def column(self, name: str) -> list[float]:
        """Return one column as numbers, NaN where a row has no value."""
        return [row.get(name, math.nan) for row in self.rows]

    def as_csv(self) -> str:
        """Return the text of the csv file."""
        names = [*self.columns, *(k for k in self.rows[-1] if k not in self.columns)]
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _number(v) for name, v in row.items()} for row in self.rows)
        return text.getvalue()

    @classmethod
    def from_csv(cls, path: Path, columns: tuple[str, ...]) -> Table:
        """Read a csv file. Raises ValueError if it is damaged."""
        with naming(path), path.open(newline="", encoding="utf-8") as file:
            try:
                reader = csv.DictReader(file, strict=True)
                if "Epoch" not in (reader.fieldnames or ()):
                    raise ValueError("it has no column Epoch")
                rows = [
                    {name: float(text) for name, text in row.items() if text != ""}
                    for row in reader
                ]
            except (csv.Error, TypeError, AttributeError) as error:  # rows of another length
                raise ValueError(str(error)) from error
        epochs = [row.get("Epoch", math.nan) for row in rows]
        if not all(epoch.is_integer() for epoch in epochs) or epochs != sorted(set(epochs)):
            raise ValueError("its epochs are not whole numbers in ascending order")
        return cls(columns, [{**row, "Epoch": int(row["Epoch"])} for row in rows])


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.6g}"


class History:
    """One table for each csv file of a run, by the file's name."""

    def __init__(self, rows: dict[str, list[dict[str, float]]] | None = None):
        self.tables = {
            name: Table(columns, (rows or {}).get(name)) for name, columns in TABLES.items()
        }

    def rows(self) -> dict[str, list[dict[str, float]]]:
        """Return the rows for a checkpoint; `History(rows)` makes the same history from them."""
        return {name: list(table.rows) for name, table in self.tables.items()}

    def add_epoch(
        self,
        epoch: int,
        scores: dict[str, dict[str, float]],
        *,
        lr: float,
        gates: dict[str, float],
        seconds_left: float = math.nan,
        best_top1: float = -1,
    ) -> None:
        """Add an epoch's `scores` by part ("train", and "val" if validated) and its gate rates.

        The `scores` of a part have top1, top5, loss and clips, and seconds (also of reading,
        forward and backward passes) if they are known. A
        `seconds_left` of NaN (unknown) and a negative `best_top1` (not validated yet) leave their
        cells empty.
        """
        for part, values in scores.items():
            row = {name.title(): values[name] for name in ("top1", "top5", "loss")}
            row |= {"Lr": lr, "Clips": values["clips"]}
            if "seconds" in values:
                row["Seconds"] = round(values["seconds"], 3)
            for name in ("reading", "forward", "backward"):
                if name in values:
                    row[name.title()] = round(values[name], 3)
            if not math.isnan(seconds_left):
                row["SecondsLeft"] = round(seconds_left, 1)
            if best_top1 >= 0:
                row["BestTop1"] = best_top1
            self.tables[f"{part}_results.csv"].add(epoch, row)
        if gates:
            self.tables["gates.csv"].add(epoch, gates)

    def keep_until(self, epoch: int) -> None:
        """Delete the rows of all epochs after `epoch` in all tables."""
        for table in self.tables.values():
            table.keep_until(epoch)

    def write(self, folder: Path) -> None:
        """Write each csv file in `folder` whose content has changed."""
        for name, table in self.tables.items():
            path = folder / name
            with naming(path):
                old = path.read_bytes() if path.exists() else b""
            text = table.as_csv() if table.rows else ""
            if old != text.encode():
                write_text(path, text)


def read_history(folder: Path) -> History:
    """Read the history from the csv files in `folder`; rename damaged ones, with a warning."""
    history = History()
    for name, columns in TABLES.items():
        path = folder / name
        if path.exists():
            try:
                history.tables[name] = Table.from_csv(path, columns)
            except ValueError as error:
                aside = set_aside(path, "damaged")
                log.warning(
                    "%s cannot be read (%s): it is now %s, and the rows of earlier epochs are "
                    "missing from the new file", path, error, aside.name,
                )  # fmt: skip
    return history


def check_history(path: Path, state: dict[str, Any]) -> None:
    """Raise TrainError if the history in a checkpoint does not consist of rows of numbers."""
    for name, rows in state.get("history", {}).items():
        whole = isinstance(rows, list) and all(isinstance(row, dict) for row in rows)
        if name not in TABLES or not whole or not all(map(_is_row, rows)):
            raise TrainError(f"{path}: cannot be used: its history of scores is damaged")


def _is_row(row: dict) -> bool:
    numbers = all(isinstance(k, str) and type(v) in (int, float) for k, v in row.items())
    return numbers and type(row.get("Epoch")) is int


def restored_history(state: dict[str, Any], folder: Path) -> History:
    """Return the history in a checkpoint; older checkpoints have none, so read the csv files."""
    if "history" in state:
        return History(state["history"])
    return read_history(folder)
