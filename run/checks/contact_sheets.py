"""Pictures of some videos of each class, as they are stored and as training sees them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from data.clips.clip_dataset import ClipDataset, ClipOptions, ClipRequest
from data.clips.film_strip import SIDE, film_strip, frames_of, small_jpeg, spread
from data.data_error import DataError
from data.dataset_defaults import DatasetSpec
from data.store import open_store
from run.checks.labelled_parts import Labelled
from run.checks.store_facts import StoreFacts

log = logging.getLogger(__name__)

FRAMES = 3  # pictures of a video
#: Up to so many classes -> videos of each, so that the page stays below some 10 MB.
VIDEOS = {40: 3, 150: 2, 1000: 1}
CLASSES = max(VIDEOS)


@dataclass(frozen=True)
class Strip:
    """One video: JPEGs of frames as they are stored, and of a training clip's frames."""

    name: str
    stored: list[bytes]
    augmented: list[bytes]


def contact_sheets(
    labelled: Labelled, facts: Mapping[str, StoreFacts], augmentation: str
) -> dict[str, list[Strip]]:
    """Return the strips of each class, of videos that are spread over the class evenly.

    Raises:
        DataError: there is no such augmentation.
    """
    videos = next(iter(labelled.parts.values()), None)
    if videos is None:
        return {}
    spec = labelled.spec
    clips = ClipDataset(videos, _options(spec, augmentation), training=True, seed=1)
    of_class = [np.flatnonzero(videos.labels == number) for number in range(len(videos.classes))]
    used = [number for number, indices in enumerate(of_class) if len(indices)][:CLASSES]
    count = next(videos_ for most, videos_ in VIDEOS.items() if len(used) <= most)
    sheets = {}
    for number in tqdm(used, desc="contact sheets", unit="class", disable=None):
        good = [i for i in of_class[number].tolist() if not facts[videos.path(i)].error]
        strips = []
        for index in (good[place] for place in spread(len(good), count)):
            try:
                strips.append(_strip(clips, index, spec))
            except DataError as error:  # it was replaced since it was read
                log.warning("%s", error)
        sheets[videos.classes[number]] = strips
    return sheets


def _options(spec: DatasetSpec, augmentation: str) -> ClipOptions:
    return ClipOptions(
        intervals=spec.train_intervals,
        short_side=spec.short_side,
        clip_size=spec.clip_size,
        augmentation=augmentation,
    )


def _strip(clips: ClipDataset, index: int, spec: DatasetSpec) -> Strip:
    store = open_store(clips.videos.path(index))
    places = (np.arange(FRAMES) * 2 + 1) * store.n_frames // (2 * FRAMES)
    stored = [small_jpeg(frame) for frame in store.read_at_least(places, SIDE)]
    sample = clips[ClipRequest(index, epoch=1, frames=spec.clip_length, size=spec.clip_size)]
    augmented = film_strip(frames_of(sample.clip), FRAMES)
    return Strip(str(clips.videos.folders[index]), stored, augmented)
