"""Warn of videos that label csvs name twice, in one part, or in both training and validation."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np

from data.annotations.video_folders import Videos

log = logging.getLogger(__name__)

LISTED = 5  # videos that a warning names


def warn_of_repeats(videos: Videos) -> None:
    """Warn of videos or segments that several rows name. They are used once for each row."""
    _, first, which = np.unique(_hashes(videos.names()), return_index=True, return_inverse=True)
    again = np.flatnonzero(first[which] != np.arange(len(videos)))  # not a video's first row
    if not len(again):
        return
    other = [row for row in again if videos.labels[row] != videos.labels[first[which[row]]]]
    if other:
        _warn(
            "%d rows give a video of an earlier row another class: %s",
            (_pair(videos, first[which[row]], videos, row) for row in other[:LISTED]),
            len(other),
        )
    if len(again) > len(other):
        same = again[~np.isin(again, other)]
        _warn(
            "%d rows repeat an earlier row, so their videos are used more than once: %s",
            (_pair(videos, first[which[row]], videos, row) for row in same[:LISTED]),
            len(same),
        )


def warn_of_overlap(train: Videos, val: Videos) -> None:
    """Warn of training videos that are in the validation part too and make its scores too good."""
    hashes = _hashes(train.folders), _hashes(val.folders)
    both, in_train, in_val = np.intersect1d(*hashes, return_indices=True)
    if len(both):
        pairs = zip(in_train[:LISTED], in_val[:LISTED], strict=True)
        _warn(
            "%d videos are in training and in validation, so its scores will be too good: %s",
            (_pair(train, one, val, other) for one, other in pairs),
            len(both),
        )


def _hashes(names: Iterable[str]) -> np.ndarray:
    """Return a hash of each name, int64 (N,), which takes far less memory to sort than the name.

    They have 64 bits: of a million names, two would be equal by chance once in 40 million runs.
    """
    return np.fromiter(map(hash, names), np.int64)


def _pair(a: Videos, one: int, b: Videos, other: int) -> str:
    return f"{a.folders[one]} ({a.source}:{a.rows[one]} and {b.source}:{b.rows[other]})"


def _warn(text: str, pairs: Iterable[str], count: int) -> None:
    more = f"; and {count - LISTED} more" if count > LISTED else ""
    log.warning(text, count, "; ".join(pairs) + more)
