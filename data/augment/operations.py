"""What can be done to frames: each an object with its parameters drawn, called as
``operation(source, target)`` on uint8 (n, H, W, 3) RGB arrays, of which it fills the second.
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
UNCHANGED = np.eye(3)
BORDER = cv2.BORDER_REFLECT_101
BILINEAR = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
NEAREST = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP


@dataclass(frozen=True)
class Warp:
    """A change of geometry, black where the frame has no pixels.

    `matrices` are 3 x 3 homographies from pixels of what comes out to pixels of what goes in, the
    last of several to be applied first; each leaves the size as it is.
    """

    matrices: tuple[np.ndarray, ...]

    def __call__(self, source: np.ndarray, target: np.ndarray) -> None:
        warper(self, target.shape[1])(source, target)

    def then(self, later: Warp) -> Warp:
        """Both in one."""
        return Warp(later.matrices + self.matrices)


@dataclass(frozen=True)
class Colour:
    """Another colour for each colour: `matrix` (3, 4) times (R, G, B, 1), clipped to 0..255."""

    matrix: np.ndarray

    def __call__(self, source: np.ndarray, target: np.ndarray) -> None:
        scale, offset = self.matrix[:, :3], self.matrix[:, 3]
        if (scale == UNCHANGED).all() and (offset % 1 == 0).all():
            cv2.add(one_row(source), (*offset, 0), dst=one_row(target))  # 4 times as fast
        else:
            cv2.transform(one_row(source), self.matrix, dst=one_row(target))

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
        for before, after in zip(source, target, strict=True):
            cv2.add(before, self.plus, dst=after)
            cv2.subtract(after, self.minus, dst=after)


@dataclass(frozen=True)
class GaussianBlur:
    """Gaussian blur: an odd kernel size and sigma, in pixels of the clip."""

    kernel: int
    sigma: float

    def __call__(self, source: np.ndarray, target: np.ndarray) -> None:
        size = (self.kernel, self.kernel)
        for before, after in zip(source, target, strict=True):
            cv2.GaussianBlur(before, size, self.sigma, dst=after, borderType=BORDER)


@dataclass(frozen=True)
class Filter:
    """Correlation with a `kernel` (k, k), in pixels of the clip, alike in every channel."""

    kernel: np.ndarray

    def __call__(self, source: np.ndarray, target: np.ndarray) -> None:
        for before, after in zip(source, target, strict=True):
            cv2.filter2D(before, -1, self.kernel, dst=after, borderType=BORDER)


@dataclass(frozen=True)
class Table:
    """A uint8 (256,) table for every value, or (256, 3) with one for each channel."""

    values: np.ndarray

    def __call__(self, source: np.ndarray, target: np.ndarray) -> None:
        cv2.LUT(one_row(source), self.values.reshape(1, 256, -1), dst=one_row(target))


@dataclass(frozen=True)
class ByImgaug:
    """An imgaug augmenter in deterministic mode."""

    augmenter: Any

    def __call__(self, source: np.ndarray, target: np.ndarray) -> None:
        for before, after in zip(source, target, strict=True):
            after[:] = self.augmenter.augment_image(before.copy())


def one_row(frames: np.ndarray) -> np.ndarray:
    """Contiguous frames' pixels as one row: OpenCV's fast loops stop short of each row's end, and
    one call costs as much for many small frames as for one.
    """
    return frames.reshape(1, -1, 3)


def warper(warp: Warp, size: int, crop: np.ndarray | None = None) -> Operation:
    """The warp for frames of `size`, in one bilinear look-up.

    Args:
        warp: the change.
        size: height and width of what comes out.
        crop: a homography from pixels of such a frame to those of a larger or smaller one, which
            the operation then takes.
    """
    # OpenCV 5 is up to twice as fast on four channels as on three, and slow at a row's odd end.
    width = -(-size // 16) * 16
    out = np.empty((size, width, 4), np.uint8)
    whole, inside = warp.matrices[0], None
    for matrix in warp.matrices[1:]:
        # What lies outside of an image between two changes is black.
        there = cv2.warpPerspective(
            np.full((size, size), 255, np.uint8), whole, flags=NEAREST, dsize=(size, size)
        )
        inside = there if inside is None else cv2.bitwise_and(inside, there)
        whole = matrix @ whole
    whole = whole if crop is None else crop @ whole
    mask = None if inside is None else cv2.cvtColor(inside, cv2.COLOR_GRAY2RGB)

    def operation(source, target):
        padded = None
        for before, after in zip(source, target, strict=True):
            padded = cv2.cvtColor(before, cv2.COLOR_RGB2RGBA, dst=padded)
            cv2.warpPerspective(padded, whole, (width, size), dst=out, flags=BILINEAR)
            cv2.cvtColor(out[:, :size], cv2.COLOR_RGBA2RGB, dst=after)
            if mask is not None:
                cv2.bitwise_and(after, mask, dst=after)

    return operation


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
