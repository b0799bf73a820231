"""Compute from predictions: confusion matrix, confused pairs, the worst predictions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from train.results.val_predictions import ValPredictions

Z = 1.959964  # standard deviations to either side of a 95 % interval


class Pair(NamedTuple):
    """A class that is predicted as another one."""

    label: int
    predicted: int
    clips: int  # of the class that are predicted as the other one
    of: int  # clips of the class


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Count the clips by label (row) and predicted class (column): int64 (classes, classes)."""
    cells = np.bincount(labels * n_classes + predicted, minlength=n_classes**2)
    return cells.reshape(n_classes, n_classes)


def wilson_interval(hits: np.ndarray, clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both ends of the 95 % interval of hits / clips; 0 and 1 where there are no clips.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference, Journal of
    the American Statistical Association 22, 1927.
    """
    n = np.maximum(clips, 1)
    share = hits / n
    centre = share + Z**2 / (2 * n)
    half = Z * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    low, high = ((centre + side) / (1 + Z**2 / n) for side in (-half, half))
    return np.where(clips, low.clip(0), 0.0), np.where(clips, high.clip(max=1), 1.0)


def confused_pairs(matrix: np.ndarray, most: int) -> list[Pair]:
    """Return the pairs of classes that are confused most often, the most frequent first."""
    wrong = matrix - np.diag(matrix.diagonal())
    sums = matrix.sum(1)
    found = [
        Pair(row, column, int(wrong[row, column]), int(sums[row]))
        for row, column in np.argwhere(wrong > 0).tolist()
    ]
    return sorted(found, key=lambda pair: (-pair.clips, pair.of, pair))[:most]


def confidently_wrong(found: ValPredictions, most: int) -> list[int]:
    """Return the wrong predictions with the highest probabilities, as positions in `found`."""
    order = np.argsort(-found.probability, kind="stable")
    return order[found.is_wrong[order]][:most].tolist()


def hardest(found: ValPredictions, most: int, *, besides: list[int]) -> list[int]:
    """Return the clips whose labels have the lowest probabilities, without those in `besides`."""
    order = np.argsort(found.label_probability, kind="stable").tolist()
    return [index for index in order if index not in besides][:most]
