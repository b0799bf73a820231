"""Ask the kernel to fetch all the frames of a clip from the disk in one request.

A store's frames are written in order, so a frame's place in the file follows from the number of
bytes in the frames before it. The summary of a store keeps that number for the ends of up to 64
segments of the video, and places in between are interpolated. The request is only a hint to the
kernel: a wrong place costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

import numpy as np

SEGMENTS = 64  # into which a video is divided
WHOLE = 10_000  # the unit of shares: all bytes of the frames
MARGIN = 4096  # bytes by which a frame may lie beside the computed place
LARGEST_REQUEST = 2**20  # bytes; larger ranges contain too many frames that are not needed


def byte_shares(sizes: Sequence[int]) -> list[int]:
    """Return the share of all bytes, in 1/WHOLE, that lies before the end of each segment.

    Args:
        sizes: bytes of each frame.

    Returns:
        SEGMENTS + 1 rising numbers, or fewer for fewer frames; the first is 0, the last is WHOLE.
    """
    before = np.concatenate([[0], np.cumsum(sizes)])
    ends = np.linspace(0, len(sizes), min(SEGMENTS, len(sizes)) + 1)
    bytes_before = np.interp(ends, np.arange(len(before)), before)
    return np.rint(bytes_before / before[-1] * WHOLE).astype(int).tolist()


def byte_range(
    frames: range, n_frames: int, shares: Sequence[int], place: tuple[int, int]
) -> tuple[int, int]:
    """Return where consecutive frames lie in the file, as the first byte and the number of bytes.

    Args:
        frames: frame numbers from 0. A clip that leaves out every second frame asks for the whole
            range all the same, since one request is faster than many.
        n_frames: number of frames of the video.
        shares: the result of `byte_shares`.
        place: the first byte of all the frames, and the byte after the last one.
    """
    start, stop = place
    scale, unit = (len(shares) - 1) / n_frames, (stop - start) / WHOLE

    def first_byte(frame: int) -> int:
        # Plain arithmetic, as NumPy would take longer for two numbers.
        segment = min(int(frame * scale), len(shares) - 2)
        length = shares[segment + 1] - shares[segment]
        return start + int((shares[segment] + length * (frame * scale - segment)) * unit)

    first = max(first_byte(frames.start) - MARGIN, 0)
    return first, first_byte(frames.stop) + MARGIN - first


def prefetch(file: int, first: int, length: int) -> None:
    """Ask the kernel to read a part of an open file, without waiting for it."""
    if hasattr(os, "posix_fadvise") and length <= LARGEST_REQUEST:
        with contextlib.suppress(OSError):  # of a pipe, say; reading it raises a better error
            os.posix_fadvise(file, first, length, os.POSIX_FADV_WILLNEED)
