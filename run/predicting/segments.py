"""From a network's scores over time to segments, each of one class. Nothing here reads a video."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d

UNKNOWN = "unknown"  # the name of segments in which no class reaches the threshold


class ClassScore(NamedTuple):
    """A class and its score, a probability from 0 to 1."""

    name: str
    score: float


class Segment(NamedTuple):
    """A part of a video in which the likeliest class stays the same."""

    start: float  # seconds
    end: float
    name: str  # of the class, or UNKNOWN
    score: float  # of the likeliest class, the mean over the segment
    top: tuple[ClassScore, ...]  # the likeliest classes over the segment


def best_classes(scores: np.ndarray, classes: Sequence[str], top: int) -> tuple[ClassScore, ...]:
    """Return the `top` classes with the highest scores, (classes,), the highest first."""
    best = np.argsort(-scores, kind="stable")[:top]
    return tuple(ClassScore(classes[i], float(scores[i])) for i in best)


def interval_edges(duration: float, every: float) -> np.ndarray:
    """Divide a video into intervals of `every` seconds; the last one may be shorter.

    Returns:
        float64 (n + 1,): where the n intervals begin, and the end of the last one, in seconds.
    """
    n = max(1, math.ceil(round(duration / every, 6)))
    return np.append(np.arange(n) * every, duration)


def smooth(scores: np.ndarray, intervals: float) -> np.ndarray:
    """Smooth scores over time by a Gaussian, which keeps their sum over the classes.

    Args:
        scores: (n, classes), of successive intervals.
        intervals: standard deviation of the Gaussian, in intervals; 0 changes nothing. Beyond the
            ends, the scores are those before the ends in reverse order.

    Returns:
        float64 (n, classes).
    """
    scores = np.asarray(scores, np.float64)
    if intervals < 0.05:  # its neighbours would have no weight
        return scores
    return gaussian_filter1d(scores, min(intervals, len(scores)), axis=0, mode="reflect")


def blend(
    before: np.ndarray | None, scores: np.ndarray, elapsed: float, smoothing: float
) -> np.ndarray:
    """Smooth the newest scores of a stream by those before, whose weight falls exponentially.

    Args:
        before: the smoothed scores until now, (classes,); None at the start.
        scores: the newest scores, (classes,).
        elapsed: seconds from the former to the latter.
        smoothing: seconds in which the weight of older scores falls to 1 / e; 0 changes nothing.
    """
    if before is None or smoothing <= 0:
        return scores
    kept = math.exp(-max(0.0, elapsed) / smoothing)
    return kept * before + (1 - kept) * scores


class SegmentMerger:
    """Merges successive intervals into segments while they arrive.

    The segments cover the time from the first interval to the last without gaps or overlap, and
    neighbouring segments differ in their names.

    Args:
        classes: the names of the classes.
        threshold: below this score the likeliest class is not named: the segment is UNKNOWN.
        top: number of classes to keep for each segment.
    """

    def __init__(self, classes: Sequence[str], threshold: float, top: int):
        self.classes, self.threshold, self.top = classes, threshold, top
        self._finished: list[Segment] = []
        self._label: int | None = None  # of the open segment; None: unknown
        self._start = self._end = 0.0
        self._sum: np.ndarray | None = None  # of scores times seconds; None: no segment is open

    def add(self, start: float, end: float, scores: np.ndarray) -> None:
        """Add the interval from `start`, where the one before ended, to a later `end`, in seconds.

        `scores` are the probabilities of the classes, (classes,).
        """
        label = self.label(scores)
        if self._sum is not None and label != self._label:
            self._finished.append(self._open())
            self._sum = None
        if self._sum is None:
            self._label, self._start, self._sum = label, start, np.zeros(len(self.classes))
        self._end = end
        self._sum += np.asarray(scores, np.float64) * (end - start)

    def label(self, scores: np.ndarray) -> int | None:
        """Return the number of the likeliest class; None if it does not reach the threshold."""
        best = int(np.argmax(scores))
        return best if scores[best] >= self.threshold else None

    def segments(self) -> list[Segment]:
        """Return the segments so far, the last of which may still grow."""
        return self._finished + ([] if self._sum is None else [self._open()])

    def _open(self) -> Segment:
        mean = self._sum / (self._end - self._start)
        top = best_classes(mean, self.classes, self.top)
        name = UNKNOWN if self._label is None else self.classes[self._label]
        return Segment(self._start, self._end, name, float(mean.max()), top)
