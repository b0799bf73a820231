"""Tell one dataset from another, so that a run is not resumed on other videos than it began with.

What is compared, and at what cost: the names, labels and classes of all videos, training and
validation, which are known from the label csvs. The number of frames (`n_frames`) and the size of
`frames.db` of up to COUNTED videos of each split: all of them in most datasets, else evenly spaced
ones, as a million small files take minutes to open on a network disk. And of a few stores, which
are opened for it, the number of frames and the bytes of the first one.

All of that stays the same where a dataset is copied or moved. `run.convert --upgrade` changes the
sizes alone, so where only sizes differ, the dataset counts as the same and a warning is due.
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

COUNTED = 20_000  # videos of a split whose number of frames and size are read
OPENED = 16  # stores of a split that are opened
THREADS = 16  # a network disk answers many requests at once
UNKNOWN = "unknown"  # some videos have no `n_frames`, which the originals' tools do not write
VERSION = "v2"


class Fingerprint(NamedTuple):
    """Hashes of what a dataset holds. Its text is kept in checkpoints."""

    training: str  # names and labels of the videos
    validation: str
    frames: str  # numbers of frames, or UNKNOWN
    pictures: str  # first frames
    sizes: str  # of the files

    def __str__(self) -> str:
        return ":".join((VERSION, *self))

    @classmethod
    def parse(cls, text: str) -> Fingerprint:
        """The fingerprint of that text. That of an earlier version has the training names alone."""
        version, *hashes = text.split(":")
        if version == VERSION and len(hashes) == len(cls._fields):
            return cls(*hashes)
        return cls(text, *[UNKNOWN] * (len(cls._fields) - 1))

    def conflict(self, earlier: Fingerprint) -> str | None:
        """What tells this dataset from an earlier one, in words; None where they are the same."""
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
        """What could not be compared, or may matter, of a dataset without a `conflict`."""
        if earlier.validation == UNKNOWN:
            return "an earlier version wrote it: only the names of the training videos are compared"
        if self._differs(earlier, "sizes"):
            return (
                f"some {DATABASE} files have other sizes than before, with as many frames: that is "
                "so after `run.convert --upgrade`; other pictures would make this another run"
            )
        return None

    def _differs(self, earlier: Fingerprint, name: str) -> bool:
        now, then = getattr(self, name), getattr(earlier, name)
        return now != then and UNKNOWN not in (now, then)


def fingerprint(training: Videos, validation: Videos) -> Fingerprint:
    """Look at the files of a dataset's two splits. What cannot be read is part of the result."""
    frames, sizes, pictures = [], [], []
    with ThreadPoolExecutor(THREADS) as threads:
        for videos in (training, validation):
            for count, size in threads.map(_count_and_size, _some(videos, COUNTED)):
                frames.append(count)
                sizes.append(size)
            pictures += threads.map(_first_picture, _some(videos, OPENED))
    return Fingerprint(
        training.fingerprint(),
        validation.fingerprint(),
        UNKNOWN if None in frames else _hash(frames),
        _hash(pictures),
        _hash(sizes),
    )


def _some(videos: Videos, most: int) -> list[str]:
    """The folders of up to `most` videos, evenly spaced."""
    chosen = np.linspace(0, len(videos) - 1, min(most, len(videos)), dtype=np.int64)
    return [videos.path(index) for index in chosen.tolist()]


def _count_and_size(folder: str) -> tuple[str | None, int]:
    """What the files say, without opening a store: the text of `n_frames`, bytes of `frames.db`."""
    try:
        size = os.stat(f"{folder}/{DATABASE}").st_size  # noqa: PTH116  # faster than a Path
    except OSError:
        size = -1
    try:
        with open(f"{folder}/{COUNT}", "rb") as file:  # noqa: PTH123
            count = file.read(32).strip().decode("ascii", "replace")
    except OSError:
        count = None
    return count, size


def _first_picture(folder: str) -> str:
    """The number of frames and a hash of the first one's bytes, whatever the store's layout."""
    try:
        with FrameStore(folder) as store:
            (picture,) = store.jpegs([0])
            return f"{store.n_frames} {hashlib.sha256(picture).hexdigest()}"
    except (DataError, OSError):
        return "unreadable"


def _hash(items: Iterable[object]) -> str:
    return hashlib.sha256("\n".join(map(str, items)).encode()).hexdigest()[:32]
