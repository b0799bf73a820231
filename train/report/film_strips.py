"""Film strips: frames of validation clips as small JPEGs, cropped as the network saw them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from data.annotations.video_folders import Videos, frames_root
from data.clips.clip_dataset import ClipDataset, ClipRequest
from data.data_error import DataError
from data.dataset_defaults import dataset_spec
from train.config import Config
from train.results.val_predictions import ValPredictions
from train.setup import clip_options

log = logging.getLogger(__name__)

FRAMES = 6  # of a strip
SIDE = 96  # pixels: height of a frame
QUALITY = 70


def film_strips(
    config: Config, found: ValPredictions, indices: Iterable[int]
) -> dict[int, list[bytes]]:
    """Return the JPEGs of the clips at `indices` in `found`; without those that cannot be read."""
    try:
        root = frames_root(Path(config.dataset))
    except (DataError, OSError):  # the results were copied to another machine, for example
        return {}
    folders = np.array(found.videos, dtype=object)
    videos = Videos(root, folders, found.labels, (), [], root, times=found.times)
    options = clip_options(config, dataset_spec(config.benchmark, config.variant), training=False)
    options = replace(options, skip_bad=False)  # else another video is shown instead
    clips = ClipDataset(videos, options, training=False, seed=config.random_seed)
    strips = {}
    for index in indices:
        request = ClipRequest(index, 0, config.clip_length, config.clip_size)
        try:
            clip = clips[request].clip
        except (DataError, OSError) as error:
            log.debug("no film strip: %s", error)
            continue
        frames = clip.permute(1, 2, 3, 0).numpy()  # (T, S, S, 3)
        shown = np.unique(np.linspace(0, len(frames) - 1, FRAMES).round().astype(int))
        strips[index] = [small_jpeg(frames[i]) for i in shown]
    return strips


def small_jpeg(frame: np.ndarray) -> bytes:
    """Return a JPEG of a frame, uint8 (H, W, 3), SIDE pixels high."""
    height, width = frame.shape[:2]
    method = cv2.INTER_AREA if height > SIDE else cv2.INTER_LINEAR
    small = cv2.resize(frame, (max(1, round(width * SIDE / height)), SIDE), interpolation=method)
    return simplejpeg.encode_jpeg(np.ascontiguousarray(small), quality=QUALITY)
