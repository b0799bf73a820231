"""Find out which videos of a dataset are for training and which for validation, and their classes.

Nothing here stops at a row that cannot be used: the report lists all of them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.annotations.class_names import class_key
from data.annotations.published_lists import read_classes
from data.annotations.splits import find_csv, open_split
from data.annotations.video_folders import Videos, frames_root, video_folders
from data.data_error import DataError
from data.dataset_defaults import DATASETS, READY_MADE, DatasetSpec, dataset_spec

log = logging.getLogger(__name__)

PARTS = ("train", "val")
ALL = "all"  # the name of the one part of a dataset without label csvs


@dataclass(frozen=True)
class Labelled:
    """The videos of a dataset, part by part.

    Attributes:
        spec: the dataset whose defaults are used.
        parts: "train" and "val", or ALL without label csvs.
        trouble: why there are no label csvs, or why a part cannot be opened.
        folders: every video's folder below jpg/, labelled or not.
    """

    spec: DatasetSpec
    parts: dict[str, Videos]
    trouble: list[str] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)

    @property
    def has_csvs(self) -> bool:
        """Whether label csvs were found."""
        return ALL not in self.parts

    def folders_to_read(self) -> list[str]:
        """Return each folder once, including folders of rows that are not below a class folder."""
        named = (videos.path(i) for videos in self.parts.values() for i in range(len(videos)))
        return list(dict.fromkeys([*map(str, self.folders), *named]))


def open_parts(
    root: Path,
    *,
    labels: Path | None,
    name: str | None,
    variant: int | None = None,
    split: int = 1,
) -> Labelled:
    """Open the label csvs of a dataset; without any, take the class folders as classes.

    Args:
        root: the folder that holds jpg/.
        labels: a training csv or a folder of csvs, as for training.
        name: one of DATASETS; None recognises the dataset by its class folders.
        variant: number of classes, for Kinetics.
        split: which split, for datasets that have several.

    Raises:
        DataError: there is no such dataset, or no video in it, or `labels` does not exist.
    """
    folders = video_folders(root)
    if name is None:
        spec = dataset_spec("custom") if labels else recognise(root)
    else:
        spec = dataset_spec(name, variant)
    if labels is not None and not labels.exists():
        raise DataError(f"{labels}: no such label csv or folder of label csvs (--labels)")
    where = {"labels": labels, "split": split}
    try:
        find_csv(spec, root, "train", **where)
    except DataError as error:
        return Labelled(spec, {ALL: _by_folders(root, folders)}, [str(error)], folders)
    parts: dict[str, Videos] = {}
    trouble = []
    for part in PARTS:
        classes = parts["train"].classes if "train" in parts else None
        try:
            parts[part] = open_split(spec, root, part, classes=classes, skip_bad=True, **where)
        except DataError as error:
            trouble.append(str(error))
    return Labelled(spec, parts, trouble, folders)


def recognise(root: Path) -> DatasetSpec:
    """Return the dataset whose class list has all class folders, or the user's own dataset.

    With a csv in `<root>/labels/` it is always the user's own.
    """
    custom = dataset_spec("custom")
    if any((root / "labels").glob("*.csv*")):
        return custom
    found = {class_key(path.name) for path in frames_root(root).iterdir() if path.is_dir()}
    fitting = []
    for path in READY_MADE.glob("*_classes.txt"):
        name, _, variant = path.name.removesuffix("_classes.txt").partition("-")
        classes = {class_key(line) for line in read_classes(path)}
        if name in DATASETS and len(found) > 1 and found <= classes:
            fitting.append((len(classes), name, int(variant) if variant else None))
    if not fitting:
        return custom
    spec = dataset_spec(*min(fitting)[1:])
    log.info("the class folders are those of %s: its label csvs are used", spec.results_name)
    return spec


def _by_folders(root: Path, folders: list[Path]) -> Videos:
    """Return all videos, with the names of their class folders as classes."""
    jpg = frames_root(root)
    relative = [folder.relative_to(jpg) for folder in folders]
    of = [str(path.parent) if len(path.parts) > 1 else "(no class folder)" for path in relative]
    classes = tuple(dict.fromkeys(of))
    number = {name: i for i, name in enumerate(classes)}
    return Videos(
        root=jpg,
        folders=np.array(list(map(str, relative))),
        labels=np.array([number[name] for name in of], np.int64),
        classes=classes,
        rejected=[],
        source=jpg,
    )
