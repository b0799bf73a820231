"""Segments: rows whose times refer to seconds of one stored video, which is not cut."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.data_error import DataError
from data.store import FrameStore

THREADS = 8
TOLERANCE = 1.0  # seconds by which a segment may end after its video, since labels are rounded


def segment_problems(folders: list[Path], times: np.ndarray) -> list[str | None]:
    """Say of each segment why it cannot be used; None for those that can.

    Args:
        folders: the folder of each segment's video. Each store is opened once.
        times: float64 (N, 2), where each segment starts and ends, in seconds.
    """
    videos = list(dict.fromkeys(folders))
    with ThreadPoolExecutor(THREADS) as pool:
        # disable=None: no bar where stderr is not a terminal
        bar = tqdm(
            pool.map(_duration, videos),
            total=len(videos), desc="lengths of videos", unit="video", disable=None,
        )  # fmt: skip
        durations = dict(zip(videos, bar, strict=True))
    return [
        _problem(durations[folder], start, end)
        for folder, (start, end) in zip(folders, times.tolist(), strict=True)
    ]


def _duration(folder: Path) -> float | str:
    """Return the seconds that a video lasts, or why that is not known."""
    try:
        with FrameStore(folder) as store:
            store.check_rate()
            return store.duration
    except DataError as error:
        return str(error)


def _problem(duration: float | str, start: float, end: float) -> str | None:
    if isinstance(duration, str):
        return duration
    if end <= start:
        return f"the segment ends at {end:g} s, but begins at {start:g} s"
    if start >= duration or end > duration + TOLERANCE:
        return (
            f"the segment from {start:g} to {end:g} s lies outside of the video, which has "
            f"{duration:.1f} s"
        )
    return None


def segment_frames(times: np.ndarray, start: float, end: float) -> range:
    """Return the numbers of the frames that are shown in a part of a video, at least one.

    Args:
        times: float64 (n_frames,), when each frame is shown; see `FrameStore.times`.
        start: where the part starts, in seconds from the first frame.
        end: where it ends; a frame that is shown from then on is not in it.
    """
    tolerance = 0.01 * times[-1] / len(times)  # for the rounding of times
    first = max(0, int(np.searchsorted(times, start + tolerance, side="right")) - 1)
    stop = int(np.searchsorted(times, end - tolerance, side="left"))
    return range(first, max(first + 1, stop))
