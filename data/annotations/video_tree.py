"""Find the videos in a tree of folders.

<root>/<class>/<video>.mp4
<root>/{train,val,test}/<class>/<video>.mp4
<root>/<video>.mp4
<root>/jpg/<class>/<id>/frames.db
<root>/jpg/shard-00001.db, ...
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from data.annotations.label_csv import LONGEST_ID, PARTS, TEST, TRAIN, VAL
from data.data_error import DataError

log = logging.getLogger(__name__)

#: How the names of video files end.
VIDEO_ENDINGS = (
    *(".3gp", ".asf", ".avi", ".f4v", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
PART_WORDS = {TRAIN: "train", VAL: "val", TEST: "test"}
LONGEST_CLASS = 255  # bytes of a folder's name

Unreadable = list[tuple[Path, str]]


class TreeVideo(NamedTuple):
    """One video of a tree."""

    path: Path
    id: str
    label: str  # empty for a video that lies in no class folder
    part: str  # train, val or test; empty if the tree does not say it
    start: float | None = None  # of a segment of the video, in seconds, as a csv says it
    end: float | None = None


def videos_in_tree(root: Path, unreadable: Unreadable, *, stores: bool = False) -> list[TreeVideo]:
    """Return the videos of a tree, in order of their names.

    Args:
        root: the tree. Its folders are parts if all of them are named like parts and at least one
            of them contains a folder; otherwise they are classes.
        unreadable: is extended by (path, reason) of each folder that cannot be read.
        stores: also return folders inside class folders, which hold frame stores, and the videos
            of shards.

    Raises:
        DataError: there is no such folder.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    found, others = [], 0
    for folder, part in (part_folders(root) or {root: ""}).items():
        for path, label in _entries(folder, unreadable):
            is_store = label and path.is_dir()
            if is_store and stores:
                found.append(TreeVideo(path, path.name, label, part))
            elif not is_store and path.suffix.lower() in VIDEO_ENDINGS:
                found.append(TreeVideo(path, path.stem, label, part))
            else:
                others += not is_store
        if stores:
            found += _packed(folder, part, {video.path for video in found})
    if others:
        log.info("%d files are left out: their names do not end like those of videos", others)
    return found


def _packed(folder: Path, part: str, known: set[Path]) -> Iterator[TreeVideo]:
    """Yield the videos of class folders that are in the shards of a folder jpg/."""
    from data.store.shard_index import open_index  # here, as it imports OpenCV

    index = open_index(folder)
    for name in index.names() if index else ():
        label, slash, video = name.partition("/")
        if slash and folder / name not in known:
            yield TreeVideo(folder / name, video, label, part)


def part_folders(root: Path) -> dict[Path, str]:
    """Return the folders train/, val/ and test/ of a tree and their parts; empty if it has none."""
    folders = [path for path in _listing(root, []) if path.is_dir()]
    numbers = [PARTS.get(path.name.lower()) for path in folders]
    if not folders or None in numbers:
        return {}
    if not any(inner.is_dir() for folder in folders for inner in _listing(folder, [])):
        return {}
    return {path: PART_WORDS[number] for path, number in zip(folders, numbers, strict=True)}


def _entries(root: Path, unreadable: Unreadable) -> Iterator[tuple[Path, str]]:
    """Yield each file in a folder, and all that is in its folders, with the name of its class."""
    for path in _listing(root, unreadable):
        if path.is_dir():
            yield from ((inner, path.name) for inner in _listing(path, unreadable))
        else:
            yield path, ""


def _listing(folder: Path, unreadable: Unreadable) -> list[Path]:
    """Return what a folder contains, without hidden files, in order of their names."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        unreadable.append((folder, f"{folder}: cannot be read ({error.strerror})"))
        return []


def name_problem(video: TreeVideo) -> str | None:
    """Return why a label csv cannot hold the name of a video; None if it can."""
    for what, name, longest in (
        ("its name", video.id, LONGEST_ID),
        ("the name of its class folder", video.label, LONGEST_CLASS),
    ):
        if name != name.strip():
            return f"{video.path}: {what} begins or ends with a space; rename it"
        if len(name.splitlines()) > 1:
            return f"{video.path}: {what} has a line break; rename it"
        if len(name.encode(errors="surrogateescape")) > longest:
            return f"{video.path}: {what} has more than {longest} bytes; rename it"
    return None
