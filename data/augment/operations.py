"""The operations that change frames, such as blur, noise and warps.

An operation is an object whose random parameters have been drawn. It is called as
``operation(source, target)`` with two uint8 (n, H, W, 3) RGB arrays and writes its result into the
second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

Operation = Callable[[np.ndarray, np.ndarray], None]

LUMA = np.array([0.299, 0.587, 0.114])  # Pillow's weights of R, G, B in grey
TRUNCATE = -0.5  # added where Pillow or imgaug truncates, since OpenCV rounds
UNCHANGED = np.eye(3)
BORDER = cv2.BORDER_REFLECT_101
BILINEAR = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
NEAREST = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP


@dataclass(frozen=True)
class Warp:
    """A change of geometry that keeps the frame's size and fills with black.

    `matrices` are 3 x 3 homographies from output pixels to input pixels. If there are several,
    the last one is applied to the frame first.
    """

    matrices: tuple[np.ndarray, ...]

    def __call__(self, source: np.ndarray, target: np.ndarray) -> None:
        warp_operation(self, target.shape[1])(source, target)

    def then(self, later: Warp) -> Warp:
        """Return this warp followed by another as one warp."""
        return Warp(later.matrices + self.matrices)


@dataclass(frozen=True)
class ColourMatrix:
    """Replace each colour by `matrix` (3, 4) times (R, G, B, 1), clipped to 0..255."""

    matrix: np.ndarray

    def __call__(self, source: np.ndarray, target: np.ndarray) -> None:
        scale, offset = self.matrix[:, :3], self.matrix[:, 3]
        if (scale == UNCHANGED).all() and (offset % 1 == 0).all():
            cv2.add(as_one_row(source), (*offset, 0), dst=as_one_row(target))  # 4 times faster
        else:
            cv2.transform(as_one_row(source), self.matrix, dst=as_one_row(target))

    def then(self, later: ColourMatrix) -> ColourMatrix:
        """Return this change followed by another as one, which clips only at the end."""
        matrix = later.matrix[:, :3] @ self.matrix  # (3, 4)
        matrix[:, 3] += later.matrix[:, 3]
        return ColourMatrix(matrix)

    def clips(self) -> bool:
        """Return whether some colour would leave 0..255 and be clipped."""
        scale, offset = self.matrix[:, :3], self.matrix[:, 3]
        lowest = np.minimum(scale, 0).sum(axis=1) * 255 + offset
        highest = np.maximum(scale, 0).sum(axis=1) * 255 + offset
        return bool((lowest < -0.5).any() or (highest > 255.5).any())


@dataclass(frozen=True)
class HueSaturation:
    """Add to each pixel's hue and saturation.

    The addends are -180 to 180 for the hue, whose full circle is 180 as in OpenCV, and -255 to 255
    for the saturation.
    """

    hue: int
    saturation: int

    def __call__(self, source: np.ndarray, target: np.ndarray) -> None:
        # With red and blue exchanged, hues run the other way: a negative hue becomes an addition.
        backward = self.hue < 0
        to_hsv, to_rgb = (
            (cv2.COLOR_BGR2HSV, cv2.COLOR_HSV2BGR)
            if backward
            else (cv2.COLOR_RGB2HSV, cv2.COLOR_HSV2RGB)
        )
        source, target = as_one_row(source), as_one_row(target)
        cv2.cvtColor(source, to_hsv, dst=target)
        if abs(self.hue) <= 75:  # OpenCV accepts hues above 180, but a byte ends at 255
            cv2.add(target, (abs(self.hue), self.saturation, 0, 0), dst=target)
        else:
            values = np.arange(256)
            tables = [(values + abs(self.hue)) % 180, values + self.saturation, values]
            tables = np.clip(np.stack(tables, axis=-1), 0, 255).astype(np.uint8)
            cv2.LUT(target, tables[None], dst=target)
        cv2.cvtColor(target, to_rgb, dst=target)


@dataclass(frozen=True)
class Noise:
    """Add the same noise to each frame: `plus` is added, `minus` subtracted; uint8 (H, W, 3)."""

    plus: np.ndarray
    minus: np.ndarray

    def __call__(self, source: np.ndarray, target: np.ndarray) -> None:
        for before, after in zip(source, target, strict=True):
            cv2.add(before, self.plus, dst=after)
            cv2.subtract(after, self.minus, dst=after)


@dataclass(frozen=True)
class GaussianBlur:
    """Blur by a Gaussian of an odd kernel size and a sigma, both in pixels of the clip."""

    kernel: int
    sigma: float

    def __call__(self, source: np.ndarray, target: np.ndarray) -> None:
        size = (self.kernel, self.kernel)
        for before, after in zip(source, target, strict=True):
            cv2.GaussianBlur(before, size, self.sigma, dst=after, borderType=BORDER)


@dataclass(frozen=True)
class KernelFilter:
    """Correlate every channel with a `kernel`, float32 (k, k)."""

    kernel: np.ndarray

    def __call__(self, source: np.ndarray, target: np.ndarray) -> None:
        for before, after in zip(source, target, strict=True):
            cv2.filter2D(before, -1, self.kernel, dst=after, borderType=BORDER)


@dataclass(frozen=True)
class LookupTable:
    """Replace each value by its entry in a table, uint8 (256,), or (256, 3) for R, G and B."""

    values: np.ndarray

    def __call__(self, source: np.ndarray, target: np.ndarray) -> None:
        cv2.LUT(as_one_row(source), self.values.reshape(1, 256, -1), dst=as_one_row(target))


@dataclass(frozen=True)
class RunImgaug:
    """Run an imgaug augmenter in deterministic mode, frame by frame."""

    augmenter: Any

    def __call__(self, source: np.ndarray, target: np.ndarray) -> None:
        for before, after in zip(source, target, strict=True):
            after[:] = self.augmenter.augment_image(before.copy())


def as_one_row(frames: np.ndarray) -> np.ndarray:
    """Return contiguous frames as one row of pixels, (1, n * H * W, 3).

    This is faster: OpenCV uses slower code at the end of each row, and each call has a fixed cost.
    """
    return frames.reshape(1, -1, 3)


def warp_operation(warp: Warp, size: int, crop: np.ndarray | None = None) -> Operation:
    """Return the operation that warps frames, with a single bilinear interpolation.

    Args:
        warp: the change.
        size: height and width of the result in pixels.
        crop: the homography from pixels of a `size` x `size` frame to pixels of the frames that
            the operation is given; None if those are `size` x `size` already.
    """
    # OpenCV 5 is up to twice as fast on four channels as on three, and slow at the end of a row
    # whose length is not a multiple of 16.
    width = -(-size // 16) * 16
    out = np.empty((size, width, 4), np.uint8)
    combined, inside = warp.matrices[0], None
    for matrix in warp.matrices[1:]:
        # What a warp moves out of the frame is lost, so it stays black in the warps after it.
        visible = cv2.warpPerspective(
            np.full((size, size), 255, np.uint8), combined, flags=NEAREST, dsize=(size, size)
        )
        inside = visible if inside is None else cv2.bitwise_and(inside, visible)
        combined = matrix @ combined
    combined = combined if crop is None else crop @ combined
    mask = None if inside is None else cv2.cvtColor(inside, cv2.COLOR_GRAY2RGB)

    def operation(source, target):
        padded = None
        for before, after in zip(source, target, strict=True):
            padded = cv2.cvtColor(before, cv2.COLOR_RGB2RGBA, dst=padded)
            cv2.warpPerspective(padded, combined, (width, size), dst=out, flags=BILINEAR)
            cv2.cvtColor(out[:, :size], cv2.COLOR_RGBA2RGB, dst=after)
            if mask is not None:
                cv2.bitwise_and(after, mask, dst=after)

    return operation


def rotation(degrees: float, size: float) -> np.ndarray:
    """Return the homography, from output to input pixels, that rotates a square about its centre.

    Args:
        degrees: the angle, clockwise.
        size: the square's side in pixels.
    """
    radians = np.deg2rad(degrees)
    cos, sin, centre = np.cos(radians), np.sin(radians), (size - 1) / 2
    matrix = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    matrix[:2, 2] = centre - matrix[:2, :2] @ (centre, centre)
    return matrix


def motion_kernel(size: int, degrees: float, direction: float) -> np.ndarray:
    """Return the kernel of a motion blur, float32 (size, size), sum 1.

    Args:
        size: the kernel's side in pixels, odd.
        degrees: the angle of the motion; at 0 it is vertical.
        direction: -1 to 1; how strongly the weights fall or rise along the line of motion.
    """
    line = np.zeros((size, size), np.float32)
    start = (np.clip(direction, -1, 1) + 1) / 2
    line[:, size // 2] = np.linspace(start, 1 - start, size) * 255
    matrix = rotation(degrees, size)[:2]
    kernel = cv2.warpAffine(line.astype(np.uint8), matrix, (size, size), flags=BILINEAR)
    return kernel.astype(np.float32) / max(1, kernel.sum())
