"""Find the label csv of a dataset's training or validation part, and its videos."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.annotations.class_names import class_key
from data.annotations.duplicate_videos import warn_of_repeats
from data.annotations.label_csv import NO_SPLIT, TEST, TRAIN, VAL, LabelTable, load_labels
from data.annotations.video_folders import Videos, find_videos
from data.data_error import DataError
from data.dataset_defaults import READY_MADE, DatasetSpec

log = logging.getLogger(__name__)

#: The words that a csv's name may end with, the preferred one first.
PART_NAMES = {"train": ("train", "training"), "val": ("val", "validate", "validation", "test")}
LISTED = 5  # unusable rows that a warning lists


def open_split(
    spec: DatasetSpec,
    root: str | Path,
    part: str,
    *,
    labels: str | Path | None = None,
    split: int = 1,
    classes: Sequence[str] | None = None,
    skip_bad: bool = False,
    other_names: bool = False,
) -> Videos:
    """Return the usable videos of the training or the validation part of a dataset.

    Args:
        spec: the dataset.
        root: its folder, the one that holds jpg/.
        part: "train" or "val".
        labels: a folder of label csvs, or the training csv itself. None searches
            `<root>/labels/`, then `<root>/../../labels/`, then the csvs of this project, unless
            the dataset is the user's own.
        split: which split, for datasets that have several.
        classes: the class names of the training part, when the validation part is opened.
        skip_bad: leave out rows that cannot be used instead of raising. Rows of this project's
            own csvs may always lack their video, since many people have a subset of a dataset.
        other_names: take csvs in `<root>/labels/` that are not named as those of `spec`, since a
            network can be scored on another dataset than it was trained on.

    Raises:
        DataError: there is no csv, no dataset or no usable video, or a row cannot be used.
    """
    root = Path(root)
    path = find_csv(spec, root, part, labels=labels, split=split, other_names=other_names)
    log.info("%s labels: %s", part, path)
    ready_made = path.parent == READY_MADE
    shared = part == "val" and labels is not None and path == Path(labels)
    table = _rows_of_part(load_labels(path, None if ready_made else classes), part, shared=shared)
    if not len(table) and table.rejected:
        row, reason = table.rejected[0]
        raise DataError(f"{path}:{row}: {reason}; no row of this csv can be used")
    videos = find_videos(root, table)
    if ready_made:
        videos = _keep_classes(videos, classes)
    _report_rejected(videos, ready_made=ready_made, skip_bad=skip_bad)
    warn_of_repeats(videos)
    if part == "train" and spec.classes and len(videos.classes) != spec.classes:
        log.info(
            "the labels have %d of the %d classes of %s",
            len(videos.classes), spec.classes, spec.results_name,
        )  # fmt: skip
    return videos


def find_csv(
    spec: DatasetSpec,
    root: Path,
    part: str,
    *,
    labels: str | Path | None,
    split: int,
    other_names: bool = False,
) -> Path:
    """Return the path of the label csv of one part; for the arguments see `open_split`.

    Raises:
        DataError: there is none, or several fit. The message names the folders searched.
    """
    if labels is not None and not Path(labels).exists():
        raise DataError(f"{labels}: no such label csv or folder of label csvs (--labels)")
    if labels is not None and Path(labels).is_file():
        return _csv_beside(Path(labels), part)
    prefix = spec.csv_prefix.format(split=split)
    beside = root / "labels"
    places = [beside, root.absolute().parent.parent / "labels", READY_MADE]
    if labels is not None:
        places = [Path(labels)]
    elif prefix == "*":  # the csvs of this project are of other datasets
        places = [place for place in places if place.resolve() != READY_MADE.resolve()]
    # names of the same dataset: another split or variant must not be taken for the one asked for
    family = spec.csv_prefix.split("{")[0].rstrip("0123456789")
    for place in places:
        found = _csvs(place, prefix, part)
        if other_names and not found and place == beside:
            found = [path for path in _csvs(place, "*", part) if not path.name.startswith(family)]
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise DataError(
                f"{place}: holds several label csvs for {part}, choose one by --labels: {names}"
            )
        if found:
            return found[0]
    raise DataError(
        f"no {prefix}_{PART_NAMES[part][0]}.csv in {', '.join(map(str, places))}; make it "
        f"{'' if prefix == '*' else 'from the official lists '}by `python -m run.labels`, or name "
        "another csv by --labels"
    )


def _csvs(place: Path, prefix: str, part: str) -> list[Path]:
    """Return the csvs of a part in a folder. The first of its PART_NAMES that is found counts."""
    for word in PART_NAMES[part]:
        found = sorted(place.glob(f"{prefix}_{word}.csv")) or sorted(
            place.glob(f"{prefix}_{word}.csv.gz")
        )
        if found:
            return found
    return []


def _csv_beside(train_csv: Path, part: str) -> Path:
    """Return the csv of `part` that lies beside a training csv.

    Without such a file it is the training csv itself, whose column `split` then tells the parts
    apart.
    """
    if part == "train":
        return train_csv
    for train_word in PART_NAMES["train"]:
        before, found, after = train_csv.name.rpartition(train_word)
        for word in PART_NAMES[part] if found else ():
            path = train_csv.with_name(before + word + after)
            if path.exists():
                return path
    return train_csv


def _rows_of_part(table: LabelTable, part: str, *, shared: bool) -> LabelTable:
    """Keep the rows of one part, as the column `split` says; all rows if no row names a split.

    For validation, rows that say `test` are taken only if no row says `val`. Where some rows name
    a split and others do not, those without one are rejected, because dropping them silently would
    hide a mistake. There is one exception: in a csv for both parts (`shared`) that names only
    validation rows, the rows without a split are the training rows.

    Raises:
        DataError: the csv has no row of this part.
    """
    if not len(table):
        return table
    present = set(np.unique(table.parts).tolist())
    order = (TRAIN,) if part == "train" else (VAL, TEST)
    wanted = next((number for number in order if number in present), NO_SPLIT)
    if part == "val" and wanted == NO_SPLIT and (shared or TRAIN in present):
        raise DataError(
            f"{table.path}: holds no validation rows; put a csv with `val` for `train` in its "
            "name beside it, or add rows whose split is `val`"
        )
    if wanted not in present:
        raise DataError(
            f"{table.path}:{table.rows[0]}: the csv holds no training rows, since the split of "
            "every row is val or test"
        )
    rejected = table.rejected
    others_are_training = shared and TRAIN not in present
    if wanted != NO_SPLIT and NO_SPLIT in present and not others_are_training:
        reason = "has no split, but other rows of the csv have one"
        no_split = table.rows[table.parts == NO_SPLIT].tolist()
        rejected = sorted([*rejected, *((row, reason) for row in no_split)])
    return replace(table.keep(table.parts == wanted), rejected=rejected)


def _keep_classes(videos: Videos, classes: Sequence[str] | None) -> Videos:
    """Keep the videos of the given classes, or the classes that have videos; renumber the classes.

    The order of the classes is kept.
    """
    if classes is None:
        classes = [videos.classes[number] for number in np.unique(videos.labels)]
    number_of = {class_key(name): number for number, name in enumerate(classes)}
    renumbered = np.array([number_of.get(class_key(name), -1) for name in videos.classes], np.int64)
    labels = renumbered[videos.labels]
    keep = labels >= 0
    if not keep.any():
        raise DataError(f"{videos.source}: none of its videos is of a class of the training part")
    return replace(
        videos,
        folders=videos.folders[keep],
        labels=labels[keep],
        classes=tuple(classes),
        rows=videos.rows[keep],
        times=None if videos.times is None else videos.times[keep],
    )


def _report_rejected(videos: Videos, *, ready_made: bool, skip_bad: bool) -> None:
    if not videos.rejected:
        return
    (where, reason), count = videos.rejected[0], len(videos.rejected)
    if ready_made:
        log.info("%d rows of %s have no video in this dataset", count, videos.source.name)
    elif skip_bad:
        listed = "; ".join(f"{where}: {reason}" for where, reason in videos.rejected[:LISTED])
        more = f"; and {count - LISTED} more" if count > LISTED else ""
        log.warning("%d rows are skipped: %s%s", count, listed, more)
    else:
        more = f" ({count - 1} more rows cannot be used)" if count > 1 else ""
        raise DataError(f"{where}: {reason}{more}; correct it, or leave it out by --skip-bad")
