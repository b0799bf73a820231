"""The videos that a user names: video files, frame stores, or folders of both."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.annotations.video_folders import Videos
from data.annotations.video_tree import videos_in_tree
from data.clips.clip_dataset import ClipDataset
from data.data_error import DataError
from data.dataset_defaults import dataset_spec
from data.store import DATABASE, write_store
from data.store.ffmpeg import extract_jpegs
from data.store.shard_index import find_in_shards, open_index
from run.trained_network import Trained
from run.worker_pool import printable
from train.config import Config
from train.setup import clip_options, with_usable_rate


def frame_store(source: Path, scratch: Path, short_side: int) -> Path:
    """Return the folder of the source's frame store; a video file's is made in `scratch`.

    Args:
        source: a video file, or the folder of a frame store.
        scratch: a folder for a video file's frames, which must not exist.
        short_side: of a video file's frames, in pixels.

    Raises:
        DataError: the source is missing, is no video, or cannot be decoded to its end.
    """
    try:
        is_file = source.is_file()
        is_store = (source / DATABASE).is_file() or find_in_shards(source) is not None
    except OSError as error:  # the name is too long, or a folder may not be read
        raise DataError(f"{source}: cannot be read ({error.strerror})") from error
    if is_store:
        return source.absolute()
    if not is_file:
        raise DataError(f"{source}: is neither a video file nor a folder with {DATABASE}")
    times: list[float] = []
    frames = extract_jpegs(source, short_side=short_side, times=times)
    title = f"reading {printable(source.name)}"
    bar = tqdm(frames, desc=title, unit="frame", leave=False, disable=None)
    write_store(scratch, source.stem, bar, times=times)
    return scratch


def clips_of_video(trained: Trained, store: Path, config: Config) -> ClipDataset:
    """Return the clips of the one video in a frame store, taken as in validation."""
    videos = Videos(
        root=store.parent,
        folders=np.array([store.name]),
        labels=np.zeros(1, np.int64),
        classes=trained.classes,
        rejected=[],
        source=store,
    )
    config = with_usable_rate(config, videos)
    options = clip_options(config, dataset_spec(config.benchmark, config.variant), training=False)
    # a video that cannot be read is an error here, even if training skipped such videos
    options = replace(options, skip_bad=False)
    return ClipDataset(videos, options, training=False, seed=config.random_seed)


def videos_of(given: Path) -> list[Path]:
    """Return the videos and frame stores in a folder, at any depth; `given` itself if it is one."""
    if not os.path.isdir(given) or (given / DATABASE).is_file():  # noqa: PTH112 (any name)
        return [given]
    stores = {path.parent for path in given.rglob(DATABASE)}
    for jpg in (given, given / "jpg"):
        index = open_index(jpg)
        stores |= {jpg / name for name in index.names()} if index else set()
    return [*sorted(stores), *(video.path for video in videos_in_tree(given, []))] or [given]
