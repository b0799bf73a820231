"""What can be done to one frame: each an object with its parameters drawn, called as
``operation(source, target)`` on uint8 (H, W, 3) RGB arrays, of which it fills the second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

Operation = Callable[[np.ndarray, np.ndarray], None]

LUMA = np.array([0.299, 0.587, 0.114])  # Pillow's weights of R, G, B
TRUNCATE = -0.5  # OpenCV rounds, Pillow and imgaug's tables truncate
BORDER = cv2.BORDER_REFLECT_101


@dataclass(frozen=True)
class Warp:
    """A change of geometry, black where the frame has no pixels.

    `matrices` are 3 x 3 homographies from pixels of what comes out to pixels of what goes in, the
    last of several to be applied first; each leaves the size as it is.
    """

    matrices: tuple[np.ndarray, ...]

    def __call__(self, source: np.ndarray, target: np.ndarray) -> None:
        remap(*fixed_point(self, len(target)), source, target)

    def then(self, later: Warp) -> Warp:
        """Both in one."""
        return Warp(later.matrices + self.matrices)


@dataclass(frozen=True)
class Colour:
    """Another colour for each colour: `matrix` (3, 4) times (R, G, B, 1), clipped to 0..255."""

    matrix: np.ndarray

    def __call__(self, source: np.ndarray, target: np.ndarray) -> None:
        cv2.transform(source, self.matrix, dst=target)

    def then(self, later: Colour) -> Colour:
        """Both in one, clipped but once."""
        matrix = later.matrix[:, :3] @ self.matrix  # (3, 4)
        matrix[:, 3] += later.matrix[:, 3]
        return Colour(matrix)

    def clips(self) -> bool:
        """Whether there is a colour that it takes out of 0..255."""
        scale, offset = self.matrix[:, :3], self.matrix[:, 3]
        lowest = np.minimum(scale, 0).sum(axis=1) * 255 + offset
        highest = np.maximum(scale, 0).sum(axis=1) * 255 + offset
        return bool((lowest < -0.5).any() or (highest > 255.5).any())


@dataclass(frozen=True)
class HueSaturation:
    """`hue` (-180 to 180, a full circle) turns the colour wheel, `saturation` (of 255) is added."""

    hue: int
    saturation: int

    def __call__(self, source: np.ndarray, target: np.ndarray) -> None:
        # With red and blue exchanged the wheel turns the other way: no hue is ever subtracted.
        backward = self.hue < 0
        to_hsv, to_rgb = (
            (cv2.COLOR_BGR2HSV, cv2.COLOR_HSV2BGR)
            if backward
            else (cv2.COLOR_RGB2HSV, cv2.COLOR_HSV2RGB)
        )
        source, target = one_row(source), one_row(target)
        cv2.cvtColor(source, to_hsv, dst=target)
        if abs(self.hue) <= 75:  # OpenCV takes a hue of 180 and more, but bytes end at 255
            cv2.add(target, (abs(self.hue), self.saturation, 0, 0), dst=target)
        else:
            values = np.arange(256)
            tables = [(values + abs(self.hue)) % 180, values + self.saturation, values]
            tables = np.clip(np.stack(tables, axis=-1), 0, 255).astype(np.uint8)
            cv2.LUT(target, tables[None], dst=target)
        cv2.cvtColor(target, to_rgb, dst=target)


@dataclass(frozen=True)
class Noise:
    """The same noise on each frame: uint8 (H, W, 3) to add, and to subtract."""

    plus: np.ndarray
    minus: np.ndarray

    def __call__(self, source: np.ndarray, target: np.ndarray) -> None:
        cv2.add(source, self.plus, dst=target)
        cv2.subtract(target, self.minus, dst=target)


@dataclass(frozen=True)
class GaussianBlur:
    """Gaussian blur: an odd kernel size and sigma, in pixels of the clip."""

    kernel: int
    sigma: float

    def __call__(self, source: np.ndarray, target: np.ndarray) -> None:
        size = (self.kernel, self.kernel)
        cv2.GaussianBlur(source, size, self.sigma, dst=target, borderType=BORDER)


@dataclass(frozen=True)
class Filter:
    """Correlation with a `kernel` (k, k), in pixels of the clip, alike in every channel."""

    kernel: np.ndarray

    def __call__(self, source: np.ndarray, target: np.ndarray) -> None:
        cv2.filter2D(source, -1, self.kernel, dst=target, borderType=BORDER)


@dataclass(frozen=True)
class Table:
    """A uint8 (256,) table for every value, or (256, 3) with one for each channel."""

    values: np.ndarray

    def __call__(self, source: np.ndarray, target: np.ndarray) -> None:
        cv2.LUT(source, self.values.reshape(1, 256, -1), dst=target)


@dataclass(frozen=True)
class ByImgaug:
    """An imgaug augmenter in deterministic mode."""

    augmenter: Any

    def __call__(self, source: np.ndarray, target: np.ndarray) -> None:
        target[:] = self.augmenter.augment_image(source.copy())


def one_row(frame: np.ndarray) -> np.ndarray:
    """A contiguous frame's pixels as one row: OpenCV's fast loops stop short of each row's end."""
    return frame.reshape(1, -1, 3)


def fixed_point(warp: Warp, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The warp's maps for `remap`, made once for a clip: int16 (size, size, 2) whole source
    pixels and uint16 (size, size) 1/32 fractions.
    """
    x, y = np.arange(size, dtype=np.float32), np.arange(size, dtype=np.float32)[:, None]
    outside = None
    for position, matrix in enumerate(warp.matrices):
        m = matrix.astype(np.float32)
        if position:  # what lies outside of an image between two changes is black
            beyond = (x <= -1) | (x >= size) | (y <= -1) | (y >= size)
            outside = beyond if outside is None else outside | beyond
        w = m[2, 0] * x + m[2, 1] * y + m[2, 2] if m[2, :2].any() else m[2, 2]
        x, y = (
            (m[0, 0] * x + m[0, 1] * y + m[0, 2]) / w,
            (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / w,
        )
    x, y = (np.array(np.broadcast_to(v, (size, size))) for v in (x, y))
    if outside is not None:
        x[outside] = -size
    return cv2.convertMaps(x, y, cv2.CV_16SC2)


def remap(pixels: np.ndarray, fractions: np.ndarray, source: np.ndarray, target: np.ndarray):
    """Bilinear look-up of `fixed_point`'s maps in a frame; black outside of it."""
    cv2.remap(source, pixels, fractions, cv2.INTER_LINEAR, dst=target)


def rotation(degrees: float, size: float) -> np.ndarray:
    """The homography, out to in, that turns a square of `size` pixels about its centre."""
    radians = np.deg2rad(degrees)
    cos, sin, centre = np.cos(radians), np.sin(radians), (size - 1) / 2
    turn = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    turn[:2, 2] = centre - turn[:2, :2] @ (centre, centre)
    return turn


def motion_kernel(size: int, degrees: float, direction: float) -> np.ndarray:
    """A line through an odd (size, size) kernel, turned by `degrees`; its weights rise or fall
    along it as `direction`, -1 to 1, says. Float32, sum 1.
    """
    line = np.zeros((size, size), np.float32)
    start = (np.clip(direction, -1, 1) + 1) / 2
    line[:, size // 2] = np.linspace(start, 1 - start, size) * 255
    turn = rotation(degrees, size)[:2]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    kernel = cv2.warpAffine(line.astype(np.uint8), turn, (size, size), flags=flags)
    return kernel.astype(np.float32) / max(1, kernel.sum())
