"""Find the folder of each video that a label csv names."""

from __future__ import annotations

import functools
import hashlib
import logging
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.annotations.class_names import class_key
from data.annotations.label_csv import CHUNK, LabelTable
from data.data_error import DataError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Videos:
    """The usable videos of one part of a dataset.

    Attributes:
        root: the folder jpg/.
        folders: str (N,), the videos' folders, relative to `root`.
        labels: int64 (N,), indices into `classes`.
        classes: names of the classes.
        rejected: ("file:row", reason) of each row that cannot be used.
        source: the label csv.
        rows: int32 (N,), line numbers in the csv; None for videos that do not come from a csv.
        times: float64 (N, 2), seconds at which segments of videos start and end, NaN for whole
            videos; None if there are no segments.
    """

    root: Path
    folders: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    rejected: list[tuple[str, str]]
    source: Path
    rows: np.ndarray | None = None
    times: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.folders)

    def folder(self, index: int) -> Path:
        """Return the folder of one video, the one that holds its `frames.db`."""
        return Path(self.path(index))

    def path(self, index: int) -> str:
        """Return the folder of one video as text, which takes less time than a Path."""
        return os.path.join(self.root, self.folders[index])  # noqa: PTH118

    def name(self, index: int) -> str:
        """Return the folder of one video, for a segment with its seconds."""
        folder = str(self.folders[index])
        if self.times is None or math.isnan(self.times[index, 0]):
            return folder
        start, end = self.times[index]
        return f"{folder} {start:g}-{end:g} s"

    def names(self) -> Iterator[str]:
        """Yield the name of each video or segment."""
        return map(self.name, range(len(self)))

    def fingerprint(self) -> str:
        """Return a hash of the videos' names, labels and classes; paths of the disk do not matter.

        `data.annotations.dataset_fingerprint` also covers the contents of the videos.
        """
        digest = hashlib.sha256("\n".join(self.classes).encode(errors="surrogateescape"))
        for start in range(0, len(self), CHUNK):
            text = "\n".join(self.folders[start : start + CHUNK].tolist())
            digest.update((text if not start else f"\n{text}").encode(errors="surrogateescape"))
        digest.update(self.labels.astype("<i8").tobytes())
        if self.times is not None:
            digest.update(self.times.astype("<f8").tobytes())
        return digest.hexdigest()


def find_videos(root: str | Path, table: LabelTable) -> Videos:
    """Find the folder of each row's video; return the videos that have one, in the csv's order.

    The folder is `<root>/jpg/<class>/<id>` or `<root>/jpg/<id>`; `root` may also be jpg/ itself. It
    need not exist if the video is in a shard. The name of a class folder may have spaces or
    underscores, and upper or lower case. The folders are not opened: a damaged store is only
    noticed when it is read.

    For a row with times, the id is `<id>_<start>_<end>`, the name of a video that was cut. If there
    is none, but one named `<id>`, the row is a segment of that video. The stores of such videos are
    opened, and segments that lie outside of their video are rejected.

    Raises:
        DataError: there is no such dataset, it is empty, or no row has a folder.
    """
    jpg = frames_root(Path(root))
    folders = _find_folders(jpg, table, table.ids)
    rejected = [(f"{table.path}:{row}", reason) for row, reason in table.rejected]
    segments = np.zeros(len(table), bool)
    if table.times is not None:
        segments = (folders == "") & np.isfinite(table.times[:, 0])
        folders[segments] = _find_folders(jpg, table.keep(segments), table.video_ids()[segments])
        segments &= folders != ""
    if segments.any():
        from data.annotations.segments import segment_problems  # here, as it imports OpenCV

        log.info("%s: %d rows are segments of longer videos", table.path, segments.sum())
        stores = [jpg / name for name in folders[segments]]
        problems = segment_problems(stores, table.times[segments])
        for row, problem in zip(np.flatnonzero(segments).tolist(), problems, strict=True):
            if problem:
                folders[row] = ""
                rejected.append((f"{table.path}:{table.rows[row]}", problem))
    found = folders != ""
    for row in np.flatnonzero(~found & ~segments).tolist():
        reason = f"no video {str(table.ids[row])!r} of class {table.classes[table.labels[row]]!r}"
        rejected.append((f"{table.path}:{table.rows[row]}", f"{reason} in {jpg}"))
    if not found.any():
        raise DataError(
            f"{table.path}: none of its {len(table) + len(table.rejected)} rows can be used with "
            f"{jpg}; the first one, {rejected[0][0]}: {rejected[0][1]}"
        )
    times = None
    if segments.any():
        times = np.where(segments[:, None], table.times, np.nan)[found]
    return Videos(
        root=jpg,
        folders=folders[found],
        labels=table.labels[found],
        classes=table.classes,
        rejected=rejected,
        source=table.path,
        rows=table.rows[found],
        times=times,
    )


def _find_folders(jpg: Path, table: LabelTable, ids: np.ndarray) -> np.ndarray:
    """Return the folder of each row's video below jpg/, str (N,); empty if there is none."""
    top = _listing(jpg)
    class_folders: dict[str, list[str]] = {}
    for name in top:
        class_folders.setdefault(class_key(name), []).append(name)
    # an array of str takes less memory than an array of objects, but cuts off longer names
    longest = max(map(len, top)) + len("/") + ids.itemsize // np.dtype("U1").itemsize
    folders = np.zeros(len(table), f"U{longest}")
    for number, name in enumerate(table.classes):
        rows = np.flatnonzero(table.labels == number)
        if not len(rows):
            continue
        for folder in class_folders.get(class_key(name), []):
            inside = np.isin(ids[rows], list(_listing(jpg, folder)))
            folders[rows[inside]] = [f"{folder}/{video}" for video in ids[rows[inside]]]
    rest = np.flatnonzero(folders == "")
    flat = rest[np.isin(ids[rest], list(top))]
    folders[flat] = ids[flat]
    return folders


def video_folders(root: str | Path) -> list[Path]:
    """Return the folders of all videos below a dataset's jpg/, sorted by name.

    Raises:
        DataError: there is no such dataset, or it has no folder jpg/.
    """
    jpg = frames_root(Path(root))
    folders = []
    for name in sorted(_listing(jpg)):
        inside = sorted(_listing(jpg, name))
        # A folder that contains no folders is a video's: there are no class folders then.
        folders += [jpg / name / video for video in inside] if inside else [jpg / name]
    return folders


def frames_root(root: Path) -> Path:
    """Return the folder jpg/ of a dataset. Raises DataError if there is none or it is empty."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give --dataset the folder that holds jpg/")
    jpg = root if root.name == "jpg" and not (root / "jpg").is_dir() else root / "jpg"
    if not jpg.is_dir():
        raise DataError(f"{root}: holds no folder jpg/; `python -m run.convert` makes it")
    if not _listing(jpg):
        raise DataError(f"{jpg}: is empty; `python -m run.convert` fills it")
    return jpg


def _listing(jpg: Path, folder: str = "") -> frozenset[str]:
    """Return the names of the folders in jpg/ or in a class folder, and of videos in shards."""
    path = jpg / folder
    found = _list(path, path.stat().st_mtime_ns) if path.is_dir() else frozenset()
    from data.store.shard_index import open_index  # here, as it imports OpenCV

    index = open_index(jpg)
    if index is None:
        return found
    return found.union(index.inside(folder) if folder else index.folders())


@functools.cache
def _list(folder: Path, _changed: int) -> frozenset[str]:
    """Return the names of the folders in `folder`, listed once for training and validation."""
    with os.scandir(folder) as entries:
        return frozenset(
            entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()
        )
