"""Read what the files of a results folder say about a run; nothing is changed."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from data.data_error import DataError
from train.config import Config
from train.results.history import TABLES, Table
from train.results.val_predictions import NAME as PREDICTIONS
from train.results.val_predictions import ValPredictions, read_predictions

SCHEDULE = "schedule.json"
CURVES = ("x", "clips", "frames", "pixels a side", "lr")  # in SCHEDULE; x has one value more
#: The files that the report is made from.
SOURCES = ("config.json", SCHEDULE, PREDICTIONS, *TABLES)


@dataclass(frozen=True)
class RunFiles:
    """The content of a results folder."""

    folder: Path
    facts: dict[str, Any]  # of config.json
    config: Config
    classes: tuple[str, ...]
    train: Table
    val: Table
    gates: Table
    schedule: dict[str, list[float]]  # see train.schedule.plan_table.run_curves; may be empty
    predictions: ValPredictions | None

    @property
    def epoch(self) -> int:
        """The last finished epoch; 0 before the first has ended."""
        return int(self.train.rows[-1]["Epoch"]) if self.train.rows else 0

    @property
    def epochs(self) -> int:
        """The epochs of the whole run."""
        return math.ceil(self.schedule["x"][-1]) if self.schedule else self.config.end_epoch


def read_run(folder: Path) -> RunFiles:
    """Read a results folder.

    Raises:
        DataError: it holds no run, or one of its files is damaged.
    """
    if not (folder / "config.json").is_file():
        raise DataError(f"{folder}: holds no results of a training; it has no config.json")
    facts = _read_json(folder / "config.json")
    known = {field.name for field in fields(Config)}
    try:
        config = Config(**{k: v for k, v in facts["options"].items() if k in known})
        classes = tuple(facts["classes"])
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder / 'config.json'}: is not of a training ({error!r})") from error
    train, val, gates = (_table(folder / name, columns) for name, columns in TABLES.items())
    schedule = _schedule(folder / SCHEDULE)
    predictions = read_predictions(folder, classes)
    if predictions and not any(row["Epoch"] == predictions.epoch for row in val.rows):
        predictions = None  # the run went back to an epoch before them
    return RunFiles(folder, facts, config, classes, train, val, gates, schedule, predictions)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is not a json object")
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    return content


def _schedule(path: Path) -> dict[str, list[float]]:
    if not path.exists():
        return {}
    found = _read_json(path)
    lengths = [len(found.get(name) or ()) for name in CURVES]
    if not lengths[1] or lengths != [lengths[1] + 1, *lengths[1:2] * 4]:
        raise DataError(f"{path}: is not the schedule of a training; delete it")
    return found


def _table(path: Path, columns: tuple[str, ...]) -> Table:
    if not path.exists():
        return Table(columns)
    try:
        return Table.from_csv(path, columns)
    except ValueError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
