"""The predictions of the last validation, one row for each video, as `val_predictions.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.data_error import DataError
from data.file_writing import naming, write_atomically

NAME = "val_predictions.csv"
#: Start and End are seconds, empty for whole videos.
COLUMNS = (
    "Epoch", "Video", "Start", "End", "Label", "Predicted", "Probability", "LabelProbability",
)  # fmt: skip


class ValPredictions(NamedTuple):
    """The predictions for the validation videos that can be read, in their order."""

    epoch: int  # after which they were made
    videos: Sequence[str]  # their folders below jpg/
    labels: np.ndarray  # int64 (videos,)
    predicted: np.ndarray  # int64 (videos,), the likeliest class
    probability: np.ndarray  # float64 (videos,), of the likeliest class
    label_probability: np.ndarray  # float64 (videos,)
    times: np.ndarray | None = None  # float64 (videos, 2) of segments, as in data's Videos

    def name(self, index: int) -> str:
        """Return the folder of one video, for a segment with its seconds."""
        if self.times is None or np.isnan(self.times[index, 0]):
            return self.videos[index]
        start, end = self.times[index]
        return f"{self.videos[index]} {start:g}-{end:g} s"

    @property
    def is_wrong(self) -> np.ndarray:
        """Whether the likeliest class is not the label: bool (videos,)."""
        return self.labels != self.predicted


def write_predictions(folder: Path, found: ValPredictions, classes: Sequence[str]) -> None:
    """Write the csv atomically. Bytes of names that are not UTF-8 are kept as they are."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    times = np.full((len(found.videos), 2), np.nan) if found.times is None else found.times
    for video, label, predicted, *shares, seconds in zip(*found[1:-1], times, strict=True):
        cells = ("" if np.isnan(second) else f"{second:.10g}" for second in seconds)
        probabilities = (f"{share:.6g}" for share in shares)
        names = classes[label], classes[predicted]
        writer.writerow((found.epoch, video, *cells, *names, *probabilities))
    content = text.getvalue().encode(errors="surrogateescape")
    write_atomically(folder / NAME, lambda file: file.write(content))


def read_predictions(folder: Path, classes: Sequence[str]) -> ValPredictions | None:
    """Read the csv; None if there is none.

    Raises:
        DataError: it is damaged.
    """
    path, numbers = folder / NAME, {name: number for number, name in enumerate(classes)}
    if not path.exists():
        return None
    with (
        naming(path),
        path.open(encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        try:
            header, *rows = csv.reader(file, strict=True)
            if tuple(header) != COLUMNS or not rows:
                raise ValueError("its columns are others, or it has no rows")
            epochs, videos, start, end, labels, predicted, *shares = zip(*rows, strict=True)
            times = np.array([[float(cell or "nan") for cell in cells] for cells in (start, end)]).T
            return ValPredictions(
                int(epochs[0]),
                videos,
                *(np.array([numbers[name] for name in names]) for names in (labels, predicted)),
                *(np.array(share, np.float64) for share in shares),
                None if np.isnan(times).all() else times,
            )
        except (csv.Error, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: cannot be read ({error}); delete it") from error
