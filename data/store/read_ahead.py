"""Where frames lie in a store's file, so that the kernel can fetch all of a clip's at once.

A store's pages are written in the frames' order, so a frame's place follows from how many bytes
are in the frames before it. What is told the kernel is a hint: a wrong one costs time, no more.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

import numpy as np

KNOTS = 64  # pieces of a video for which the bytes before them are remembered
UNIT = 10_000  # of which those bytes are given as a share
MARGIN = 4096  # bytes by which a frame may lie elsewhere
MOST = 2**20  # bytes that are fetched for a clip. Of more, too many would be for nothing


def knots(sizes: Sequence[int]) -> list[int]:
    """For frames of these sizes: share of the bytes, in UNIT, before each of KNOTS pieces' ends."""
    before = np.concatenate([[0], np.cumsum(sizes)])
    places = np.linspace(0, len(sizes), min(KNOTS, len(sizes)) + 1)
    at = np.interp(places, np.arange(len(before)), before)
    return np.rint(at / before[-1] * UNIT).astype(int).tolist()


def extent(
    frames: range, n_frames: int, shares: Sequence[int], place: tuple[int, int]
) -> tuple[int, int]:
    """Where a range of frames lies: first byte, number of bytes.

    Args:
        frames: from 0. Those that a clip leaves out come along: one request is as fast as many.
        n_frames: how many there are in all.
        shares: what `knots` returned.
        place: first byte of all the frames, and the byte behind them.
    """
    start, stop = place
    scale, unit = (len(shares) - 1) / n_frames, (stop - start) / UNIT

    def byte(frame: int) -> int:
        # NumPy would take longer for two numbers.
        whole = min(int(frame * scale), len(shares) - 2)
        step = shares[whole + 1] - shares[whole]
        return start + int((shares[whole] + step * (frame * scale - whole)) * unit)

    first = max(byte(frames.start) - MARGIN, 0)
    return first, byte(frames.stop) + MARGIN - first


def fetch(file: int, first: int, length: int) -> None:
    """Have the kernel read a part of an open file, without waiting for it."""
    if hasattr(os, "posix_fadvise") and length <= MOST:
        with contextlib.suppress(OSError):  # a pipe, say, which the reader refuses in its own words
            os.posix_fadvise(file, first, length, os.POSIX_FADV_WILLNEED)
