"""Find videos that show the same pictures, also after they were encoded or resized anew.

A video's fingerprint is FRAMES small grey pictures of frames that are spread over it evenly. Two
videos are near-duplicates if each of these differs by a few grey levels only.
"""

from __future__ import annotations

import cv2
import numpy as np

FRAMES, ROWS, COLUMNS = 5, 8, 9  # of a fingerprint
SAME = 3.0  # grey levels of 255 by which near-duplicates differ at most, on average of a picture
FLAT = 6.0  # standard deviation below which a fingerprint tells nothing
CHUNK = 1 << 16  # pairs that are compared at a time


def fingerprint_indices(n_frames: int) -> np.ndarray:
    """Return the numbers of the frames that make the fingerprint, int64 (FRAMES,)."""
    return ((np.arange(FRAMES) * 2 + 1) * n_frames // (2 * FRAMES)).astype(np.int64)


def fingerprint(frames: np.ndarray) -> np.ndarray:
    """Return a video's fingerprint, uint8 (FRAMES, ROWS, COLUMNS).

    Args:
        frames: uint8 (FRAMES, H, W, 3) RGB, the frames at `fingerprint_indices`.
    """
    small = [
        cv2.cvtColor(
            cv2.resize(frame, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY
        )
        for frame in frames
    ]
    return np.stack(small)


def near_duplicate_groups(fingerprints: np.ndarray) -> np.ndarray:
    """Return a number for each video, int64 (N,), equal for videos that are near-duplicates.

    A video that is like no other has a number of its own. So have videos of one colour, which are
    not compared, since any two of them would be alike.

    Args:
        fingerprints: uint8 (N, FRAMES, ROWS, COLUMNS).
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    groups = np.arange(len(fingerprints))
    tells = np.flatnonzero(fingerprints.std((1, 2, 3)) > FLAT)
    if not len(tells):
        return groups
    # Compare equal fingerprints only once: a thousand copies would make a million pairs.
    pictures, which = np.unique(fingerprints[tells], axis=0, return_inverse=True)
    one, other = _alike(pictures)
    graph = coo_array((np.ones(len(one)), (one, other)), (len(pictures), len(pictures)))
    _, parts = connected_components(graph, directed=False)
    parts = parts[which.reshape(-1)]
    _, first = np.unique(parts, return_index=True)
    groups[tells] = tells[first[parts]]
    return groups


def _alike(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the first and second fingerprint of each pair that is alike."""
    from scipy.spatial import cKDTree

    # Find the pairs that may be alike by the videos' mean pictures, at a third of the size.
    means = pictures.mean(1).astype(np.float32)
    coarse = np.stack([cv2.resize(mean, (3, 4), interpolation=cv2.INTER_AREA) for mean in means])
    tree = cKDTree(coarse.reshape(len(coarse), -1))
    pairs = tree.query_pairs(SAME, p=np.inf, output_type="ndarray")
    keep = np.zeros(len(pairs), bool)
    for start in range(0, len(pairs), CHUNK):
        one, other = pairs[start : start + CHUNK].T
        difference = np.abs(pictures[one].astype(np.int16) - pictures[other])
        keep[start : start + CHUNK] = difference.mean((2, 3)).max(1) <= SAME
    return pairs[keep, 0], pairs[keep, 1]
