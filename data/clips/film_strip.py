"""Film strips: frames of a clip, evenly spread, as arrays or as small JPEGs."""

from __future__ import annotations

import cv2
import numpy as np
import simplejpeg
from torch import Tensor

SIDE = 96  # pixels: height of a small JPEG
QUALITY = 70


def frames_of(clip: Tensor) -> np.ndarray:
    """Return the frames of a clip, uint8 (3, T, H, W), as uint8 (T, H, W, 3)."""
    return clip.permute(1, 2, 3, 0).cpu().numpy()


def spread(frames: int, columns: int) -> list[int]:
    """Return which frames a strip shows: evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, frames - 1, min(frames, columns)).round().astype(int)).tolist()


def film_strip(frames: np.ndarray, columns: int) -> list[bytes]:
    """Return up to `columns` of the frames, uint8 (T, H, W, 3), as JPEGs."""
    return [small_jpeg(frames[t]) for t in spread(len(frames), columns)]


def small_jpeg(frame: np.ndarray) -> bytes:
    """Return a JPEG of a frame, uint8 (H, W, 3), SIDE pixels high."""
    height, width = frame.shape[:2]
    method = cv2.INTER_AREA if height > SIDE else cv2.INTER_LINEAR
    small = cv2.resize(frame, (max(1, round(width * SIDE / height)), SIDE), interpolation=method)
    return simplejpeg.encode_jpeg(np.ascontiguousarray(small), quality=QUALITY)
