"""Predict the classes of videos with a trained network, and print or write the probabilities."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.annotations.video_folders import Videos
from data.annotations.video_tree import videos_in_tree
from data.clips.clip_dataset import ClipDataset
from data.clips.loader import Batch, validation_loader
from data.data_error import DataError
from data.dataset_defaults import dataset_spec
from data.store import DATABASE, write_store
from data.store.ffmpeg import extract_jpegs
from data.store.shard_index import find_in_shards, open_index
from run.trained_network import Trained, open_checkpoint
from run.worker_pool import printable
from train.config import Config
from train.devices import Devices, open_devices
from train.evaluation import predictions
from train.setup import clip_options, with_usable_rate

log = logging.getLogger(__name__)


def predict(
    trained: Trained,
    source: Path,
    devices: Devices,
    *,
    scratch: Path,
    views: int = 3,
    short_side: int = 256,
    clip_fps: float | None = None,
) -> np.ndarray:
    """Return one video's probabilities, the mean over its views: float32 (classes,).

    Args:
        trained: the network, and the options that it was trained with.
        source: a video file, or the folder of a frame store.
        devices: the device to compute on.
        scratch: a folder for a video file's frames, which must not exist and is deleted afterwards.
        views: number of clips of the video.
        short_side: of a video file's frames, in pixels.
        clip_fps: frames per second of the clips, instead of those of the training.

    Raises:
        DataError: the source is missing, is no video, cannot be decoded to its end, or the network
            answers it with a number that is not finite.
    """
    try:
        store = frame_store(source, scratch, short_side)
        (answer,) = predictions(
            trained.net, _clips(trained, store, views, clip_fps), devices, title=source.name
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    probabilities = answer.logits.softmax(1).cpu().numpy()
    if not np.isfinite(probabilities).all():
        raise DataError(f"{source}: the network's answer is not finite; try --precision fp32")
    return probabilities[0]


def frame_store(source: Path, scratch: Path, short_side: int) -> Path:
    """Return the folder of the source's frame store; a video file's is made in `scratch`."""
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
    write_store(scratch, source.stem, frames, times=times)
    return scratch


def _clips(trained: Trained, store: Path, views: int, clip_fps: float | None) -> Iterable[Batch]:
    """Return the loader of one batch: the clips of one video, taken as in validation."""
    config = trained.with_shape(None, None, clip_fps)
    return validation_loader(
        clips_of_video(trained, store, config),
        views,
        config.clip_length,
        config.clip_size,
        workers=0,
        views=views,
    )


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


def predict_videos(args: argparse.Namespace) -> None:
    """Predict, print and write what the options of `run.predict` ask for.

    Raises:
        DataError: a video could not be predicted. All others are predicted first.
    """
    rows: list[dict[str, object]] = []
    failed = 0
    sources = [source for given in args.videos for source in videos_of(given)]
    with (
        open_devices(args.gpus, args.precision, most=1) as devices,
        tempfile.TemporaryDirectory() as scratch,
    ):
        trained = open_checkpoint(args.checkpoint, devices)
        for number, source in enumerate(sources):
            try:
                answer = predict(
                    trained,
                    source,
                    devices,
                    scratch=Path(scratch) / str(number),
                    views=args.views,
                    short_side=args.short_side,
                    clip_fps=args.clip_fps,
                )
            except DataError as error:
                failed += 1
                reason = str(error) if str(source) in str(error) else f"{source}: {error}"
                log.error("%s", reason)
                rows.append({"video": str(source), "error": reason})
                continue
            best = np.argsort(-answer)[: args.top]
            named = ", ".join(f"{printable(trained.classes[i])} {answer[i]:.1%}" for i in best)
            print(f"{printable(source)}: {named}")
            probabilities = dict(zip(trained.classes, answer.tolist(), strict=True))
            rows.append({"video": str(source), **probabilities})
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if failed:
        raise DataError(f"{failed} of {len(sources)} videos failed, see the errors above")
