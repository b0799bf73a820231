"""Divide videos into training and validation: equal shares of all classes, no source in both.

A source is a recording that several videos were cut from, or a set of copies. The random order of
the sources follows from a seed and their names, so a video keeps its part when others are added.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

TRAIN, VAL, OPEN = 0, 1, -1  # parts of `held`: in training, in validation, to be decided


def join_groups(*groupings: np.ndarray) -> np.ndarray:
    """Return a number for each video, int64 (N,), equal for videos that any grouping joins.

    Args:
        *groupings: int64 (N,) each; videos of one group have equal numbers.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n_videos = len(groupings[0])
    firsts = []
    for groups in groupings:
        _, first, which = np.unique(groups, return_index=True, return_inverse=True)
        firsts.append(first[which])
    one, other = np.tile(np.arange(n_videos), len(groupings)), np.concatenate(firsts)
    graph = coo_array((np.ones(len(one)), (one, other)), (n_videos, n_videos))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def hold_out(
    names: Sequence[str],
    labels: np.ndarray,
    sources: np.ndarray,
    *,
    fraction: float,
    seed: int,
    held: np.ndarray | None = None,
) -> np.ndarray:
    """Choose the videos for validation: about `fraction` of each class, whole sources only.

    Where a class has at least two sources, both parts have one of them. Where it has one source
    only, all its videos are for training.

    Args:
        names: different names of the videos.
        labels: int64 (N,), their classes, 0, 1, 2, ...
        sources: int64 (N,), equal for videos of one source; 0, 1, 2, ... each occurs.
        fraction: the share of each class to validate on; 0 for none.
        seed: of the random choice.
        held: int64 (N,), TRAIN or VAL for videos whose part is decided, OPEN for others, which join
            videos of their source.

    Returns:
        bool (N,): whether a video is for validation.
    """
    n_classes = int(labels.max()) + 1
    held = np.full(len(names), OPEN) if held is None else held.copy()
    groups = np.split(np.argsort(sources, kind="stable"), np.cumsum(np.bincount(sources))[:-1])
    undecided = []
    for group in groups:
        decided = held[group][held[group] != OPEN]
        if len(decided):
            held[group[held[group] == OPEN]] = decided[0]
        elif fraction:
            undecided.append(group)
        else:
            held[group] = TRAIN
    undecided.sort(key=lambda group: _random_key(seed, min(names[video] for video in group)))
    missing = fraction * np.bincount(labels, minlength=n_classes)
    missing -= np.bincount(labels[held == VAL], minlength=n_classes)
    for group in undecided:
        classes, sizes = np.unique(labels[group], return_counts=True)
        now = missing[classes]
        nearer = np.abs(now - sizes).sum() < np.abs(now).sum()
        held[group] = VAL if nearer else TRAIN
        if nearer:
            missing[classes] -= sizes
    if fraction:
        _give_both_parts_each_class(held, labels, undecided)
    return held == VAL


def _give_both_parts_each_class(
    held: np.ndarray, labels: np.ndarray, movable: list[np.ndarray]
) -> None:
    """Move the smallest source of a class to the part that has no video of the class."""
    for label in range(int(labels.max()) + 1):
        videos = np.flatnonzero(labels == label)
        parts = np.unique(held[videos])
        if len(parts) != 1:
            continue
        here = [group for group in movable if (labels[group] == label).any()]
        smallest = min(here, key=len, default=videos)
        if np.isin(videos, smallest).all():  # there is no other source
            held[smallest if here else []] = TRAIN
        else:
            held[smallest] = VAL if parts[0] == TRAIN else TRAIN


def _random_key(seed: int, name: str) -> bytes:
    text = f"{seed} {name}".encode(errors="surrogateescape")
    return hashlib.blake2b(text, digest_size=16).digest()
