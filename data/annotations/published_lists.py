"""Read the datasets' official lists, and other frameworks' lists, as rows of label csvs."""

from __future__ import annotations

import csv
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from data.annotations.class_names import class_key, read_json
from data.annotations.label_csv import PARTS, TEST, TRAIN, VAL, load_labels
from data.annotations.label_csv_writer import Row
from data.data_error import DataError

log = logging.getLogger(__name__)

SHOWN = 3  # unusable lines that a warning quotes
HMDB_PARTS = {"1": "train", "2": "val"}  # "0": the video is in neither part
STAMP = len("_000010_000020")  # length of the times that follow a YouTube id


class Rejections(list):
    """The lines that cannot be used, each as "file:line: reason"."""

    def log(self) -> None:
        """Log a warning with the number of these lines and the first few of them."""
        if self:
            more = f"; and {len(self) - SHOWN} more" if len(self) > SHOWN else ""
            log.warning("%d lines are left out: %s%s", len(self), "; ".join(self[:SHOWN]), more)


def read_lines(path: Path) -> list[str]:
    """Return the lines that are not blank, stripped. Raises DataError if there are none."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise DataError(f"{path}: is empty")
    return lines


def read_classes(path: Path) -> list[str]:
    """Read a class list: one name on each line, after its number or alone.

    Raises:
        DataError: the file cannot be read, or lists a class twice.
    """
    names = []
    for line in read_lines(path):
        number, _, name = line.partition(" ")
        names.append(name.strip() if number.isdecimal() and name else line)
    counts = Counter(map(class_key, names))
    repeated = next((name for name in names if counts[class_key(name)] > 1), None)
    if repeated is not None:
        raise DataError(f"{path}: lists the class {repeated!r} twice; delete one of the two lines")
    return names


def ucf101(folder: Path, split: int) -> Iterator[Row]:
    """Read UCF-101's trainlist0N.txt and testlist0N.txt: `<class>/<video>.avi [number]`."""
    for part, name in (("train", f"trainlist0{split}.txt"), ("val", f"testlist0{split}.txt")):
        for number, line in enumerate(read_lines(folder / name), start=1):
            label, slash, video = line.split()[0].partition("/")
            if not slash:
                raise DataError(
                    f"{folder / name}:{number}: {line[:60]!r} is not <class>/<video>.avi"
                )
            yield Row(label, Path(video).stem, part)


def hmdb51(folder: Path, split: int) -> Iterator[Row]:
    """Read HMDB-51's <class>_test_splitN.txt: `<video>.avi 0|1|2` for unused, train, test."""
    ending = f"_test_split{split}.txt"
    files = sorted(folder.glob(f"*{ending}"))
    if not files:
        raise DataError(f"{folder}: holds no <class>{ending}")
    for path in files:
        for number, line in enumerate(read_lines(path), start=1):
            video, _, use = line.rpartition(" ")
            if not video or use not in ("0", "1", "2"):
                raise DataError(f"{path}:{number}: {line[:60]!r} is not <video>.avi 0|1|2")
            if use != "0":
                yield Row(path.name.removesuffix(ending), Path(video.strip()).stem, HMDB_PARTS[use])


def labelled_csv(
    path: Path, rejections: Rejections, *, part: str | None, classes: Sequence[str] | None = None
) -> Iterator[Row]:
    """Read any csv that `load_labels` reads, such as those of Kinetics from all sources.

    Args:
        path: the csv.
        rejections: gets the lines that cannot be used.
        part: the part of rows without a split; None rejects such rows.
        classes: names of the classes; rows of other classes are rejected.
    """
    table = load_labels(path, classes)
    rejections += [f"{path}:{row}: {reason}" for row, reason in table.rejected]
    names = {TRAIN: "train", VAL: "val", TEST: "test"}
    columns = zip(table.ids, table.labels, table.parts, table.rows, strict=True)
    for video, label, number, line in columns:
        row_part = names.get(int(number), part)
        if row_part is None:
            rejections.append(f"{path}:{line}: has no split (--part names it)")
            continue
        stamp = str(video[-STAMP:]).split("_")
        timed = len(stamp) == 3 and all(len(t) == 6 and t.isdecimal() for t in stamp[1:])
        if timed and len(video) > STAMP:
            span = int(stamp[1]), int(stamp[2])
            yield Row(table.classes[label], str(video[:-STAMP]), row_part, *span)
        else:
            yield Row(table.classes[label], str(video), row_part)


def hacs(path: Path, rejections: Rejections) -> Iterator[Row]:
    """Read HACS's csv of segments: classname, youtube_id, subset, start, end, label.

    Segments with the label -1, which do not show the action, are left out.
    """
    needed = ("classname", "youtube_id", "subset", "start", "end")
    for number, row in _records(path, rejections, needed):
        try:
            if float(row.get("label") or 1) < 0:
                continue
            part = _part_name(row["subset"])
            yield Row(
                row["classname"].strip(),
                row["youtube_id"].strip(),
                part,
                int(float(row["start"])),
                int(float(row["end"])),
            )
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            rejections.append(f"{path}:{number}: {error}")


def moments(path: Path, rejections: Rejections, *, part: str) -> Iterator[Row]:
    """Read Moments in Time's trainingSet.csv or validationSet.csv: `<class>/<id>.mp4,<class>`."""
    for number, line in enumerate(read_lines(path), start=1):
        try:
            fields = next(csv.reader([line]))
        except csv.Error as error:
            rejections.append(f"{path}:{number}: is not csv ({error})")
            continue
        video = Path(fields[0])
        if len(fields) < 2 or not video.suffix or not fields[1].strip():
            rejections.append(f"{path}:{number}: {line[:60]!r} is not <class>/<video>.mp4,<class>")
            continue
        yield Row(fields[1].strip(), video.stem, part)


def diving48(path: Path, rejections: Rejections, *, part: str, classes: list[str]) -> Iterator[Row]:
    """Read Diving48's json, a list of {vid_name, label, ...}; the labels are class numbers."""
    entries = read_json(path)
    if not isinstance(entries, list):
        raise DataError(f"{path}: is not a list of {{vid_name, label, ...}}")
    for number, entry in enumerate(entries, start=1):
        try:
            label = int(entry["label"])
            if not 0 <= label < len(classes):
                raise ValueError(f"the label {label} is not within 0..{len(classes) - 1}")
            yield Row(classes[label], str(entry["vid_name"]), part)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            rejections.append(f"{path}: entry {number}: {type(error).__name__}: {error}")


def activitynet(path: Path, rejections: Rejections, *, prefix: str = "") -> Iterator[Row]:
    """Read ActivityNet's json of segments, whose format HACS Segments has too.

    It is {"database": {id: {"subset": "training", "annotations": [{"segment": [start, end],
    "label": class}, ...]}, ...}}. Videos without annotations, as in the test set, have no row.

    Args:
        path: the json.
        rejections: gets the annotations that cannot be used.
        prefix: what the names of the videos have before the id, such as `v_`.
    """
    content = read_json(path)
    videos = content.get("database") if isinstance(content, dict) else None
    if not isinstance(videos, dict):
        raise DataError(f"{path}: has no database of videos, as ActivityNet's json has")
    for name, video in videos.items():
        try:
            annotations = video["annotations"]
            part = _part_name(video["subset"]) if annotations else ""
            for annotation in annotations:
                start, end = map(float, annotation["segment"])
                if not 0 <= start < end < 1e6:
                    raise ValueError(f"the segment {start:g}, {end:g} is not one of a video")
                yield Row(annotation["label"].strip(), f"{prefix}{name}", part, start, end)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            rejections.append(f"{path}: {name[:60]!r}: {type(error).__name__}: {error}")


def path_list(
    path: Path, rejections: Rejections, *, part: str, classes: list[str] | None
) -> Iterator[Row]:
    """Read other frameworks' lists: `path label`, `path,label` or `path n_frames label` on a line.

    Args:
        path: the list.
        rejections: gets the lines that cannot be used.
        part: the part of all rows.
        classes: names of the classes, for labels that are numbers. None names a class after the
            folder of its videos.

    Raises:
        DataError: `classes` is None, and the videos with one number are in several folders.
    """
    found: list[tuple[int, Path, str]] = []
    lines = read_lines(path)
    mark = "," if all("," in line for line in lines) else None
    fields = [line.rsplit(mark, 2) for line in lines]
    counted = all(len(field) == 3 and field[1].strip().isdecimal() for field in fields)
    for number, line in enumerate(lines, start=1):
        *video, label = line.rsplit(mark, 2 if counted else 1)
        if not video or not video[0].strip():
            rejections.append(f"{path}:{number}: {line[:60]!r} is not <path> <label>")
        else:
            found.append((number, Path(video[0].strip()), label.strip()))
    names = _names_by_folder(path, found) if classes is None else dict(enumerate(classes))
    for number, video, label in found:
        name = names.get(int(label)) if _is_number(label) else label
        if name is None:
            rejections.append(f"{path}:{number}: the label {label} is not in the class list")
        else:
            yield Row(name, video.stem if video.suffix else video.name, part)


def _names_by_folder(path: Path, found: list[tuple[int, Path, str]]) -> dict[int, str]:
    names: dict[int, str] = {}
    for number, video, label in found:
        if _is_number(label):
            name = names.setdefault(int(label), video.parent.name)
            if not name or name != video.parent.name:
                raise DataError(
                    f"{path}:{number}: the videos of class {label} are in several folders, so none "
                    "of them can name it; give --classes a file with one class name on each line"
                )
    return names


def _is_number(label: str) -> bool:
    return label.isdecimal() and len(label) < 10  # int() refuses thousands of digits


def _records(
    path: Path, rejections: Rejections, needed: tuple[str, ...]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line number of each row below the header, and its fields by column name."""
    reader = csv.DictReader(read_lines(path))
    try:
        reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
    except csv.Error as error:
        raise DataError(f"{path}:1: is not csv ({error})") from error
    missing = [name for name in needed if name not in reader.fieldnames]
    if missing:
        raise DataError(f"{path}:1: no column {', '.join(missing)} in the header")
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            rejections.append(f"{path}:{reader.line_num + 1}: is not csv ({error})")
        else:
            yield reader.line_num, row


def _part_name(word: str) -> str:
    number = PARTS.get(word.strip().lower())
    if number is None:
        raise ValueError(f"{word!r} is neither train, val nor test")
    return {TRAIN: "train", VAL: "val", TEST: "test"}[number]
