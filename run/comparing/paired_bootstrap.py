"""The difference between two configurations that were scored on the same videos.

The videos are drawn anew, and both configurations are scored on each sample (the paired bootstrap:
Efron and Tibshirani, An Introduction to the Bootstrap, 1993). What makes a video easy or hard for
both configurations then cancels out, so the interval is narrower than those of their accuracies.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

RESAMPLES = 5000
SEED = 0
CHUNK = 100  # samples at a time
LEVEL = 0.95


class Interval(NamedTuple):
    """A number in percentage points, and both ends of its interval."""

    value: float
    low: float
    high: float

    @property
    def contains_zero(self) -> bool:
        """Whether the sign of the number cannot be told."""
        return self.low <= 0 <= self.high

    def __str__(self) -> str:
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


class PairedIntervals(NamedTuple):
    """By how many points the second configuration is better than the first."""

    top1: Interval
    mean_class_accuracy: Interval


def paired_intervals(
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    *,
    level: float = LEVEL,
    title: str = "bootstrap",
) -> PairedIntervals:
    """Return the differences of the scores, with percentile intervals over the videos.

    Args:
        labels: int64 (videos,).
        first: float64 (videos,), the share of the first configuration's runs that are right.
        second: float64 (videos,), of the second configuration's runs.
        level: share of the samples in an interval.
        title: of the progress bar.
    """
    # Videos that are alike in all three are drawn together: how many of each kind are in a sample
    # has a multinomial distribution.
    kinds, counts = np.unique(np.stack([labels, first, second]), axis=1, return_counts=True)
    starts = np.flatnonzero(np.diff(kinds[0], prepend=-1))  # of each label in the sorted kinds
    gains = kinds[2] - kinds[1]
    own = _differences(counts[None], gains, starts)
    samples = [_differences(drawn, gains, starts) for drawn in _samples(counts, title)]
    ends = (50 * (1 - level), 50 * (1 + level))
    return PairedIntervals(
        *(
            Interval(float(value[0]), *np.percentile(np.concatenate(drawn), ends).tolist())
            for value, drawn in zip(own, zip(*samples, strict=True), strict=True)
        )
    )


def _samples(counts: np.ndarray, title: str) -> Iterator[np.ndarray]:
    """Yield how many videos of each kind are in the samples: int64 (CHUNK, kinds)."""
    rng = np.random.default_rng(SEED)
    total = counts.sum()
    hidden = not sys.stderr.isatty()
    for _ in tqdm(range(RESAMPLES // CHUNK), desc=title, leave=False, disable=hidden):
        yield rng.multinomial(total, counts / total, size=CHUNK)


def _differences(
    counts: np.ndarray, gains: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the differences of top-1 and of the mean class accuracy in points, of each sample.

    Args:
        counts: int64 (samples, kinds), kinds of one label side by side.
        gains: float64 (kinds,), the difference for a video of each kind.
        starts: int64 (labels,), the first kind of each label.
    """
    gained = counts * gains
    top1 = gained.sum(1) / counts.sum(1)
    of_class, videos = (np.add.reduceat(part, starts, axis=1) for part in (gained, counts))
    shares = of_class / np.maximum(videos, 1)  # 0 for a class that is not in a sample
    return 100 * top1, 100 * shares.sum(1) / (videos > 0).sum(1)


def mcnemar_p(first: np.ndarray, second: np.ndarray) -> float:
    """Return the p-value of McNemar's exact test for two single runs, bool (videos,) each.

    Only the videos count that one of them recognises and the other does not: if the two were
    equally good, each of these would go to either with probability one half.
    """
    from scipy.stats import binomtest  # takes a second to import

    lost, gained = int((first & ~second).sum()), int((second & ~first).sum())
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def interval_over_runs(
    first: np.ndarray, second: np.ndarray, *, level: float = LEVEL
) -> Interval | None:
    """Return the difference of the mean scores of several runs, with the interval of Welch's test.

    Args:
        first: float64 (runs,), scores in percent.
        second: float64 (runs,).
        level: confidence of the interval.

    Returns:
        None if a configuration has a single run.
    """
    if min(len(first), len(second)) < 2:
        return None
    from scipy.stats import t  # its ttest_ind warns if the runs of a configuration are equal

    value = float(second.mean() - first.mean())
    errors = np.array([runs.var(ddof=1) / len(runs) for runs in (first, second)])
    if not errors.any():
        return Interval(value, value, value)
    freedom = errors.sum() ** 2 / (errors**2 / [len(first) - 1, len(second) - 1]).sum()
    half = float(t.ppf((1 + level) / 2, freedom) * np.sqrt(errors.sum()))
    return Interval(value, value - half, value + half)
