"""Film strips of a run's clips, cropped as the network saw them, and their html."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.annotations.video_folders import Videos, frames_root
from data.clips.clip_dataset import ClipDataset, ClipRequest
from data.clips.film_strip import film_strip, frames_of
from data.data_error import DataError
from data.dataset_defaults import dataset_spec
from train.config import Config
from train.report.page import escaped, picture
from train.results.val_predictions import ValPredictions
from train.setup import clip_options

log = logging.getLogger(__name__)

FRAMES = 6  # of a strip


def strips_of_predictions(
    config: Config, found: ValPredictions, indices: Iterable[int]
) -> dict[int, list[bytes]]:
    """Return the JPEGs of the clips at `indices` in `found`; without those that cannot be read."""
    try:
        root = frames_root(Path(config.dataset))
    except (DataError, OSError):  # the results were copied to another machine, for example
        return {}
    folders = np.array(found.videos, dtype=object)
    videos = Videos(root, folders, found.labels, (), [], root, times=found.times)
    return film_strips(config, videos, indices)


def film_strips(config: Config, videos: Videos, indices: Iterable[int]) -> dict[int, list[bytes]]:
    """Return the JPEGs of the clips in the middle of some videos; without unreadable ones."""
    options = clip_options(config, dataset_spec(config.benchmark, config.variant), training=False)
    options = replace(options, skip_bad=False)  # else another video is shown instead
    clips = ClipDataset(videos, options, training=False, seed=config.random_seed)
    strips = {}
    for index in indices:
        request = ClipRequest(index, 0, config.clip_length, config.clip_size)
        try:
            strips[index] = film_strip(frames_of(clips[request].clip), FRAMES)
        except (DataError, OSError) as error:
            log.debug("no film strip: %s", error)
    return strips


def film(name: str, said: Iterable[str], strip: Sequence[bytes]) -> str:
    """Return the html of a film strip, with lines of text and the video's name below it."""
    pictures = "".join(
        picture(jpeg, alt=f"{name}, frame {number} of the strip")
        for number, jpeg in enumerate(strip, 1)
    )
    pictures = pictures or "<small>its frames cannot be read here</small>"
    lines = "".join(f"<small>{escaped(line)}</small>" for line in (*said, name))
    return f'<div class="film"><div>{pictures}</div>{lines}</div>'
