"""The accuracy with some of the views and crops of an evaluation, by which a protocol is chosen."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from run.evaluation.class_scores import Share, share

MOST = 12  # numbers of views that are scored


class Part(NamedTuple):
    """Some of the views and crops of each video."""

    views: int
    crops: int
    clips: list[int]  # positions among the clips of a video


class PartScore(NamedTuple):
    """The accuracy with some of the views and crops."""

    views: int
    crops: int
    top1: Share
    top5: Share


def parts_of(views: int, crops: int) -> list[Part]:
    """Return the parts of an evaluation that are scored: numbers of views, with 1 or all crops.

    A part's views are spread evenly over those of the evaluation; a single one is in the centre, as
    is a single crop. With many views, MOST numbers of views are taken.
    """
    numbers = range(1, views + 1)
    if views > MOST:
        # dense where the accuracy still rises
        numbers = sorted({round(views ** (i / (MOST - 1))) for i in range(MOST)})
    return [
        Part(
            number,
            some,
            [view * crops + crop for view in spread(views, number) for crop in spread(crops, some)],
        )
        for some in sorted({1, crops})
        for number in numbers
    ]


def spread(total: int, some: int) -> list[int]:
    """Return which of `total` things in a row are taken if `some` are, evenly spread."""
    if some == 1:
        return [total // 2]
    return [math.floor(i * (total - 1) / (some - 1) + 0.5) for i in range(some)]


def part_scores(parts: list[Part], hits: np.ndarray, videos: int) -> list[PartScore]:
    """Return the accuracy of each part.

    Args:
        parts: as `parts_of` returns them.
        hits: (parts, 2), number of videos whose label is in the top 1, and in the top 5.
        videos: number of videos.
    """
    return [
        PartScore(part.views, part.crops, share(top1, videos), share(top5, videos))
        for part, (top1, top5) in zip(parts, hits.tolist(), strict=True)
    ]
