"""Tell from a video's name which recording it was cut from.

Clips of one recording look alike. If some are in training and others in validation, the scores are
better than they would be on new recordings.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

#: UCF-101's `v_Archery_g08_c01`: group 8 of the class, clip 1.
GROUP_AND_CLIP = re.compile(r"(?P<source>.*_g\d+)_c\d+")
#: `<YouTube id>_<start>_<end>`, with the seconds: clips of Kinetics, HACS and ActivityNet.
ID_AND_SECONDS = re.compile(r"(?P<source>[\w-]{11})_\d{1,6}(\.\d+)?_\d{1,6}(\.\d+)?")


def source_of(name: str, pattern: re.Pattern[str] | None = None) -> str | None:
    """Return what the clips of one recording have in common in their names; None if unknown.

    Args:
        name: the video's id, the name of its folder.
        pattern: a regular expression to search for instead, such as `person(\\d+)`. Its first group
            is the source, or the whole match if it has no group.
    """
    if pattern is not None:
        found = pattern.search(name)
        return found.group(1 if pattern.groups else 0) if found else None
    for known in (GROUP_AND_CLIP, ID_AND_SECONDS):
        found = known.fullmatch(name)
        if found:
            return found["source"]
    return None


def source_numbers(names: Sequence[str], pattern: re.Pattern[str] | None = None) -> np.ndarray:
    """Return a number for each name, int64 (N,), equal for names of one source.

    A name without a known source has a number of its own.
    """
    numbers: dict[object, int] = {}
    return np.array(
        [
            numbers.setdefault((name,) if source is None else source, len(numbers))
            for name in names
            for source in [source_of(name, pattern)]
        ],
        np.int64,
    )
