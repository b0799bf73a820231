"""One JPEG: is it whole, how large is it, its pixels, a smaller copy of it."""

from __future__ import annotations

import cv2
import numpy as np
import simplejpeg

START, END = b"\xff\xd8", b"\xff\xd9"


class BadJpeg(ValueError):
    """Bytes that are not one whole JPEG. The message says what is wrong, not where."""


def check_jpeg(jpeg: bytes) -> tuple[int, int]:
    """Height and width of a JPEG whose start, header and end marker are there, else BadJpeg."""
    if not jpeg.startswith(START):
        raise BadJpeg("is not a JPEG")
    # A decoder fills the rest of a truncated image with grey, or with an earlier image.
    if not (jpeg.endswith(END) or jpeg.rstrip(b"\0").endswith(END)):
        raise BadJpeg("is a truncated JPEG")
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(jpeg)
    except ValueError as error:
        raise BadJpeg(f"has a broken JPEG header ({error})") from error
    return height, width


def decode_jpegs(jpegs: list[bytes], short_side: int = 0) -> np.ndarray:
    """Pixels of equally large JPEGs: uint8 (len(jpegs), H, W, 3) RGB.

    Args:
        jpegs: whole JPEGs, at least one.
        short_side: where above 0, decode at 1/2, 3/8, 1/4 or 1/8 of the size if min(H, W) is still
            at least this many pixels then. A decoder scales far cheaper than it decodes.

    Raises:
        BadJpegAt: one cannot be decoded, or its size is not that of the first.
    """
    scale = {"min_height": short_side, "min_width": short_side, "min_factor": 2}
    scale = scale if short_side > 0 else {}
    frames = size = None
    for position, jpeg in enumerate(jpegs):
        try:
            height, width = check_jpeg(jpeg)
            if frames is None:
                size = height, width
                shape = simplejpeg.decode_jpeg_header(jpeg, **scale)[:2]
                frames = np.empty((len(jpegs), *shape, 3), np.uint8)
            if (height, width) != size:
                raise BadJpeg(f"is {width}x{height}, other frames are {size[1]}x{size[0]}")
            simplejpeg.decode_jpeg(jpeg, buffer=frames[position], **scale)
        except BadJpeg as error:
            raise BadJpegAt(position, str(error)) from error
        except ValueError as error:
            raise BadJpegAt(position, f"cannot be decoded ({error})") from error
    return frames


class BadJpegAt(BadJpeg):
    """`BadJpeg` of one among several: `position` counts from 0."""

    def __init__(self, position: int, reason: str):
        super().__init__(reason)
        self.position = position


def shrink_jpeg(jpeg: bytes, short_side: int, *, quality: int = 90) -> bytes:
    """A copy of a larger JPEG whose shorter side is `short_side` pixels."""
    height, width = check_jpeg(jpeg)
    ratio = short_side / min(height, width)
    size = (round(width * ratio), round(height * ratio))
    try:
        pixels = decode_jpegs([jpeg], short_side)[0]
    except BadJpegAt as error:
        raise BadJpeg(str(error)) from error
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return simplejpeg.encode_jpeg(small, quality=quality, colorsubsampling="420")
