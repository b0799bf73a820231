"""Choose which frames of a video make a clip.

A clip of `length` frames at a frame interval of `interval` spans ``(length - 1) * interval + 1``
frames of the video. Its first frame is random in training. Otherwise the clip is in the centre of
the video, or, with several views, the views are spread evenly from the first frame to the last.

With a frame rate for the clips, the interval of each video follows from its own rate and need not
be a whole number: each frame of the clip is then the one nearest to its place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from data.data_error import DataError
from data.store import FrameStore


def frame_indices(
    n_frames: int,
    length: int,
    interval: int | float | Sequence[int],
    *,
    rng: np.random.Generator | None = None,
    stretch: float = 1.0,
    start: str = "uniform",
    view: int = 0,
    views: int = 1,
    short_videos: str = "loop",
) -> np.ndarray:
    """Return the numbers of the frames of one clip.

    Args:
        n_frames: frames of the video.
        length: frames of the clip.
        interval: frames of the video from one frame of the clip to the next, or a list to draw it
            from. Intervals too long for the video are not drawn, unless all are. A float is one
            interval that need not be a whole number.
        rng: source of the random interval and first frame. Without it the clip is view `view` of
            `views`, and the interval is the middle value of the list.
        stretch: for multigrid. A clip with fewer frames may then span as much time as a longer one:
            an interval tau is replaced by a random one of tau, tau + 1, ..., floor(tau * stretch),
            or, if it is a float, a random number from tau to tau * stretch.
        start: distribution of the first frame: "uniform", or "normal" around the centre with three
            standard deviations to either end.
        view: number of the view, from 0.
        views: number of views. A single view is centred. Of several views, the first begins at the
            first frame and the last ends at the last frame.
        short_videos: what to do if even the smallest interval is too long for the video: "loop"
            begins again at the first frame, "hold" repeats the last frame.

    Returns:
        int64 (length,): frame numbers from 0, rising except where "loop" begins again.

    Raises:
        DataError: the video has no frames.
    """
    if n_frames < 1:
        raise DataError("the video has no frames")
    step = _draw_interval(n_frames, length, interval, rng=rng, stretch=stretch)
    latest = math.floor(n_frames - 1 - (length - 1) * step)  # the last possible first frame
    offsets = np.floor(np.arange(length) * step + 0.5).astype(np.int64)
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
    interval: int | float | Sequence[int],
    *,
    rng: np.random.Generator | None,
    stretch: float,
) -> int | float:
    """Draw one of the intervals that fit the video; return the smallest if none fits."""
    if isinstance(interval, float):
        longest = (n_frames - 1) / (length - 1) if length > 1 else interval
        highest = min(interval * stretch, longest)
        return interval if rng is None or highest <= interval else rng.uniform(interval, highest)
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
    """Draw a first frame between 0 and `latest`."""
    if start == "normal":
        return int(np.clip(np.rint(rng.normal(latest / 2, latest / 6)), 0, latest))
    return int(rng.integers(latest + 1))


def frames_at_rate(
    store: FrameStore, fps: float, length: int, *, span: range | None = None, **how
) -> np.ndarray:
    """Return the numbers of the frames of one clip of `fps` frames per second.

    A video whose frame rate varies is resampled to its mean rate: for each moment, the frame that
    is shown then.

    Args:
        store: the video.
        fps: frames of the clip per second of the video.
        length: frames of the clip.
        span: the frames of the video to choose from; None for all.
        **how: the other arguments of `frame_indices`.

    Raises:
        DataError: the store does not say its frame rate.
    """
    store.check_rate()
    span = span or range(store.n_frames)
    if not store.has_varying_rate:
        return span.start + frame_indices(len(span), length, store.fps / fps, **how)
    times = store.times()[span.start : span.stop] - store.times()[span.start]
    resampled = max(1, round(times[-1] * store.fps) + 1)
    indices = frame_indices(resampled, length, store.fps / fps, **how)
    tolerance = 0.01 / store.fps  # for the rounding of times
    shown = np.searchsorted(times, indices / store.fps + tolerance, side="right") - 1
    return span.start + shown
