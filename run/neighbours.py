"""Find the videos whose features are nearest to those of one video, and draw them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from data.clips.film_strip import frames_of
from run.film_strip import Strip, draw_strips

MOST = 50_000  # clips up to which each is compared with all others
ROWS = 1024  # that are compared at a time
GREEN, RED = "#1b7837", "#b2182b"


class Query(NamedTuple):
    """The video whose neighbours are wanted: one of the dataset, or a clip of another one."""

    name: str
    class_name: str = ""
    index: int | None = None  # of its row in the dataset
    video: int | None = None  # number of its video in the dataset
    clip: Tensor | None = None  # uint8 (3, T, S, S)
    features: np.ndarray | None = None  # float32 (C,)


class Neighbour(NamedTuple):
    """A clip near to another one."""

    name: str
    label: int
    class_name: str
    similarity: float  # cosine
    clip: Tensor  # uint8 (3, T, S, S)


def normed(features: np.ndarray) -> np.ndarray:
    """Return the features divided by their length, so that products are cosines: (N, C)."""
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    return (features / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)


def nearest(
    query: Query, features: np.ndarray, videos: np.ndarray, count: int
) -> list[tuple[int, float]]:
    """Return (number of the clip, cosine similarity) of the nearest clips of other videos.

    Of a video with several clips, only the nearest clip is returned.

    Args:
        query: with its features.
        features: float32 (N, C), of all clips.
        videos: int64 (N,), numbers of the clips' videos.
        count: number of clips; fewer if there are fewer videos.
    """
    cosines = normed(features) @ normed(query.features[None])[0]
    near: list[tuple[int, float]] = []
    used = {query.video}
    for row in np.argsort(-cosines, kind="stable").tolist():
        if videos[row] not in used and len(near) < count:
            used.add(videos[row])
            near.append((row, float(cosines[row])))
    return near


def share_of_same_label(
    features: np.ndarray, labels: np.ndarray, videos: np.ndarray
) -> float | None:
    """Return for which share of the clips the nearest clip of another video has the same label.

    Returns:
        None if there is only one video, or if there are more than MOST clips.
    """
    if len(features) > MOST or len(np.unique(videos)) < 2:
        return None
    unit, right = normed(features), 0
    for start in range(0, len(unit), ROWS):
        rows = slice(start, start + ROWS)
        cosines = unit[rows] @ unit.T
        cosines[videos[rows, None] == videos[None]] = -np.inf
        right += int((labels[cosines.argmax(1)] == labels[rows]).sum())
    return right / len(unit)


def draw_neighbours(query: Query, label: int | None, near: list[Neighbour], path: Path) -> None:
    """Draw the film strip of a video, and of its neighbours below it.

    Args:
        query: the video, with its clip.
        label: number of its class, if it is known.
        near: its neighbours, the nearest one first.
        path: the png.
    """
    strips = [Strip(f"{query.name}\n{query.class_name}".strip(), frames_of(query.clip))]
    for one in near:
        colour = "black" if label is None else GREEN if one.label == label else RED
        text = f"{one.name}\n{one.class_name}, {one.similarity:.2f}"
        strips.append(Strip(text, frames_of(one.clip), colour))
    title = f"{query.name} and the videos nearest to it (cosine similarity of their features)"
    draw_strips(strips, title, path)
