"""Compare all pairs of configurations, and say what can be decided."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from run.comparing.class_changes import ClassChange, class_changes
from run.comparing.configurations import Compared, Configuration
from run.comparing.paired_bootstrap import (
    LEVEL,
    Interval,
    interval_over_runs,
    mcnemar_p,
    paired_intervals,
)
from run.evaluation.class_scores import Share, share

UNDECIDED = "not decidable with these videos"
FEW_RUNS = "not decidable with so few runs"


@dataclass(frozen=True)
class Scores:
    """The scores of one configuration in percent."""

    name: str
    top1: np.ndarray  # float64 (runs,)
    mean_class_accuracy: np.ndarray  # float64 (runs,)
    interval: Share | None  # of the top-1 accuracy over the videos, for a single run

    def row(self) -> dict[str, object]:
        """Return the means and the spreads over the runs; no spread for a single run."""
        cells: dict[str, object] = {"configuration": self.name, "runs": len(self.top1)}
        for name in ("top1", "mean_class_accuracy"):
            values = getattr(self, name)
            several = len(values) > 1
            cells[name] = float(values.mean())
            cells[f"{name}_std"] = float(values.std(ddof=1)) if several else None
            cells[f"{name}_low"] = float(values.min()) if several else None
            cells[f"{name}_high"] = float(values.max()) if several else None
        return cells


@dataclass(frozen=True)
class Difference:
    """By how much the second of two configurations is better in one score."""

    first: str
    second: str
    score: str  # top1 or mean_class_accuracy
    over_videos: Interval
    over_runs: Interval | None  # if both have several runs
    p: float | None  # of McNemar's test, for the top-1 accuracy of two single runs
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """All that is said about some configurations."""

    scores: list[Scores]
    differences: list[Difference]
    changes: dict[tuple[str, str], list[ClassChange]]  # by pair of configurations
    level: float  # of each interval


def compare(compared: Compared) -> Comparison:
    """Compare all pairs.

    With several pairs the intervals are wider (Bonferroni's correction), so that all of them hold
    together with a probability of LEVEL.
    """
    pairs = list(itertools.combinations(compared.configurations, 2))
    level = 1 - (1 - LEVEL) / len(pairs)
    scores = {one.name: _scores(compared, one) for one in compared.configurations}
    differences, changes = [], {}
    for number, (first, second) in enumerate(pairs, 1):
        intervals = paired_intervals(
            compared.labels, first.mean_hits, second.mean_hits,
            level=level, title=f"pair {number} of {len(pairs)}",
        )  # fmt: skip
        for name, over_videos in intervals._asdict().items():
            before, after = (getattr(scores[one.name], name) for one in (first, second))
            over_runs = interval_over_runs(before, after, level=level)
            p = None
            if name == "top1" and len(first.hits) == len(second.hits) == 1:
                p = mcnemar_p(first.hits[0], second.hits[0])
            verdict = _verdict(first.name, second.name, over_videos, over_runs, p, 1 - level)
            differences.append(
                Difference(first.name, second.name, name, over_videos, over_runs, p, verdict)
            )
        changes[first.name, second.name] = class_changes(compared, first, second)
    return Comparison(list(scores.values()), differences, changes, level)


def _scores(compared: Compared, one: Configuration) -> Scores:
    n = len(compared.classes)
    videos = np.bincount(compared.labels, minlength=n)
    recall = np.array([np.bincount(compared.labels, hits, n) / videos for hits in one.hits])
    interval = share(int(one.hits.sum()), one.hits.shape[1]) if len(one.hits) == 1 else None
    return Scores(one.name, 100 * one.hits.mean(1), 100 * recall.mean(1), interval)


def _verdict(
    first: str,
    second: str,
    over_videos: Interval,
    over_runs: Interval | None,
    p: float | None,
    error: float,
) -> str:
    """Return which configuration is better, or why that cannot be told.

    The percentiles of a bootstrap are too narrow where few videos differ; McNemar's test is exact
    there, so both must agree.
    """
    if over_videos.contains_zero or (p is not None and p >= error):
        return UNDECIDED
    if over_runs and over_runs.contains_zero:
        return FEW_RUNS
    return f"{second if over_videos.value > 0 else first} is better"
