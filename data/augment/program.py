"""Everything that is done to one clip's frames: the crop, then the augmentation.

The random parameters are drawn once for a clip, so that every frame is changed in the same way. The
crop is resampled to the clip's final size first and the augmentation runs at that size. A blur's
kernel or a shift is therefore in pixels of the clip as the network sees it.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

import cv2
import numpy as np

from data.augment.crop import Crop, Window
from data.augment.imgaug_compiler import DrawOperations, compile_pipeline
from data.augment.operations import ColourMatrix, Operation, RunImgaug, Warp, warp_operation
from data.augment.presets import load_pipeline

GROUP_BYTES = 2**18  # frames are processed in groups that fit into the cache of a core


class Augmentation(Protocol):
    """Anything that draws random programs for clips."""

    def draw(self, rng: np.random.Generator, size: int) -> Program:
        """Draw the program of one clip of `size` x `size` pixels."""


class Program:
    """The crop and the operations of one clip, merged where possible; see `merge_neighbours`."""

    def __init__(self, operations: list[Operation]):
        self.operations = merge_neighbours(operations)

    def render(self, frames: np.ndarray, crop: Crop, size: int) -> np.ndarray:
        """Cut and augment a clip.

        Args:
            frames: uint8 (T, h, w, 3).
            crop: the part of them that the clip shows.
            size: height and width of the clip in pixels.

        Returns:
            uint8 (T, size, size, 3).
        """
        left, top, side = window = crop.window(*frames.shape[1:3])
        views = frames[:, top : top + side, left : left + side]
        steps = build_steps(self.operations, window, flip=crop.flip, size=size)
        clip = np.empty((len(frames), size, size, 3), np.uint8)
        group = max(1, GROUP_BYTES // clip[0].size)
        spare = np.empty_like(clip[:group])
        for start in range(0, len(frames), group):
            source, target = views[start : start + group], clip[start : start + group]
            # The steps write to `target` and `spare` in turn, so that the last writes to `target`.
            buffers = target, spare[: len(target)]
            for steps_left, step in zip(range(len(steps))[::-1], steps, strict=True):
                buffer = buffers[steps_left % 2]
                step(source, buffer)
                source = buffer
        return clip


def merge_neighbours(operations: list[Operation]) -> list[Operation]:
    """Merge neighbouring warps, and neighbouring colour matrices if the first one clips nothing."""
    merged: list[Operation] = []
    for operation in operations:
        last = merged[-1] if merged else None
        both_warps = isinstance(last, Warp) and isinstance(operation, Warp)
        both_colours = isinstance(last, ColourMatrix) and isinstance(operation, ColourMatrix)
        if both_warps or (both_colours and not last.clips()):
            merged[-1] = last.then(operation)
        else:
            merged.append(operation)
    return merged


def build_steps(
    operations: list[Operation], window: Window, *, flip: bool, size: int
) -> list[Operation]:
    """Return the operations to run on the cropped frames: resizing, then the given ones.

    A warp that comes first is merged with the crop, so that pixels are interpolated once, unless
    the window is so much larger than the clip that pixels would be skipped.
    """
    steps: list[Operation] = []
    if operations and isinstance(operations[0], Warp) and window.side < 2 * size:
        crop = crop_homography(window.side, size, flip=flip)
        steps.append(warp_operation(operations[0], size, crop))
        operations = operations[1:]
    elif window.side != size or flip or not operations:
        steps.append(_resize(window.side, size, flip=flip))
    return steps + [warp_operation(op, size) if isinstance(op, Warp) else op for op in operations]


def crop_homography(side: int, size: int, *, flip: bool) -> np.ndarray:
    """Return the homography from pixels of a clip of `size` to those of a window of `side`."""
    scale = side / size
    across = [-scale, 0, side - scale / 2 - 0.5] if flip else [scale, 0, scale / 2 - 0.5]
    return np.array([across, [0, scale, scale / 2 - 0.5], [0, 0, 1]])


def _resize(side: int, size: int, *, flip: bool) -> Operation:
    method = cv2.INTER_AREA if side >= 2 * size else cv2.INTER_LINEAR

    def operation(source, target):
        for before, after in zip(source, target, strict=True):
            cv2.resize(before, (size, size), dst=after, interpolation=method)
            if flip:
                cv2.flip(after, 1, dst=after)

    return operation


class CompiledAugmentation:
    """An imgaug pipeline, compiled by `data.augment.imgaug_compiler`."""

    def __init__(self, pipeline: Any):
        self._draw_operations: DrawOperations = compile_pipeline(pipeline)

    def draw(self, rng: np.random.Generator, size: int) -> Program:
        return Program(self._draw_operations(rng, size))


class ImgaugAugmentation:
    """An imgaug pipeline that imgaug itself runs, frame by frame. It is slow."""

    def __init__(self, pipeline: Any):
        self.pipeline = pipeline

    def draw(self, rng: np.random.Generator, size: int) -> Program:
        self.pipeline.seed_(entropy=int(rng.integers(2**31)))
        return Program([RunImgaug(self.pipeline.to_deterministic())])


@cache
def load_augmentation(name: str) -> Augmentation:
    """Return the augmentation that `--augmentation name` asks for.

    Each process loads it once, so that pipelines need not be picklable.

    Raises:
        DataError: there is no such preset or file, or the file defines no pipeline.
    """
    kind = ImgaugAugmentation if name == "imgaug" else CompiledAugmentation
    return kind(load_pipeline(name))
