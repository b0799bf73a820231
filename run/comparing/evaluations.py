"""Find and read the results of `run.evaluate`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.data_error import DataError
from data.file_writing import naming
from run.evaluation.predictions_csv import Predictions, read_predictions
from run.evaluation.result_folder import CARD, is_unfinished

PARTS = {"protocol": dict, "data": dict, "checkpoint": dict}  # of a card that are needed


@dataclass(frozen=True)
class Result:
    """One evaluation."""

    folder: Path
    card: dict[str, Any]
    predictions: Predictions


def find_evaluations(given: Path) -> list[Path]:
    """Return the evaluations that a word of the command line names.

    It is the folder of an evaluation, a results folder with one evaluation, or the folder in which
    the runs of several --seeds were compared, which stands for all of these runs.

    Raises:
        DataError: there is no evaluation, or there are several.
    """
    if (given / CARD).is_file():
        return [given]
    found = sorted(
        path.parent
        for path in (given / "evaluation").glob(f"*/{CARD}")
        if not is_unfinished(path.parent)
    )
    if len(found) > 1:
        names = ", ".join(str(path) for path in found)
        raise DataError(f"{given}: holds several evaluations; choose one of {names}")
    if found:
        return found
    if not given.is_dir():
        raise DataError(f"{given}: no such folder")
    if (given / "seeds.json").is_file():
        name = given.absolute().name.removesuffix("seeds")
        runs = sorted(given.absolute().parent.glob(f"{name}seed-*"))
        if not runs:
            raise DataError(f"{given}: its runs {name}seed-* are not beside it")
        return [evaluation for run in runs for evaluation in find_evaluations(run)]
    raise DataError(
        f"{given}: holds no evaluation; make one by `python -m run.evaluate --checkpoint "
        f"{given / 'best.pth'} --dataset FOLDER`"
    )


def read_result(folder: Path) -> Result:
    """Read an evaluation.

    Raises:
        DataError: a file is missing or damaged.
    """
    path = folder / CARD
    with naming(path):
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
            for name, kind in PARTS.items():
                if not isinstance(card[name], kind):
                    raise ValueError(f"its part {name} is damaged")
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: cannot be read ({error}); evaluate again") from error
    return Result(folder, card, read_predictions(folder))
