"""Compute features of each video of a dataset: the output of a layer of a trained network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from data.annotations.video_folders import Videos
from data.clips.clip_dataset import ClipDataset, ClipRequest
from data.clips.loader import Batch
from data.data_error import DataError
from data.store import open_store
from run.layer_features import features_of
from run.layer_outputs import Shapes
from run.trained_network import Trained
from train.config import Config
from train.devices import Devices


@dataclass(frozen=True)
class Features:
    """The features of N clips, and which clips these are."""

    features: np.ndarray  # float32 (N, C)
    indices: np.ndarray  # int64 (N,), of the videos
    views: np.ndarray  # int64 (N,), number of the view, from 0
    first: np.ndarray  # int64 (N,), number of the clip's first frame in the video, from 0
    last: np.ndarray  # int64 (N,)
    start: np.ndarray  # float64 (N,), seconds of the first frame, NaN where the rate is not known
    end: np.ndarray  # float64 (N,)


def extract(
    trained: Trained,
    clips: ClipDataset,
    loader: Iterable[Batch],
    config: Config,
    devices: Devices,
    *,
    layer: str | None,
    shapes: Shapes,
    views: int,
) -> Features:
    """Return the features of all clips that `loader` gives.

    Raises:
        DataError: a feature is not finite, or no video can be read.
    """
    rows: list[np.ndarray] = []
    which: list[tuple[int, int]] = []
    where: list[tuple[int, int, float, float]] = []
    answers = features_of(
        trained.net, loader, devices, layer=layer, shapes=shapes, title="features"
    )
    for indices, features in answers:
        if len(features) != len(indices) * views:
            raise DataError(
                f"layer {layer!r} gives {len(features)} rows for {len(indices) * views} clips, so "
                "they have no features of their own; choose another layer"
            )
        bad = ~np.isfinite(features).all(1)
        if bad.any():
            video = clips.videos.folder(int(indices[bad.argmax() // views]))
            raise DataError(f"{video}: its features are not finite; try --precision fp32")
        rows.append(features)
        for index in indices.tolist():
            for view in range(views):
                request = ClipRequest(
                    index, 0, config.clip_length, config.clip_size, view=view, views=views
                )
                which.append((index, view))
                where.append(_place(clips, request))
    if not rows:
        raise DataError(f"{clips.videos.source}: none of its videos can be read")
    first, last, start, end = zip(*where, strict=True)
    return Features(
        np.concatenate(rows),
        *np.array(which, np.int64).T,
        *(np.array(values, np.int64) for values in (first, last)),
        *(np.array(values, np.float64) for values in (start, end)),
    )


def _place(clips: ClipDataset, request: ClipRequest) -> tuple[int, int, float, float]:
    """Return the first and the last frame that a clip shows, and their seconds."""
    numbers = clips.frame_numbers(request)
    first, last = int(numbers.min()), int(numbers.max())
    store = open_store(clips.videos.path(request.index))
    if store.fps is None:
        return first, last, float("nan"), float("nan")
    times = store.times()
    return first, last, float(times[first]), float(times[last])


def numbers_of_videos(videos: Videos, indices: np.ndarray) -> np.ndarray:
    """Return a number for the video of each clip; segments of a video are rows with one folder."""
    return np.unique(videos.folders, return_inverse=True)[1][indices]
