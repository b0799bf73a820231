"""When the frames of a video are shown: its frame rate, and each frame's time if that varies.

The summary of a store holds the frame rate. Where the time from one frame to the next varies, as in
many videos of phones, the table `Times` also holds the microseconds of each frame.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

HIGHEST_RATE = 1_000_000.0  # frames per second; no camera reaches it


class Rate(NamedTuple):
    """The frame rate of a video."""

    fps: float  # frames per second, on average
    varies: bool  # a frame is more than half a frame off its time at a constant rate


def measure(seconds: Sequence[float], n_frames: int) -> tuple[Rate, np.ndarray] | None:
    """Return the frame rate that follows from the frames' times, and the times.

    Args:
        seconds: the time of each frame. NaN where a file does not say it.
        n_frames: frames of the video.

    Returns:
        The rate and the microseconds from the first frame, int64 (n_frames,). None if there are
        fewer times than frames, or if they do not rise. A single frame counts as one per second.
    """
    times = np.asarray(seconds[:n_frames], np.float64)
    known = np.isfinite(times)
    if len(times) < n_frames or not known.any():
        return None
    if n_frames == 1:
        return Rate(1.0, False), np.zeros(1, np.int64)
    at = np.arange(n_frames)
    times = np.maximum.accumulate(np.interp(at, at[known], times[known]))
    times = np.rint((times - times[0]) * 1e6)
    if times[-1] <= 0:
        return None
    fps = round(float((n_frames - 1) / times[-1] * 1e6), 3)
    if not 0 < fps < HIGHEST_RATE:
        return None
    varies = bool(np.abs(times * fps / 1e6 - at).max() > 0.5)
    return Rate(fps, varies), times.astype(np.int64)


def rate_entry(rate: Rate) -> list:
    """Return what the summary says of a frame rate, with a checksum."""
    words = [rate.fps, int(rate.varies)]
    return [*words, zlib.crc32(repr(words).encode())]


def parse_rate(entry: object) -> Rate:
    """Return the frame rate that the summary says. Raises ValueError if it is damaged."""
    if isinstance(entry, list) and [type(item) for item in entry] == [float, int, int]:
        rate = Rate(entry[0], bool(entry[1]))
        if rate_entry(rate) == entry and 0 < rate.fps < HIGHEST_RATE:
            return rate
    raise ValueError("its frame rate is damaged")


def pack_times(microseconds: np.ndarray) -> tuple[bytes, int]:
    """Return the bytes of the row of `Times`, int64 in little-endian order, and their checksum."""
    content = microseconds.astype("<i8").tobytes()
    return content, zlib.crc32(content)


def unpack_times(content: object, crc32: object, n_frames: int) -> np.ndarray:
    """Return the frames' times in seconds, float64 (n_frames,), from the row of `Times`.

    Raises:
        ValueError: the row is damaged.
    """
    if not isinstance(content, bytes) or zlib.crc32(content) != crc32:
        raise ValueError("the frames' times are damaged")
    times = np.frombuffer(content, "<i8").astype(np.float64) / 1e6
    if len(times) != n_frames:
        raise ValueError(f"it has the times of {len(times)} frames")
    return times
