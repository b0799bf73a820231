"""Label the videos of a tree of folders: a folder is a class, or a part (train/, val/, test/).

Without folders for the parts, some videos of each class are set aside for validation. Videos of one
source stay together: those whose names say so, and those with the same pictures.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.annotations.class_names import class_key
from data.annotations.label_csv_writer import Row
from data.annotations.near_duplicates import (
    fingerprint,
    fingerprint_indices,
    near_duplicate_groups,
)
from data.annotations.validation_split import OPEN, TRAIN, VAL, hold_out, join_groups
from data.annotations.video_folders import video_folders
from data.annotations.video_sources import source_numbers
from data.annotations.video_tree import TreeVideo, videos_in_tree
from data.data_error import DataError
from data.store import FrameStore

log = logging.getLogger(__name__)

PICTURE_SIDE = 32  # pixels of the frames that are compared, as the short side
LISTED = 3  # classes that a warning names


def label_tree(
    root: Path, *, fraction: float, seed: int, group: re.Pattern[str] | None = None
) -> list[Row]:
    """Return a label row for each video or frame store in a tree; see `videos_in_tree`.

    Args:
        root: the tree. If it is a dataset, the videos in its jpg/ are listed, and near-duplicates
            are found by their pictures.
        fraction: the share of each class to validate on; 0 for none. Not used where there are
            train/ and val/.
        seed: of the random division.
        group: regular expression that finds in a video's id what it has in common with the others
            of its source; None recognises common forms of names.

    Raises:
        DataError: there is no such folder, or a folder in it cannot be read.
    """
    is_dataset = (root / "jpg").is_dir()
    unreadable: list[tuple[Path, str]] = []
    if is_dataset:
        jpg = root / "jpg"
        folders = [folder for folder in video_folders(root) if folder.parent != jpg]
        videos = [TreeVideo(folder, folder.name, folder.parent.name, "") for folder in folders]
    else:
        videos = [video for video in videos_in_tree(root, unreadable, stores=True) if video.label]
    if unreadable:
        raise DataError(unreadable[0][1])
    if parts_are_given(videos):
        return [Row(video.label, video.id, video.part) for video in videos]
    pictures = picture_groups([video.path for video in videos]) if is_dataset and fraction else None
    return divide(videos, fraction=fraction, seed=seed, group=group, pictures=pictures)


def parts_are_given(videos: Sequence[TreeVideo]) -> bool:
    """Return whether the tree has both training videos and others."""
    parts = {video.part for video in videos}
    return "train" in parts and len(parts) > 1


def divide(
    videos: Sequence[TreeVideo],
    *,
    fraction: float,
    seed: int,
    group: re.Pattern[str] | None = None,
    pictures: np.ndarray | None = None,
    earlier: Mapping[tuple[str, str], str] | None = None,
) -> list[Row]:
    """Divide videos at random into training and validation; see `label_tree`.

    Args:
        videos: the videos.
        fraction: see `label_tree`.
        seed: see `label_tree`.
        group: see `label_tree`.
        pictures: int64 (N,), equal for videos with the same pictures; None if this is not known.
        earlier: (class, id) -> part of videos that keep their part.

    Raises:
        DataError: `group` is found in no name.
    """
    if not videos:
        return []
    ids = [video.id for video in videos]
    if group is not None and not any(map(group.search, ids)):
        raise DataError(f"--group {group.pattern}: is found in no video's name, such as {ids[0]!r}")
    names = source_numbers(ids, group)
    classes = [class_key(video.label) for video in videos]
    labels = np.unique(classes, return_inverse=True)[1]
    sources = _joined(names, pictures, labels)
    parts = {"train": TRAIN, "val": VAL}
    held = np.array(
        [parts.get((earlier or {}).get((video.label, video.id), ""), OPEN) for video in videos]
    )
    full_names = [f"{video.label}/{video.id}" for video in videos]
    val = hold_out(full_names, labels, sources, fraction=fraction, seed=seed, held=held)
    if fraction:
        _say_what_was_done(videos, labels, sources, val)
    return [
        Row(video.label, video.id, "val" if in_val else "train", video.start, video.end)
        for video, in_val in zip(videos, val.tolist(), strict=True)
    ]


def _joined(names: np.ndarray, pictures: np.ndarray | None, labels: np.ndarray) -> np.ndarray:
    """Return the source of each video: int64 (N,).

    Pictures do not count in a class whose videos would then all be one source, such as videos of
    one fixed camera: it could not be divided.
    """
    if pictures is None:
        return join_groups(names)
    pictures = pictures + 0
    sources = join_groups(names, pictures)
    alike = 0
    for label in range(labels.max() + 1):
        here = labels == label
        if len(np.unique(sources[here])) == 1 < len(np.unique(names[here])):
            alike += 1
            pictures[here] = len(names) + np.flatnonzero(here)  # each its own
    if alike:
        log.warning(
            "all videos of %d classes look alike, so they are divided without regard to their "
            "pictures; if some come from one recording, say by --group which", alike,
        )  # fmt: skip
    return join_groups(names, pictures)


def _say_what_was_done(
    videos: Sequence[TreeVideo], labels: np.ndarray, sources: np.ndarray, val: np.ndarray
) -> None:
    log.info(
        "%d videos for training and %d for validation; %d sources, of which each is on one side",
        (~val).sum(), val.sum(), len(np.unique(sources)),
    )  # fmt: skip
    lacking = sorted(
        {videos[i].label for label in np.unique(labels) for i in np.flatnonzero(labels == label)[:1]
         if not val[labels == label].any()}
    )  # fmt: skip
    if lacking:
        more = f" and {len(lacking) - LISTED} more" if len(lacking) > LISTED else ""
        log.warning(
            "%d classes have only one source, so none of their videos is for validation: %s%s",
            len(lacking), ", ".join(lacking[:LISTED]), more,
        )  # fmt: skip


def picture_groups(folders: Sequence[Path], *, threads: int = 4) -> np.ndarray:
    """Return a number for each frame store, int64 (N,), equal for those with the same pictures.

    A store that cannot be read is like no other.
    """
    with ThreadPoolExecutor(threads) as pool:
        # disable=None: no bar where stderr is not a terminal
        bar = tqdm(
            pool.map(_fingerprint, folders),
            total=len(folders), desc="comparing pictures", unit="video", disable=None,
        )  # fmt: skip
        found = list(bar)
    readable = np.array([i for i, pictures in enumerate(found) if pictures is not None], np.int64)
    groups = np.arange(len(folders))
    if len(readable):
        which = near_duplicate_groups(np.stack([found[i] for i in readable.tolist()]))
        groups[readable] = readable[which]
    return groups


def _fingerprint(folder: Path) -> np.ndarray | None:
    try:
        with FrameStore(folder) as store:
            frames = fingerprint_indices(store.n_frames)
            return fingerprint(store.read_at_least(frames, PICTURE_SIDE))
    except DataError:
        return None
