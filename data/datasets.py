"""The datasets as one table, and the way from a dataset's folder to the videos of a split."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data.annotations.class_names import class_key
from data.annotations.duplicate_videos import warn_of_repeats
from data.annotations.label_csv import TEST, TRAIN, UNSAID, VAL, LabelTable, load_labels
from data.annotations.video_folders import Videos, find_videos
from data.data_error import DataError

log = logging.getLogger(__name__)

READY_MADE = Path(__file__).parent.parent / "labels"  # the csvs that come with the project
PART_NAMES = {"train": ("train", "training"), "val": ("val", "validate", "validation", "test")}
LISTED = 5  # unusable rows that a warning lists


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset's facts, and the defaults of training on it (those of the original)."""

    name: str
    results_name: str  # of the folder under results/
    classes: int  # of the whole benchmark; 0: whatever the labels have
    csv_prefix: str  # label csvs are `<prefix>_train.csv`, `<prefix>_val.csv`
    lr: float = 0.1
    lr_steps: tuple[int, ...] = (15, 30, 40)
    epochs: int = 100
    batch: int = 32
    clip_length: int = 16  # frames
    clip_size: int = 256  # pixels
    short_side: int = 294  # pixels that a frame is thought to be resized to before the crop
    train_intervals: tuple[int, ...] = (2,)
    val_interval: int = 2
    variants: tuple[int, ...] = ()


_LARGE = {"clip_size": 284, "short_side": 384}

DATASETS = {
    spec.name: spec
    for spec in (
        DatasetSpec(
            "hacs", "HACS", 200, "HACS_clips_v1.1",
            lr_steps=(40, 60, 75, 90), epochs=120, batch=48, train_intervals=(1, 2), **_LARGE,
        ),
        DatasetSpec(
            "kinetics", "KINETICS-400", 400, "kinetics-400",
            lr=0.05, lr_steps=(40, 70, 95), epochs=130, train_intervals=(4, 5, 6), val_interval=5,
            variants=(200, 400, 600, 700), **_LARGE,
        ),
        DatasetSpec(
            "mit", "MIT", 339, "Moments_in_Time",
            lr_steps=(25, 50, 70), epochs=110, batch=48, train_intervals=(3, 4), val_interval=3,
            **_LARGE,
        ),
        DatasetSpec("ucf101", "UCF101", 101, "ucf101_split{split}"),
        DatasetSpec("hmdb51", "HMDB51", 51, "hmdb_split{split}"),
        DatasetSpec("diving48", "DIVING48", 48, "diving48"),
        DatasetSpec("custom", "CUSTOM", 0, "*", clip_size=224, short_side=256),
    )
}  # fmt: skip


def dataset_spec(name: str, variant: int | None = None) -> DatasetSpec:
    """The row of a dataset; Kinetics comes in variants of 200, 400 (the default), 600, 700 classes.

    Raises:
        DataError: there is no such dataset, or it has no such variant.
    """
    if name not in DATASETS:
        raise DataError(f"unknown dataset {name!r}: it is one of {', '.join(DATASETS)}")
    spec = DATASETS[name]
    if variant is None:
        return spec
    if variant not in spec.variants:
        choices = ", ".join(map(str, spec.variants)) or "none"
        raise DataError(f"--variant {variant}: {name} has the variants {choices}")
    return replace(
        spec,
        classes=variant,
        csv_prefix=f"kinetics-{variant}",
        results_name=f"KINETICS-{variant}",
    )


def open_split(
    spec: DatasetSpec,
    root: str | Path,
    part: str,
    *,
    labels: str | Path | None = None,
    split: int = 1,
    classes: Sequence[str] | None = None,
    skip_bad: bool = False,
) -> Videos:
    """The usable videos of one part of a dataset.

    Args:
        spec: the dataset.
        root: its folder, which holds jpg/.
        part: "train" or "val".
        labels: a folder of label csvs, or the train csv; None looks in `<root>/labels/`,
            `<root>/../../labels/`, and then takes the project's own.
        split: which split, for datasets that have several.
        classes: names of the classes, for the validation part: those of the training part.
        skip_bad: go on without rows that cannot be used. Rows of the project's own csvs may lack
            their videos (a subset of the dataset) in any case.

    Raises:
        DataError: no csv, no dataset, no usable video, or a row that cannot be used.
    """
    root = Path(root)
    path = find_csv(spec, root, part, labels=labels, split=split)
    log.info("%s labels: %s", part, path)
    ready_made = path.parent == READY_MADE
    shared = part == "val" and labels is not None and path == Path(labels)
    table = _of_part(load_labels(path, None if ready_made else classes), part, shared=shared)
    if not len(table) and table.rejected:
        row, reason = table.rejected[0]
        raise DataError(f"{path}:{row}: {reason}; no row of it can be used")
    videos = find_videos(root, table)
    if ready_made:
        videos = _subset(videos, classes)
    _report_rejected(videos, ready_made=ready_made, skip_bad=skip_bad)
    warn_of_repeats(videos)
    if part == "train" and spec.classes and len(videos.classes) != spec.classes:
        log.info(
            "%d classes, as the labels have, of the %d of %s",
            len(videos.classes), spec.classes, spec.results_name,
        )  # fmt: skip
    return videos


def find_csv(
    spec: DatasetSpec, root: Path, part: str, *, labels: str | Path | None, split: int
) -> Path:
    """The label csv of one part. Raises DataError, naming the places, where there is none."""
    if labels is not None and not Path(labels).exists():
        raise DataError(f"{labels}: no such label csv or folder of label csvs (--labels)")
    if labels is not None and Path(labels).is_file():
        return _sibling(Path(labels), part)
    places = (
        [Path(labels)]
        if labels is not None
        else [root / "labels", root.absolute().parent.parent / "labels", READY_MADE]
    )
    prefix = spec.csv_prefix.format(split=split)
    for place in places:
        found = sorted(path for name in _names(prefix, part) for path in place.glob(name))
        if len(found) > 1 and prefix == "*":
            names = ", ".join(path.name for path in found)
            raise DataError(f"{place}: several label csvs fit, name one by --labels: {names}")
        if found:
            return found[0]
    raise DataError(
        f"no {next(_names(prefix, part))} in {', '.join(map(str, places))}; "
        "`python -m run.labels` makes it of the official lists, --labels names another"
    )


def _names(prefix: str, part: str) -> Iterator[str]:
    for word in PART_NAMES[part]:
        yield from (f"{prefix}_{word}.csv", f"{prefix}_{word}.csv.gz")


def _sibling(train_csv: Path, part: str) -> Path:
    """The csv of `part` beside a train csv; one csv may hold both, told apart by its split."""
    if part == "train":
        return train_csv
    for train_word in PART_NAMES["train"]:
        before, found, after = train_csv.name.rpartition(train_word)
        for word in PART_NAMES[part] if found else ():
            path = train_csv.with_name(before + word + after)
            if path.exists():
                return path
    return train_csv


def _of_part(table: LabelTable, part: str, *, shared: bool) -> LabelTable:
    """The rows of one part, as the csv's split tells; all of them where no row says one.

    For validation, `test` rows are taken only where there are no `val` rows. `shared`: the csv is
    the training csv too, so that rows which say nothing are training rows. A row that says nothing
    is rejected where others say `train`, or `val` in a csv of validation rows: it would otherwise
    be dropped without a word.

    Raises:
        DataError: the csv has no row of this part.
    """
    if not len(table):
        return table
    said = set(np.unique(table.parts).tolist())
    order = (TRAIN,) if part == "train" else (VAL, TEST)
    wanted = next((number for number in order if number in said), UNSAID)
    if part == "val" and wanted == UNSAID and (shared or TRAIN in said):
        raise DataError(
            f"{table.path}: holds no validation rows; put a csv with `val` for `train` in its "
            "name beside it, or rows whose split is `val` into it"
        )
    if wanted not in said:
        raise DataError(
            f"{table.path}:{table.rows[0]}: the csv holds no training rows: the split of each "
            "row says val or test"
        )
    rejected = table.rejected
    of_training = shared and TRAIN not in said  # whose rows say nothing because they train
    if wanted != UNSAID and UNSAID in said and not of_training:
        reason = "says no split, but other rows of the csv do"
        unsaid = table.rows[table.parts == UNSAID].tolist()
        rejected = sorted([*rejected, *((row, reason) for row in unsaid)])
    keep = table.parts == wanted
    return replace(
        table,
        ids=table.ids[keep],
        labels=table.labels[keep],
        parts=table.parts[keep],
        rows=table.rows[keep],
        rejected=rejected,
    )


def _subset(videos: Videos, classes: Sequence[str] | None) -> Videos:
    """Only the classes that have a video (or the given ones), numbered anew in the same order."""
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
    )


def _report_rejected(videos: Videos, *, ready_made: bool, skip_bad: bool) -> None:
    if not videos.rejected:
        return
    (where, reason), count = videos.rejected[0], len(videos.rejected)
    if ready_made:
        log.info("%d of the rows of %s have no video here", count, videos.source.name)
    elif skip_bad:
        listed = "; ".join(f"{where}: {reason}" for where, reason in videos.rejected[:LISTED])
        more = f"; and {count - LISTED} more" if count > LISTED else ""
        log.warning("%d rows are skipped: %s%s", count, listed, more)
    else:
        more = f" ({count - 1} more rows like it)" if count > 1 else ""
        raise DataError(f"{where}: {reason}{more}; mend it, or train without by --skip-bad")
