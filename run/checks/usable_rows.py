"""Write one label csv of the rows that training can use."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from data.annotations.label_csv import read_rows
from data.file_writing import write_atomically
from run.checks.dataset_findings import Part, groups_of_near_duplicates
from run.checks.labelled_parts import ALL, Labelled
from run.checks.store_facts import StoreFacts

COLUMNS = ("label", "id", "split")
SEGMENT = ("label", "id", "time_start", "time_end", "split")


def usable(labelled: Labelled, facts: Mapping[str, StoreFacts]) -> dict[str, list[int]]:
    """Return for each part the numbers of the videos to keep, in order.

    Left out are videos that are damaged, black or of one colour; later rows of a video or segment;
    and training videos that are in validation too, or look like a video of it.
    """
    parts = {
        name: Part(name, videos, [facts[videos.path(i)] for i in range(len(videos))])
        for name, videos in labelled.parts.items()
    }
    validation = {*parts["val"].clips} if "val" in parts else set()
    alike = {
        part.videos.path(i)
        for group in groups_of_near_duplicates(parts.values())
        if any(part.name == "val" for part, _ in group)
        for part, i in group
        if part.name != "val"
    }
    kept: dict[str, list[int]] = {}
    for name, part in parts.items():
        seen: set[str] = set()
        kept[name] = []
        for i, (clip, fact) in enumerate(zip(part.clips, part.facts, strict=True)):
            in_validation = name != "val" and (clip in validation or part.videos.path(i) in alike)
            useless = fact.error or fact.picture in ("black", "one colour")
            if not (useless or in_validation or clip in seen):
                kept[name].append(i)
            seen.add(clip)
    return kept


def write_usable(path: Path, labelled: Labelled, kept: Mapping[str, list[int]]) -> dict[str, int]:
    """Write the rows of the videos to keep, and return how many there are of each part.

    The rows keep their order and their times. The part is in the column `split`; videos without a
    label csv have none.
    """
    rows: list[tuple] = []
    counts = {}
    for name, indices in kept.items():
        rows += _rows(labelled, name, indices)
        counts[name] = len(indices)
    times = any(row[2] or row[3] for row in rows)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(SEGMENT if times else COLUMNS)
    writer.writerows(row if times else (*row[:2], row[4]) for row in rows)
    content = text.getvalue().encode(errors="surrogateescape")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(content))
    return counts


def _rows(labelled: Labelled, name: str, indices: list[int]) -> list[tuple]:
    """Return (label, id, start, end, split) of videos, as their rows say it."""
    videos = labelled.parts[name]
    if videos.rows is None:
        return [
            (videos.classes[videos.labels[i]], videos.folders[i].rpartition("/")[2], "", "", "")
            for i in indices
        ]
    part = "" if name == ALL else name
    wanted = {int(videos.rows[i]): i for i in indices}
    found = {}
    for line, fields in read_rows(videos.source):
        if line in wanted:
            start, end = fields.get("start", ""), fields.get("end", "")
            found[wanted[line]] = (fields["label"], fields["id"], start, end, part)
    return [found[i] for i in indices]
