"""Accuracy and F1 of each class, their means over the classes, and 95 % intervals of all."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from train.report.prediction_scores import wilson_interval

RESAMPLES = 2000
SEED = 0


class Share(NamedTuple):
    """A score in percent with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} % [{self.low:.2f}, {self.high:.2f}]"


class ClassScores(NamedTuple):
    """Scores of C classes in percent; NaN for a class without videos."""

    videos: np.ndarray  # int64 (C,)
    accuracy: np.ndarray  # float64 (C,), the share of the class's videos that are recognised
    low: np.ndarray  # float64 (C,), of the accuracy's interval
    high: np.ndarray  # float64 (C,)
    precision: np.ndarray  # float64 (C,); NaN for a class that is never predicted
    f1: np.ndarray  # float64 (C,)


def share(hits: int, videos: int) -> Share:
    """Return the share of `videos` that are hits, with Wilson's interval."""
    low, high = wilson_interval(np.array(hits), np.array(videos))
    return Share(100 * hits / max(videos, 1), 100 * float(low), 100 * float(high))


def class_scores(matrix: np.ndarray) -> ClassScores:
    """Return the scores of each class.

    Args:
        matrix: int64 (C, C), videos by label (row) and predicted class (column).
    """
    hits, videos, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    low, high = (np.where(videos, 100 * end, np.nan) for end in wilson_interval(hits, videos))
    with np.errstate(invalid="ignore"):
        accuracy, precision = 100 * hits / videos, 100 * hits / predicted
    return ClassScores(videos, accuracy, low, high, precision, _f1(hits, videos, predicted))


def _f1(hits: np.ndarray, videos: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    f1 = 200 * hits / np.maximum(videos + predicted, 1)
    return np.where(videos, f1, np.nan)


def mean_class_accuracy(matrix: np.ndarray) -> Share:
    """Return the mean of the classes' accuracies, over the classes that have videos."""

    def score(hits: np.ndarray, videos: np.ndarray, _: np.ndarray) -> float:
        return float((100 * hits[videos > 0] / videos[videos > 0]).mean())

    return _with_interval(matrix, score)


def mean_f1(matrix: np.ndarray) -> Share:
    """Return the mean of the classes' F1 (macro F1), over the classes that have videos."""

    def score(hits: np.ndarray, videos: np.ndarray, predicted: np.ndarray) -> float:
        return float(np.nanmean(_f1(hits, videos, predicted)))

    return _with_interval(matrix, score)


def _with_interval(
    matrix: np.ndarray, score: Callable[[np.ndarray, np.ndarray, np.ndarray], float]
) -> Share:
    """Return a score, and its percentile interval over bootstrap samples of the videos.

    Videos with the same label and prediction are alike, so the number of each kind in a sample is
    drawn from a multinomial distribution, which is the same as drawing videos one by one.
    """
    rows, columns = matrix.nonzero()
    counts = matrix[rows, columns]
    if not len(counts):
        return Share(0.0, 0.0, 100.0)
    rng = np.random.default_rng(SEED)
    classes, right = len(matrix), rows == columns

    def of_sample(drawn: np.ndarray) -> float:
        weights = ((drawn * right, rows), (drawn, rows), (drawn, columns))
        return score(*(np.bincount(at, w, minlength=classes) for w, at in weights))

    total = counts.sum()
    values = [of_sample(rng.multinomial(total, counts / total)) for _ in range(RESAMPLES)]
    low, high = np.percentile(values, (2.5, 97.5)).tolist()
    return Share(of_sample(counts), low, high)
