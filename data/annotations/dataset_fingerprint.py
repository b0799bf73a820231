"""Compute the fingerprint of a dataset, so that a run is not resumed with other videos.

It covers:

- the names, labels and classes of all videos, as the label csvs say;
- the number of frames and the size of `frames.db`, for up to COUNTED videos of each part. Larger
  datasets are sampled evenly, since a million small files take minutes to open on a network disk;
- the number of frames and the bytes of the first frame, for up to OPENED videos of each part.

None of this changes when a dataset is copied or moved. `run.convert --upgrade` and `--pack` change
only the sizes, so a dataset in which only sizes differ counts as the same, with a warning.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from data.annotations.video_folders import Videos
from data.data_error import DataError
from data.store import COUNT, DATABASE, FrameStore
from data.store.shard_index import find_in_shards

COUNTED = 20_000  # videos of a part whose number of frames and size are read
OPENED = 16  # stores of a part that are opened
THREADS = 16  # a network disk answers many requests at once
UNKNOWN = "unknown"  # where some videos have no `n_frames`, which dataset2database does not write
VERSION = "v2"


class Fingerprint(NamedTuple):
    """Hashes of a dataset's content. Checkpoints hold them as text."""

    training: str  # names and labels of the videos
    validation: str
    frames: str  # numbers of frames, or UNKNOWN
    pictures: str  # first frames of a few videos
    sizes: str  # bytes of the `frames.db` files

    def __str__(self) -> str:
        return ":".join((VERSION, *self))

    @classmethod
    def parse(cls, text: str) -> Fingerprint:
        """Read a fingerprint from text; an earlier version wrote the training hash only."""
        version, *hashes = text.split(":")
        if version == VERSION and len(hashes) == len(cls._fields):
            return cls(*hashes)
        return cls(text, *[UNKNOWN] * (len(cls._fields) - 1))

    def conflict(self, earlier: Fingerprint) -> str | None:
        """Return in words how this dataset differs from an earlier one; None if it is the same."""
        words = {
            "training": "other videos or labels",
            "validation": "other validation videos or labels",
            "frames": "other videos under the same names (their numbers of frames differ)",
            "pictures": "other videos under the same names (their first frames differ)",
        }
        for name, difference in words.items():
            if self._differs(earlier, name):
                return difference
        return None

    def remark(self, earlier: Fingerprint) -> str | None:
        """Return a warning about a difference that may be harmless; None if there is none."""
        if earlier.validation == UNKNOWN:
            return (
                "it was written by an earlier version, so only the names of the training videos "
                "are compared"
            )
        if self._differs(earlier, "sizes"):
            return (
                f"some {DATABASE} files have other sizes than before, but as many frames; this is "
                "harmless after `run.convert --upgrade` or `run.convert --pack`, but not if the "
                "videos were changed"
            )
        return None

    def _differs(self, earlier: Fingerprint, name: str) -> bool:
        now, then = getattr(self, name), getattr(earlier, name)
        return now != then and UNKNOWN not in (now, then)


def fingerprint(training: Videos, validation: Videos) -> Fingerprint:
    """Compute the fingerprint of a dataset. A file that cannot be read raises no error here."""
    contents = _contents(training, validation)
    return Fingerprint(training.fingerprint(), validation.fingerprint(), *contents.values())


def part_fingerprint(videos: Videos) -> dict[str, str]:
    """Compute hashes of one part of a dataset: labels, frames, pictures and sizes."""
    return {"labels": videos.fingerprint(), **_contents(videos)}


def _contents(*parts: Videos) -> dict[str, str]:
    """Compute the hashes of what the files of the parts contain."""
    frames, sizes, pictures = [], [], []
    with ThreadPoolExecutor(THREADS) as threads:
        for videos in parts:
            for count, size in threads.map(_count_and_size, _sample(videos, COUNTED)):
                frames.append(count)
                sizes.append(size)
            pictures += threads.map(_first_picture, _sample(videos, OPENED))
    return {
        "frames": UNKNOWN if None in frames else _hash(frames),
        "pictures": _hash(pictures),
        "sizes": _hash(sizes),
    }


def _sample(videos: Videos, most: int) -> list[str]:
    """Return the folders of up to `most` videos, evenly spaced."""
    chosen = np.linspace(0, len(videos) - 1, min(most, len(videos)), dtype=np.int64)
    return [videos.path(index) for index in chosen.tolist()]


def _count_and_size(folder: str) -> tuple[str | None, int]:
    """Return the text of `n_frames` and the size of `frames.db`, without opening the store."""
    try:
        size = os.stat(f"{folder}/{DATABASE}").st_size  # noqa: PTH116  # faster than a Path
    except OSError:
        size = -1
    try:
        with open(f"{folder}/{COUNT}", "rb") as file:  # noqa: PTH123
            count = file.read(32).strip().decode("ascii", "replace")
    except OSError:
        count = None
    if size < 0 and count is None:
        place = find_in_shards(folder)
        count = str(place.n_frames) if place else None
    return count, size


def _first_picture(folder: str) -> str:
    """Return the number of frames and the first frame's hash, the same for every layout."""
    try:
        with FrameStore(folder) as store:
            (picture,) = store.jpegs([0])
            return f"{store.n_frames} {hashlib.sha256(picture).hexdigest()}"
    except (DataError, OSError):
        return "unreadable"


def _hash(items: Iterable[object]) -> str:
    return hashlib.sha256("\n".join(map(str, items)).encode()).hexdigest()[:32]
