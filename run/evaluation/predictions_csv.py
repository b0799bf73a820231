"""predictions.csv: the label and the likeliest classes of each video of an evaluation."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.annotations.video_folders import Videos
from data.data_error import DataError
from data.file_writing import naming, write_atomically

NAME = "predictions.csv"
#: Start and End are seconds of a segment, empty for whole videos. They are followed by Top1,
#: Probability1, Top2, ... for the likeliest classes.
COLUMNS = ("Video", "Start", "End", "Label", "LabelProbability", "Loss")


@dataclass(frozen=True)
class Predictions:
    """The predictions for N videos, as read from a predictions.csv."""

    videos: list[str]  # names of the folders below jpg/, for segments with their seconds
    labels: list[str]
    predicted: list[str]  # the likeliest class

    @property
    def hits(self) -> np.ndarray:
        """Whether the likeliest class of a video is its label: bool (N,)."""
        return np.array(self.labels, object) == np.array(self.predicted, object)


def write_predictions(
    folder: Path,
    videos: Videos,
    indices: np.ndarray,
    *,
    labels: np.ndarray,
    top: np.ndarray,
    probabilities: np.ndarray,
    label_probabilities: np.ndarray,
    losses: np.ndarray,
) -> None:
    """Write the csv for the videos `indices`. Bytes of names that are not UTF-8 are kept.

    Args:
        folder: in which the csv is written.
        videos: of the dataset.
        indices: int64 (N,).
        labels: int64 (N,).
        top: int64 (N, k), the likeliest classes.
        probabilities: float64 (N, k), of these.
        label_probabilities: float64 (N,).
        losses: float32 (N,).
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ranks = range(1, top.shape[1] + 1)
    writer.writerow([*COLUMNS, *(f"{name}{k}" for k in ranks for name in ("Top", "Probability"))])
    columns = indices.tolist(), labels.tolist(), top.tolist(), probabilities.tolist()
    shares = label_probabilities.tolist(), losses.tolist()
    for index, label, best, likely, probability, loss in zip(*columns, *shares, strict=True):
        times = ("", "") if videos.times is None else map(_seconds, videos.times[index].tolist())
        cells = [
            cell
            for number, value in zip(best, likely, strict=True)
            for cell in (videos.classes[number], f"{value:.6g}")
        ]
        writer.writerow((
            videos.folders[index], *times, videos.classes[label], f"{probability:.6g}",
            f"{loss:.6g}", *cells,
        ))  # fmt: skip
    content = text.getvalue().encode(errors="surrogateescape")
    write_atomically(folder / NAME, lambda file: file.write(content))


def _seconds(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.10g}"


def read_predictions(folder: Path) -> Predictions:
    """Read the csv of an evaluation.

    Raises:
        DataError: it is missing or damaged.
    """
    path = folder / NAME
    needed: Sequence[str] = ("Video", "Start", "End", "Label", "Top1")
    with (
        naming(path),
        path.open(encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        try:
            rows = [
                tuple(row[name] for name in needed) for row in csv.DictReader(file, strict=True)
            ]
            if not rows or not all(all(map(isinstance, row, [str] * 5)) for row in rows):
                raise ValueError("it has no rows, or a row is too short")
        except (csv.Error, KeyError, ValueError) as error:
            raise DataError(f"{path}: cannot be read ({error}); evaluate again") from error
    names = [f"{video} {start}-{end} s" if start else video for video, start, end, *_ in rows]
    return Predictions(names, [row[3] for row in rows], [row[4] for row in rows])
