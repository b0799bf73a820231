"""Read a frame store to its end and note what is needed to judge the video."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.annotations.near_duplicates import fingerprint, fingerprint_indices
from data.data_error import DataError
from data.store import FrameStore

CHUNK = 32  # frames that are decoded at a time
GRID = 32  # points in a row and in a column of a frame at which its changes are measured
BLACK = 20  # grey level of 255 that no point of a black video exceeds
FLAT = 4  # a frame of one colour differs by no more than this from point to point
STILL = 8  # a point of a still picture changes by no more than this over the video


@dataclass(frozen=True)
class StoreFacts:
    """What was found in one frame store.

    Attributes:
        folder: the video's folder.
        error: what is damaged, in one line; the other values are not known then.
        picture: "black", "one colour" or "still" if the video shows no more than that.
        fingerprint: see `data.annotations.near_duplicates`.
    """

    folder: str
    error: str | None = None
    n_frames: int = 0
    height: int = 0
    width: int = 0
    fps: float | None = None
    layout: int = 0
    picture: str = ""
    fingerprint: np.ndarray | None = None


def read_facts(folder: str) -> StoreFacts:
    """Read and decode every frame of a store, check it as `verify_store` does, and describe it."""
    try:
        with FrameStore(folder) as store:
            return _facts(folder, store)
    except DataError as error:
        return StoreFacts(folder, error=" ".join(str(error).split()))
    except OSError as error:
        return StoreFacts(folder, error=f"{folder}: cannot be read ({error.strerror or error})")


def _facts(folder: str, store: FrameStore) -> StoreFacts:
    first, pictures = None, {}
    wanted = fingerprint_indices(store.n_frames)
    black = flat = still = True
    shape = (0, 0)
    for start in range(0, store.n_frames, CHUNK):
        chunk = list(range(start, min(start + CHUNK, store.n_frames)))
        # Each chunk includes frame 0, to check that all frames have its size.
        frames = store.read([0, *chunk])[1:]
        for side in store.companions:
            store.read_at_least([0, *chunk], side)
        shape = frames.shape[1:3]
        points = frames[:, :: -(-shape[0] // GRID), :: -(-shape[1] // GRID)].astype(np.int16)
        first = points[0] if first is None else first
        black = black and bool(points.max() <= BLACK)
        flat = flat and bool(np.ptp(points, axis=(1, 2)).max() <= FLAT)
        still = still and bool(np.abs(points - first).max() <= STILL)
        pictures |= {index: frames[index - start] for index in wanted.tolist() if index in chunk}
    store.check_structure()
    if store.fps:
        store.times()
    picture = "black" if black else "one colour" if flat else "still" if still else ""
    return StoreFacts(
        folder,
        n_frames=store.n_frames,
        height=shape[0],
        width=shape[1],
        fps=store.fps,
        layout=store.layout,
        picture="" if store.n_frames == 1 and picture == "still" else picture,
        fingerprint=fingerprint(np.stack([pictures[index] for index in wanted.tolist()])),
    )
