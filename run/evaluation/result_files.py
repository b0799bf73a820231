"""Write the files of an evaluation: csv tables, pictures, logits and the result card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.file_writing import write_atomically
from run.evaluation.class_scores import class_scores
from run.evaluation.mistakes import draw_mistakes
from run.evaluation.pictures import draw_by_views, draw_confusion, draw_time_probe
from run.evaluation.predictions_csv import write_predictions
from run.evaluation.result_card import write_card
from run.evaluation.results import Evaluated
from run.tables import write_csv


def write_files(found: Evaluated, card: Mapping[str, Any], folder: Path) -> None:
    """Write all files of an evaluation into an empty folder; `card` is its `card_content`."""
    scores, videos, classes = found.scores, found.clips.videos, found.trained.classes
    matrix = found.matrix
    write_predictions(
        folder, videos, scores.indices,
        labels=scores.labels, top=scores.top, probabilities=scores.probabilities,
        label_probabilities=scores.label_probabilities, losses=scores.losses,
    )  # fmt: skip
    write_csv(folder / "classes.csv", _class_rows(matrix, classes))
    title = f"{found.trained.config.network}: top-1 {card['scores']['top1'].value:.1f} %"
    draw_confusion(matrix, classes, title, folder / "confusion.png")
    draw_mistakes(scores, found.clips, found.protocol.frames, folder)
    if found.by_views:
        write_csv(folder / "views.csv", map(_with_ends, card["by_views"]))
        draw_by_views(found.by_views, folder / "views.png")
    if card["time_probe"]:
        write_csv(folder / "time_probe.csv", map(_with_ends, card["time_probe"]))
        rows = {row["shown"]: row["top1"] for row in card["time_probe"]}
        draw_time_probe(rows, 100 / len(classes), folder / "time_probe.png")
    if scores.logits is not None:
        names = np.array(list(videos.names()))[scores.indices]
        arrays = {"ids": names, "labels": scores.labels, "classes": np.array(classes)}
        write_atomically(
            folder / "logits.npz", lambda file: np.savez(file, **arrays, logits=scores.logits)
        )
    write_card(folder, card)


def _class_rows(matrix: np.ndarray, classes: Sequence[str]) -> list[dict[str, Any]]:
    found = class_scores(matrix)
    names = ("Videos", "Accuracy", "Low", "High", "Precision", "F1")
    return [
        {"Class": name, **dict(zip(names, row, strict=True))}
        for name, *row in zip(classes, *(column.tolist() for column in found), strict=True)
    ]


def _with_ends(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of a table with three columns for each score that has an interval."""
    cells: dict[str, Any] = {}
    for name, value in row.items():
        title = name.capitalize()
        if isinstance(value, tuple):
            cells |= dict(zip((title, f"{title}Low", f"{title}High"), value, strict=True))
        else:
            cells[title] = value
    return cells
