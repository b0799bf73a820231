"""Accuracy and F1 of each class, their means over the classes, and 95 % intervals of all."""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from train.report.prediction_scores import wilson_interval

RESAMPLES = 1000
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


def class_means(matrix: np.ndarray) -> tuple[Share, Share]:
    """Return the means of the classes' accuracies and F1, over the classes that have videos.

    Their intervals are percentiles over bootstrap samples of the videos. Videos with the same label
    and prediction are alike, so the number of each kind in a sample is drawn from a multinomial
    distribution, which is the same as drawing videos one by one.

    Args:
        matrix: int64 (C, C), videos by label (row) and predicted class (column), at least one.
    """
    rows, columns = matrix.nonzero()
    counts = matrix[rows, columns]
    rng = np.random.default_rng(SEED)
    classes, right, total = len(matrix), rows == columns, counts.sum()

    def means(drawn: np.ndarray) -> tuple[float, float]:
        weights = ((drawn * right, rows), (drawn, rows), (drawn, columns))
        hits, videos, predicted = (np.bincount(at, w, minlength=classes) for w, at in weights)
        there = videos > 0
        accuracy = 100 * hits[there] / videos[there]
        return float(accuracy.mean()), float(_f1(hits, videos, predicted)[there].mean())

    draws = tqdm(range(RESAMPLES), desc="intervals", leave=False, disable=not sys.stderr.isatty())
    samples = [means(rng.multinomial(total, counts / total)) for _ in draws]
    low, high = np.percentile(samples, (2.5, 97.5), axis=0)
    accuracy, f1 = (
        Share(*ends) for ends in zip(means(counts), low.tolist(), high.tolist(), strict=True)
    )
    return accuracy, f1
