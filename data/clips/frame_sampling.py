"""Which frames of a video make a clip: pure arithmetic on (n_frames, length, interval).

A clip of `length` frames, `interval` apart, spans ``(length - 1) * interval + 1`` frames. In
training its first frame is drawn; otherwise the clip sits in the centre, or, for multi-view
testing, its views are spread evenly from the first frame to the last.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data.data_error import DataError


def frame_indices(
    n_frames: int,
    length: int,
    interval: int | Sequence[int],
    *,
    rng: np.random.Generator | None = None,
    stretch: float = 1.0,
    start: str = "uniform",
    view: int = 0,
    views: int = 1,
    short_videos: str = "loop",
) -> np.ndarray:
    """The frames of one clip.

    Args:
        n_frames: frames of the video.
        length: frames of the clip.
        interval: distance between neighbouring frames of the clip, or a list to draw it from.
        rng: source of the random interval and first frame; without it the clip is view `view`
            of `views` and its interval the list's middle value.
        stretch: multigrid: a clip of fewer frames may span the time of a longer one, so each
            interval tau stands for all of tau, tau + 1, ..., floor(tau * stretch).
        start: "uniform", or "normal": around the centre, three standard deviations to either end.
        view, views: with one view the clip is centred, with more the first starts at the first
            frame and the last ends at the last.
        short_videos: a video too short for the smallest interval starts at its first frame and is
            played again from there ("loop"), or its last frame stands still ("hold"). Of several
            intervals only those that fit the video are drawn, as long as there is one.

    Returns:
        int64 (length,): frame numbers from 0, rising but for the wrap of "loop".

    Raises:
        DataError: a video without frames.
    """
    if n_frames < 1:
        raise DataError("a video without frames")
    step = _draw_interval(n_frames, length, interval, rng=rng, stretch=stretch)
    latest = n_frames - 1 - (length - 1) * step  # the last possible first frame
    offsets = np.arange(length, dtype=np.int64) * step
    if latest < 0:
        return offsets % n_frames if short_videos == "loop" else np.minimum(offsets, n_frames - 1)
    if rng is None:
        first = latest // 2 if views == 1 else latest * view // (views - 1)
    else:
        first = _draw_start(latest, start, rng)
    return first + offsets


def _draw_interval(
    n_frames: int,
    length: int,
    interval: int | Sequence[int],
    *,
    rng: np.random.Generator | None,
    stretch: float,
) -> int:
    """One of the intervals that fit the video, each as likely; the smallest where none fits."""
    choices = sorted([interval] if isinstance(interval, int) else interval)
    longest = (n_frames - 1) // (length - 1) if length > 1 else choices[-1]
    fitting = [choice for choice in choices if choice <= longest] or choices[:1]
    if rng is None:
        tau = min(choices[len(choices) // 2], fitting[-1])
    else:
        tau = fitting[int(rng.random() * len(fitting))]
    highest = min(int(tau * stretch), longest)
    if rng is None or highest <= tau:
        return tau
    return int(rng.integers(tau, highest + 1))


def _draw_start(latest: int, start: str, rng: np.random.Generator) -> int:
    """A first frame between 0 and `latest`."""
    if start == "normal":
        return int(np.clip(np.rint(rng.normal(latest / 2, latest / 6)), 0, latest))
    return int(rng.integers(latest + 1))
