"""Configurations to compare: each is one or several runs, all evaluated on the same videos."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.annotations.dataset_fingerprint import UNKNOWN
from data.data_error import DataError
from run.comparing.evaluations import Result, find_evaluations, read_result

log = logging.getLogger(__name__)

CONTENT = {"frames": "numbers of frames", "pictures": "first frames"}  # parts of a fingerprint


@dataclass(frozen=True)
class Configuration:
    """The runs of one configuration."""

    name: str
    hits: np.ndarray  # bool (runs, videos), whether each video's likeliest class is its label

    @property
    def mean_hits(self) -> np.ndarray:
        """For each video, the share of the runs that recognise it: float64 (videos,)."""
        return self.hits.mean(0)


@dataclass(frozen=True)
class Compared:
    """Configurations that were evaluated alike."""

    configurations: list[Configuration]
    labels: np.ndarray  # int64 (videos,)
    classes: list[str]
    protocol: dict[str, Any]  # of the first evaluation
    dataset: str
    unlike: str  # how the protocols differ; empty if they do not


def read_configurations(
    given: Sequence[Path], groups: Sequence[Sequence[str]], *, unlike_protocols: bool = False
) -> Compared:
    """Read the evaluations to compare.

    Args:
        given: a folder for each configuration, see `find_evaluations`.
        groups: further configurations: a name, and the folders of their runs.
        unlike_protocols: accept protocols that differ.

    Raises:
        DataError: an evaluation cannot be read, or they are not about the same videos or protocol.
    """
    folders = [find_evaluations(path) for path in given]
    names = short_names([found[0] for found in folders])
    for name, *words in groups:
        names.append(name)
        folders.append([one for word in words for one in find_evaluations(Path(word))])
    if len(names) < 2:
        raise DataError("give at least two configurations to compare")
    every = [folder.resolve() for found in folders for folder in found]
    twice = next((folder for folder in every if every.count(folder) > 1), None)
    if twice:
        raise DataError(f"{twice}: is given twice")
    if len(set(names)) < len(names):
        raise DataError(f"two configurations have one name: {', '.join(sorted(names))}")
    results = [[read_result(folder) for folder in found] for found in folders]
    first, *others = [result for group in results for result in group]
    unlike = ""
    for other in others:
        _check_data(first, other)
        difference = protocol_difference(first.card["protocol"], other.card["protocol"])
        if difference and not unlike_protocols:
            raise DataError(
                f"{other.folder} and {first.folder} have unlike protocols: {difference}; evaluate "
                "them alike, or compare them all the same by --unlike-protocols"
            )
        unlike = unlike or difference
    order = first.predictions.videos
    classes = sorted(set(first.predictions.labels))
    numbers = {name: number for number, name in enumerate(classes)}
    return Compared(
        [
            Configuration(name, np.array([_hits(result, order) for result in group]))
            for name, group in zip(names, results, strict=True)
        ],
        np.array([numbers[label] for label in first.predictions.labels]),
        classes,
        first.card["protocol"],
        str(first.card["data"].get("name", "")),
        unlike,
    )


def _hits(result: Result, order: Sequence[str]) -> list[bool]:
    """Return whether each video is recognised, in the given order of the videos."""
    found = dict(zip(result.predictions.videos, result.predictions.hits.tolist(), strict=True))
    return [found[video] for video in order]


def _check_data(first: Result, other: Result) -> None:
    """Raise DataError unless two evaluations have scored the same videos with the same labels."""
    both = f"{other.folder} and {first.folder}"
    labels, theirs = (
        dict(zip(one.predictions.videos, one.predictions.labels, strict=True))
        for one in (first, other)
    )
    only = sorted(labels.keys() ^ theirs.keys())
    if only:
        where = first.folder if only[0] in labels else other.folder
        raise DataError(
            f"{both} have scored other videos: {len(only)} are in one of them only, such as "
            f"{only[0]}, which is in {where}"
        )
    wrong = next((video for video in labels if labels[video] != theirs[video]), None)
    if wrong:
        raise DataError(
            f"{both} have other labels: {wrong} is {labels[wrong]} in {first.folder}, "
            f"{theirs[wrong]} in {other.folder}"
        )
    ours, others = (one.card["data"].get("fingerprint") or {} for one in (first, other))
    for part, what in CONTENT.items():
        now, then = ours.get(part, UNKNOWN), others.get(part, UNKNOWN)
        if now != then and UNKNOWN not in (now, then):
            raise DataError(
                f"{both} have scored other videos under the same names (their {what} differ)"
            )


def protocol_difference(first: dict[str, Any], other: dict[str, Any]) -> str:
    """Return in words how two protocols differ; empty if they do not."""
    return ", ".join(
        f"{name.replace('_', ' ')} {_said(other.get(name))} and {_said(first.get(name))}"
        for name in sorted(first.keys() | other.keys())
        if first.get(name) != other.get(name)
    )


def _said(value: object) -> str:
    return "not set" if value is None else str(value)


def short_names(folders: Sequence[Path]) -> list[str]:
    """Return a short name for each evaluation: the parts of its path by which they differ.

    The results folder comes first; if two evaluations lie in one, their own names follow.
    """
    paths = [folder.absolute() for folder in folders]
    runs = [path.parent.parent if path.parent.name == "evaluation" else path for path in paths]
    chosen = runs if len(set(runs)) == len(runs) else paths
    for count in range(1, max((len(path.parts) for path in chosen), default=0)):
        names = ["/".join(path.parts[-count:]) for path in chosen]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]
