"""How a clip looks: one draw a clip, applied alike to each of its frames."""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

import cv2
import numpy as np

from data.crops import Crop
from data.recipes import import_imgaug, load_recipe


class Program(Protocol):
    """What is to be done to every frame of one clip."""

    def render(self, frames: np.ndarray, crop: Crop, size: int) -> np.ndarray:
        """uint8 (T, h, w, 3) frames -> the crop of them, augmented, as uint8 (T, size, size, 3)."""


class Augmentation(Protocol):
    """Something to draw programs from."""

    def draw(self, rng: np.random.Generator, size: int) -> Program:
        """The program of one clip of `size` x `size` pixels."""


def resize_crop(frames: np.ndarray, crop: Crop, size: int) -> np.ndarray:
    """The crop of each frame, bilinearly resampled: uint8 (T, size, size, 3)."""
    left, top, side = crop.window(*frames.shape[1:3])
    clip = np.empty((len(frames), size, size, 3), np.uint8)
    for frame, out in zip(frames, clip, strict=True):
        cv2.resize(frame[top : top + side, left : left + side], (size, size), dst=out)
        if crop.flip:
            cv2.flip(out, 1, dst=out)
    return clip


class ImgaugProgram:
    """An imgaug augmenter in deterministic mode, run on frame after frame."""

    def __init__(self, pipeline: Any, rng: np.random.Generator):
        seeded = pipeline.deepcopy()
        seeded.seed_(entropy=int(rng.integers(2**31)))
        self.pipeline = seeded.to_deterministic()

    def render(self, frames: np.ndarray, crop: Crop, size: int) -> np.ndarray:
        clip = resize_crop(frames, crop, size)
        for i, frame in enumerate(clip):
            clip[i] = self.pipeline.augment_image(frame)
        return clip


class ImgaugAugmentation:
    """A pipeline run by imgaug itself: the reference."""

    def __init__(self, pipeline: Any):
        import_imgaug()
        self.pipeline = pipeline

    def draw(self, rng: np.random.Generator, size: int) -> Program:
        return ImgaugProgram(self.pipeline, rng)


class PlainProgram:
    """Crop and resize, no more."""

    def render(self, frames: np.ndarray, crop: Crop, size: int) -> np.ndarray:
        return resize_crop(frames, crop, size)


@cache
def load_augmentation(name: str) -> Augmentation:
    """What `--augmentation name` means, once a process: pipelines need not survive pickling.

    Raises:
        DataError: there is no such recipe, or the file is none.
    """
    return ImgaugAugmentation(load_recipe(name))
