"""Find the videos whose features are nearest to those of one video, and draw them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from data.clips.clip_dataset import ClipDataset, ClipRequest
from run.film_strip import Strip, draw_strips
from run.worker_pool import printable

MOST = 50_000  # clips up to which each is compared with all others
ROWS = 1024  # that are compared at a time
GREEN, RED = "#1b7837", "#b2182b"


class Query(NamedTuple):
    """The video whose neighbours are wanted: one of the dataset, or a clip of another one."""

    name: str
    index: int | None = None  # in the dataset
    clip: Tensor | None = None  # uint8 (3, T, S, S)
    features: np.ndarray | None = None  # float32 (C,)


def normed(features: np.ndarray) -> np.ndarray:
    """Return the features divided by their length, so that products are cosines: (N, C)."""
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    return (features / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)


def nearest(
    query: Query, features: np.ndarray, indices: np.ndarray, count: int
) -> list[tuple[int, float]]:
    """Return (number of the video, cosine similarity) of the `count` nearest other videos.

    Of a video with several clips, the nearest clip counts.

    Args:
        query: with its features.
        features: float32 (N, C), of all clips.
        indices: int64 (N,), the clips' videos.
        count: number of videos; fewer if there are fewer.
    """
    cosines = normed(features) @ normed(query.features[None])[0]
    near: dict[int, float] = {}
    for row in np.argsort(-cosines, kind="stable").tolist():
        index = int(indices[row])
        if index != query.index and index not in near:
            near[index] = float(cosines[row])
            if len(near) == count:
                break
    return list(near.items())


def share_of_same_label(
    features: np.ndarray, labels: np.ndarray, indices: np.ndarray
) -> float | None:
    """Return for which share of the clips the nearest clip of another video has the same label.

    Returns:
        None if there is only one video, or if there are more than MOST clips.
    """
    if len(features) > MOST or len(np.unique(indices)) < 2:
        return None
    unit, right = normed(features), 0
    for start in range(0, len(unit), ROWS):
        rows = slice(start, start + ROWS)
        cosines = unit[rows] @ unit.T
        cosines[indices[rows, None] == indices[None]] = -np.inf
        right += int((labels[cosines.argmax(1)] == labels[rows]).sum())
    return right / len(unit)


def draw_neighbours(
    query: Query,
    near: list[tuple[int, float]],
    clips: ClipDataset,
    shape: tuple[int, int],
    path: Path,
) -> None:
    """Draw the film strip of a video, and of its neighbours below it.

    Args:
        query: the video.
        near: its neighbours, from `nearest`.
        clips: the clips of the dataset.
        shape: frames and size of a clip.
        path: the png.
    """
    videos = clips.videos

    def strip(index: int, colour: str, more: str) -> Strip:
        clip = clips[ClipRequest(index, 0, *shape)].clip
        name = printable(Path(str(videos.folders[index])).name)
        text = f"{name}\n{printable(videos.classes[videos.labels[index]])}{more}"
        return Strip(text, _frames(clip), colour)

    if query.index is None:
        strips, label = [Strip(query.name, _frames(query.clip))], None
    else:
        strips, label = [strip(query.index, "black", "")], videos.labels[query.index]
    for index, similarity in near:
        colour = "black" if label is None else GREEN if videos.labels[index] == label else RED
        strips.append(strip(index, colour, f", {similarity:.2f}"))
    title = f"{query.name} and the videos nearest to it (cosine similarity of their features)"
    draw_strips(strips, title, path)


def _frames(clip: Tensor) -> np.ndarray:
    return clip.permute(1, 2, 3, 0).numpy()
