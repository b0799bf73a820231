"""Write the label csvs of a folder of the user's own videos: `<dataset>/labels/custom_*.csv`.

The classes come from folders or from a csv that lies among the videos. Videos that the csvs name
already keep their part, so that more videos can be added to a dataset.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from data.annotations.class_names import class_key
from data.annotations.label_csv import NO_SPLIT, PARTS, LabelTable, load_labels
from data.annotations.label_csv_writer import Row, write_csvs
from data.annotations.tree_labels import divide, parts_are_given, picture_groups
from data.annotations.video_tree import PART_WORDS, VIDEO_ENDINGS, TreeVideo
from data.data_error import DataError
from data.store import is_finished

log = logging.getLogger(__name__)

PREFIX = "custom"  # of the csvs' names


class SplitOptions(NamedTuple):
    """How videos are divided into training and validation; see `data.annotations.tree_labels`."""

    fraction: float
    seed: int
    group: re.Pattern[str] | None
    skip_bad: bool = False  # leave out rows of a csv that cannot be used


def csv_path(dataset: Path, part: str) -> Path:
    """Return the path of the csv of one part: train, val or test."""
    return dataset / "labels" / f"{PREFIX}_{part}.csv"


def label_own_videos(
    dataset: Path, videos: Sequence[TreeVideo], csvs: Sequence[Path], options: SplitOptions
) -> dict[Path, int]:
    """Write the label csvs of a dataset; return the number of rows of each.

    Args:
        dataset: the folder whose jpg/ holds the frame stores.
        videos: the videos that were converted.
        csvs: label csvs of videos that lie in no class folder.
        options: how to divide the videos where neither folders nor csvs say their parts.

    Raises:
        DataError: a video or row cannot be used, or the videos cannot be divided.
    """
    if csvs:
        videos = label_by_csvs(csvs, videos, options)
    stores = {video: dataset / "jpg" / ("" if csvs else video.label) / video.id for video in videos}
    videos = [video for video in videos if is_finished(stores[video])]
    check_classes(videos)
    if parts_are_given(videos):
        rows = [Row(video.label, video.id, video.part, video.start, video.end) for video in videos]
    else:
        earlier = read_parts(dataset)
        known = {(class_key(label), video_id) for label, video_id in earlier}
        if not csvs and all((class_key(video.label), video.id) in known for video in videos):
            log.info("the label csvs name all videos already")
            return {}
        if known:
            log.info("%d videos keep the part that the label csvs say", len(known))
        rows = divide(
            videos,
            fraction=options.fraction,
            seed=options.seed,
            group=options.group,
            pictures=picture_groups([stores[video] for video in videos]),
            earlier=earlier,
        )
        if not csvs:
            rows += _rows_of_other_videos(dataset, earlier, rows)
    if not any(row.part == "val" or row.part == "test" for row in rows):
        raise DataError(
            "no video is left for validation, since all videos of each class are of one source; "
            "say by --group REGEX which part of a video's name tells its source"
        )
    # validation first: if the second csv cannot be written, no validation video becomes a training
    # video in the next attempt
    rows.sort(key=lambda row: (row.part == "train", row.label, row.id))
    classes = sorted({class_key(row.label): row.label for row in rows}.values())
    return write_csvs(rows, lambda part: csv_path(dataset, part), classes)


def check_classes(videos: Sequence[TreeVideo]) -> None:
    """Raise DataError if there are fewer than two classes, or a class has fewer than two videos.

    Each class needs one video for training and one for validation.
    """
    counts = Counter(class_key(video.label) for video in videos)
    names = {class_key(video.label): video.label for video in videos}
    if len(counts) < 2:
        what = f"the one class {videos[0].label!r}" if counts else "no class"
        raise DataError(f"the videos are of {what}; training needs at least two classes")
    few = [names[key] for key, count in counts.items() if count < 2]
    if few:
        more = f" (so have {len(few) - 1} more classes)" if len(few) > 1 else ""
        raise DataError(
            f"the class {few[0]!r} has one video only{more}; a class needs two, one for training "
            "and one for validation: add videos, or leave the class out"
        )


def read_parts(dataset: Path) -> dict[tuple[str, str], str]:
    """Return (class, id) -> part of all videos that the dataset's own csvs name."""
    parts = {}
    for part in ("val", "train"):
        path = csv_path(dataset, part)
        if path.is_file():
            table = load_labels(path)
            ids = table.video_ids().tolist()
            for video_id, label in zip(ids, table.labels.tolist(), strict=True):
                parts.setdefault((table.classes[label], video_id), part)
    return parts


def _rows_of_other_videos(
    dataset: Path, earlier: dict[tuple[str, str], str], rows: Sequence[Row]
) -> list[Row]:
    """Return earlier rows of videos that are in the dataset, but not in `rows`."""
    present = {(class_key(row.label), row.id) for row in rows}
    return [
        Row(label, video_id, part)
        for (label, video_id), part in earlier.items()
        if (class_key(label), video_id) not in present
        and any(is_finished(dataset / "jpg" / place / video_id) for place in (label, ""))
    ]


def label_by_csvs(
    csvs: Sequence[Path], videos: Sequence[TreeVideo], options: SplitOptions
) -> list[TreeVideo]:
    """Give each video the class and the part that csvs say; videos without a row are left out.

    Raises:
        DataError: a row cannot be used, or names no video.
    """
    by_id = {video.id: video for video in videos}
    labelled: list[TreeVideo] = []
    bad: list[str] = []
    for path in csvs:
        table = load_labels(path)
        bad += [f"{path}:{row}: {reason}" for row, reason in table.rejected]
        part = _part_of_name(path) if len(csvs) > 1 else ""
        for video_id, name, (start, end), label, number, row in _rows(table):
            video = by_id.get(video_id) or by_id.get(_without_ending(video_id))
            segment = video is None and start is not None
            if segment:
                video = by_id.get(name) or by_id.get(_without_ending(name))
            said = PART_WORDS.get(number, part)
            if video is None:
                bad.append(f"{path}:{row}: no video {video_id!r} in {videos[0].path.parent}")
            elif number == NO_SPLIT and not part and (table.parts != NO_SPLIT).any():
                bad.append(f"{path}:{row}: has no split, but other rows of the csv have one")
            else:
                times = (start, end) if segment else (None, None)
                labelled.append(TreeVideo(*video[:2], table.classes[label], said, *times))
    if bad and not (options.skip_bad and labelled):
        more = f" ({len(bad) - 1} more rows cannot be used)" if len(bad) > 1 else ""
        raise DataError(f"{bad[0]}{more}; correct it, or leave it out by --skip-bad")
    if bad:
        log.warning("%d rows are skipped; the first: %s", len(bad), bad[0])
    without = len(by_id) - len({video.id for video in labelled})
    if without:
        log.warning("%d videos have no row in %s and are left out", without, csvs[0].parent)
    return list(dict.fromkeys(labelled))


def _rows(table: LabelTable) -> Iterator[tuple]:
    """Yield the id, the id without times, (start, end), label, part and line number of each row."""
    times = [(None, None)] * len(table)
    if table.times is not None:
        times = [
            (None, None) if math.isnan(start) else (start, end)
            for start, end in table.times.tolist()
        ]
    columns = (table.labels, table.parts, table.rows)
    ids = (table.ids.tolist(), table.video_ids().tolist())
    return zip(*ids, times, *(column.tolist() for column in columns), strict=True)


def _without_ending(name: str) -> str:
    path = Path(name)
    return path.stem if path.suffix.lower() in VIDEO_ENDINGS else name


def _part_of_name(path: Path) -> str:
    """Return the part in the name of one of several csvs, such as `mine_val.csv`."""
    words = re.split(r"[^a-z]+", path.name.lower())
    found = next((PART_WORDS[PARTS[word]] for word in words if word in PARTS), None)
    if found is None:
        raise DataError(
            f"{path}: several csvs lie beside the videos, and this one's name contains neither "
            "train, val nor test; name the one to use by --labels"
        )
    return found
