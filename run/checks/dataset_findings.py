"""Judge a dataset by its label csvs and by what its frame stores hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from data.annotations.near_duplicates import near_duplicate_groups
from data.annotations.video_folders import Videos
from data.annotations.video_sources import source_numbers
from data.dataset_defaults import READY_MADE, DatasetSpec
from data.store.format import LAYOUT
from run.checks.finding import ERROR, NOTE, OK, WARNING, Finding
from run.checks.labelled_parts import Labelled
from run.checks.store_facts import StoreFacts

FEWEST = 2  # videos of a class in training, below which it cannot be learnt
UNBALANCED = 20  # times as many videos in the largest class as in the smallest
PICTURES = {
    "black": "are black from the first frame to the last",
    "one colour": "show one colour in each frame",
    "still": "show the same picture in every frame",
}


def judge_dataset(labelled: Labelled, facts: Mapping[str, StoreFacts]) -> list[Finding]:
    """Return the findings about a dataset, the worst first.

    Args:
        labelled: its parts.
        facts: folder -> what was found in its store.
    """
    good = {
        part: Part(part, videos, [facts[videos.path(i)] for i in range(len(videos))])
        for part, videos in labelled.parts.items()
    }
    found = [
        *_stores(labelled, facts),
        *_labels(labelled),
        *_classes(labelled),
        *_pictures(facts),
        *_repeats(good),
        *_sources(good),
        *_near_duplicates(good),
        *_lengths(good, labelled.spec),
        *_rates(facts),
    ]
    order = (ERROR, WARNING, NOTE, OK)
    return sorted(found, key=lambda finding: order.index(finding.level))


class Part:
    """The videos of one part and what was found in their stores.

    `clips` has the name of each video, with the times if it is a segment.
    """

    def __init__(self, name: str, videos: Videos, facts: list[StoreFacts]):
        self.name, self.videos, self.facts = name, videos, facts
        self.clips = [str(folder) for folder in videos.folders]
        if videos.times is not None:  # several segments of a video are not repeats
            times = videos.times.tolist()
            self.clips = [f"{clip} {at}" for clip, at in zip(self.clips, times, strict=True)]

    def place(self, index: int) -> str:
        """Say which video this is, and its row."""
        videos = self.videos
        row = "" if videos.rows is None else f" ({videos.source}:{videos.rows[index]})"
        return f"{videos.folders[index]}{row}"


def _stores(labelled: Labelled, facts: Mapping[str, StoreFacts]) -> Iterator[Finding]:
    bad = [fact for fact in facts.values() if fact.error]
    good = len(facts) - len(bad)
    yield Finding(OK, "frame stores", f"{good:,} of {len(facts):,} can be read to their end")
    if bad:
        yield Finding(
            ERROR,
            "damaged videos",
            f"{len(bad):,} frame stores are damaged or missing; training stops at them",
            "convert these videos again, or leave them out by --fix (or train with --skip-bad)",
            tuple(fact.error for fact in bad),
        )
    old = [fact.folder for fact in facts.values() if not fact.error and fact.layout < LAYOUT]
    if old:
        yield Finding(
            NOTE,
            "older stores",
            f"{len(old):,} frame stores are of an older layout: slower, or without checksums",
            "`python -m run.convert --upgrade` rewrites them with the same pictures",
            tuple(old),
        )
    named = {videos.path(i) for videos in labelled.parts.values() for i in range(len(videos))}
    unnamed = [str(folder) for folder in labelled.folders if str(folder) not in named]
    if unnamed and labelled.has_csvs:
        yield Finding(
            NOTE,
            "videos without a row",
            f"no label csv names {len(unnamed):,} videos; they are not used",
            places=tuple(unnamed),
        )


def _labels(labelled: Labelled) -> Iterator[Finding]:
    if not labelled.has_csvs:
        yield Finding(
            NOTE,
            "labels",
            f"no label csv was found, so the class folders are taken as classes "
            f"({labelled.trouble[0]})",
            "`python -m run.labels folders` makes label csvs from class folders",
        )
        return
    for text in labelled.trouble:
        yield Finding(ERROR, "labels", text, "correct the label csvs")
    for part, videos in labelled.parts.items():
        yield Finding(OK, f"{part} rows", f"{len(videos):,} usable rows of {videos.source}")
        if not videos.rejected:
            continue
        ready_made = videos.source.parent == READY_MADE
        yield Finding(
            NOTE if ready_made else ERROR,
            f"{part} rows without a video" if ready_made else f"unusable {part} rows",
            f"{len(videos.rejected):,} rows of {videos.source} cannot be used",
            "" if ready_made else "correct them, or leave them out by --fix",
            tuple(f"{where}: {reason}" for where, reason in videos.rejected),
        )


def _classes(labelled: Labelled) -> Iterator[Finding]:
    train = next(iter(labelled.parts.values()), None)
    if train is None:
        return
    counts = np.bincount(train.labels, minlength=len(train.classes))
    names = np.array(train.classes, object)
    if np.count_nonzero(counts) < 2:
        text = f"all videos are of one class, {names[counts.argmax()]!r}"
        yield Finding(ERROR, "classes", text, "training needs at least two classes")
        return
    yield Finding(
        OK,
        "classes",
        f"{np.count_nonzero(counts)} classes of {counts[counts > 0].min()} to {counts.max()} "
        "videos",
    )
    few = np.flatnonzero(counts < FEWEST)
    if len(few):
        yield Finding(
            WARNING,
            "small classes",
            f"{len(few)} classes have fewer than {FEWEST} videos to train on",
            "add videos, or leave these classes out of the label csvs",
            tuple(f"{names[i]}: {counts[i]}" for i in few),
        )
    largest, smallest = counts.max(), counts[counts > 0].min()
    if largest > UNBALANCED * smallest:
        yield Finding(
            NOTE,
            "class balance",
            f"the largest class has {largest / smallest:.0f} times as many videos as the smallest",
            "look at the accuracy of each class, not only at the mean over videos",
        )
    val = labelled.parts.get("val")
    if val is not None:
        absent = sorted({*range(len(train.classes))} - {*val.labels.tolist()})
        if absent:
            yield Finding(
                WARNING,
                "classes without validation",
                f"{len(absent)} classes have no validation video, so no score tells about them",
                "split anew, for example by `python -m run.labels folders`",
                tuple(str(names[i]) for i in absent),
            )


def _pictures(facts: Mapping[str, StoreFacts]) -> Iterator[Finding]:
    for kind, words in PICTURES.items():
        places = [fact.folder for fact in facts.values() if fact.picture == kind]
        if places:
            remedy = "look at the video files; " + (
                "nothing can be learnt from these: leave them out by --fix"
                if kind != "still"
                else "they show no motion: are they photographs, or did the conversion go wrong?"
            )
            text = f"{len(places):,} videos {words}"
            yield Finding(WARNING, f"{kind} videos", text, remedy, tuple(places))


def _repeats(parts: Mapping[str, Part]) -> Iterator[Finding]:
    for part in parts.values():
        seen: dict[str, int] = {}
        again, other = [], []
        for i, clip in enumerate(part.clips):
            first = seen.setdefault(clip, i)
            if first != i:
                same = part.videos.labels[first] == part.videos.labels[i]
                (again if same else other).append(f"{part.place(i)} repeats {part.place(first)}")
        if other:
            text = f"{len(other):,} {part.name} rows give a video of an earlier row another class"
            remedy = "decide for one class; --fix leaves the later rows out"
            yield Finding(WARNING, "two classes", text, remedy, tuple(other))
        if again:
            text = f"{len(again):,} {part.name} rows repeat an earlier one: used more than once"
            yield Finding(WARNING, "repeated rows", text, "delete them, or use --fix", tuple(again))
    if {"train", "val"} <= {*parts}:
        train, val = parts["train"], parts["val"]
        common, one, other = np.intersect1d(train.clips, val.clips, return_indices=True)
        if len(common):
            yield Finding(
                WARNING,
                "videos in both parts",
                f"{len(common):,} videos are in training and in validation, so its scores will be "
                "too good",
                "delete them from one of the csvs; --fix leaves them out of training",
                tuple(f"{train.place(i)}, {val.place(j)}" for i, j in zip(one, other, strict=True)),
            )


def _sources(parts: Mapping[str, Part]) -> Iterator[Finding]:
    """Say which recordings have clips in training and in validation."""
    if not {"train", "val"} <= {*parts}:
        return
    train, val = parts["train"], parts["val"]
    names = [
        str(folder).rpartition("/")[2] for part in (train, val) for folder in part.videos.folders
    ]
    numbers = source_numbers(names)
    common = np.intersect1d(numbers[: len(train.videos)], numbers[len(train.videos) :])
    clips = [*train.clips, *val.clips]
    places = []
    for number in common.tolist():
        mine = np.flatnonzero(numbers == number)
        i, j = mine[0], mine[-1]
        if clips[i] != clips[j]:  # equal ones are listed by another finding
            places.append(f"{train.place(i)}, {val.place(j - len(train.videos))}")
    if places:
        yield Finding(
            WARNING,
            "sources in both parts",
            f"{len(places):,} recordings have clips in training and in validation, so its scores "
            "will be better than on new recordings",
            "split by recording: `python -m run.labels folders` keeps them together",
            tuple(places),
        )


def groups_of_near_duplicates(parts: Iterable[Part]) -> list[list[tuple[Part, int]]]:
    """Return the groups of two or more different videos that look alike, as (part, index)."""
    prints, owners, seen = [], [], set()
    for part in parts:
        for i, fact in enumerate(part.facts):
            if fact.fingerprint is not None and fact.folder not in seen:
                seen.add(fact.folder)
                prints.append(fact.fingerprint)
                owners.append((part, i))
    if not prints:
        return []
    groups: dict[int, list[tuple[Part, int]]] = {}
    for number, owner in zip(near_duplicate_groups(np.stack(prints)), owners, strict=True):
        groups.setdefault(int(number), []).append(owner)
    return [group for group in groups.values() if len(group) > 1]


def _near_duplicates(parts: Mapping[str, Part]) -> Iterator[Finding]:
    across, classes, within = [], [], []
    for group in groups_of_near_duplicates(parts.values()):
        text = ", ".join(part.place(i) for part, i in group[:6])
        text += f" and {len(group) - 6} more" if len(group) > 6 else ""
        labels = {part.videos.classes[part.videos.labels[i]] for part, i in group}
        if len({part.name for part, _ in group}) > 1:
            across.append(text)
        elif len(labels) > 1:
            classes.append(text)
        else:
            within.append(text)
    if across:
        yield Finding(
            WARNING,
            "near-duplicates in both parts",
            f"{len(across):,} groups of videos that look alike are in training and in validation",
            "split anew so that they stay together; --fix leaves them out of training",
            tuple(across),
        )
    if classes:
        yield Finding(
            WARNING,
            "near-duplicates of two classes",
            f"{len(classes):,} groups of videos look alike but have different classes",
            "look at them: one label is probably wrong",
            tuple(classes),
        )
    if within:
        yield Finding(
            NOTE,
            "near-duplicates",
            f"{len(within):,} groups of videos of one class look alike",
            "delete all but one of each if they are copies",
            tuple(within),
        )


def _lengths(parts: Mapping[str, Part], spec: DatasetSpec) -> Iterator[Finding]:
    span = (spec.clip_length - 1) * min(spec.train_intervals) + 1
    short = {
        fact.folder: fact.n_frames
        for part in parts.values()
        for fact in part.facts
        if 0 < fact.n_frames < span
    }
    if short:
        yield Finding(
            NOTE,
            "short videos",
            f"{len(short):,} videos have fewer frames than the {span} that a clip of "
            f"{spec.clip_length} frames spans; they begin again at their first frame",
            "--short-videos hold repeats the last frame instead; --clip-length makes clips shorter",
            tuple(f"{folder}: {count} frames" for folder, count in short.items()),
        )


def _rates(facts: Mapping[str, StoreFacts]) -> Iterator[Finding]:
    known = [fact for fact in facts.values() if not fact.error]
    rates = Counter(round(fact.fps) for fact in known if fact.fps)
    lacking = [fact.folder for fact in known if not fact.fps]
    if known and len(lacking) == len(known):
        yield Finding(
            NOTE,
            "frame rates",
            "the frame stores do not say their frame rate",
            "`python -m run.convert --videos DIR --upgrade` adds it; see docs/data.md",
        )
    elif lacking:
        yield Finding(
            NOTE,
            "frame rates",
            f"{len(lacking):,} frame stores do not say their frame rate",
            "`python -m run.convert --videos DIR --upgrade` adds it; see docs/data.md",
            tuple(lacking),
        )
    if len(rates) > 1 and max(rates) > 1.2 * min(rates):
        text = ", ".join(f"{count:,} of {rate}" for rate, count in sorted(rates.items())[:8])
        yield Finding(
            NOTE,
            "frame rates differ",
            f"videos by frames per second: {text}",
            "the same frame interval spans different times; --clip-fps chooses it by the rate",
        )
