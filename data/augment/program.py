"""How a clip looks: one draw a clip, applied alike to each of its frames.

First the crop is cut and resampled to the clip's final size, then the recipe runs at that size: a
blur's kernel, or a shift, is in pixels of the clip as the network sees it.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

import cv2
import numpy as np

from data.augment.imgaug_compiler import Draft, compile_pipeline
from data.augment.operations import ByImgaug, Colour, Operation, Warp, warper
from data.augment.presets import load_recipe
from data.clips.crop import Crop, Window

GROUP = 2**18  # bytes of frames that go through all steps together: they stay in a core's cache


class Augmentation(Protocol):
    """Something to draw programs from."""

    def draw(self, rng: np.random.Generator, size: int) -> Program:
        """The program of one clip of `size` x `size` pixels."""


class Program:
    """What is done to every frame of one clip: the crop, then `operations`, fused where it goes."""

    def __init__(self, operations: list[Operation]):
        self.operations = fuse(operations)

    def render(self, frames: np.ndarray, crop: Crop, size: int) -> np.ndarray:
        """uint8 (T, h, w, 3) frames -> the crop of them, changed: uint8 (T, size, size, 3)."""
        left, top, side = window = crop.window(*frames.shape[1:3])
        views = frames[:, top : top + side, left : left + side]
        steps = bind(self.operations, window, flip=crop.flip, size=size)
        clip = np.empty((len(frames), size, size, 3), np.uint8)
        group = max(1, GROUP // clip[0].size)
        spare = np.empty_like(clip[:group])
        for start in range(0, len(frames), group):
            source, target = views[start : start + group], clip[start : start + group]
            pair = target, spare[: len(target)]
            for left_over, step in zip(range(len(steps))[::-1], steps, strict=True):
                buffer = pair[left_over % 2]
                step(source, buffer)
                source = buffer
        return clip


def fuse(operations: list[Operation]) -> list[Operation]:
    """Neighbouring changes of geometry as one, and of colour where the first clips nothing."""
    fused: list[Operation] = []
    for operation in operations:
        last = fused[-1] if fused else None
        colours = isinstance(last, Colour) and isinstance(operation, Colour) and not last.clips()
        if colours or (isinstance(last, Warp) and isinstance(operation, Warp)):
            fused[-1] = last.then(operation)
        else:
            fused.append(operation)
    return fused


def bind(operations: list[Operation], window: Window, *, flip: bool, size: int) -> list[Operation]:
    """The operations for clips of `size`, cut from views of the window's size first.

    Every frame of the clip has the same maps. A change of geometry at the beginning goes straight
    from the frame to the clip, in one look-up with the crop, unless that would skip pixels.
    """
    steps: list[Operation] = []
    if operations and isinstance(operations[0], Warp) and window.side < 2 * size:
        steps.append(warper(operations[0], size, cut(window.side, size, flip=flip)))
        operations = operations[1:]
    elif window.side != size or flip or not operations:
        steps.append(_resize(window.side, size, flip=flip))
    return steps + [warper(op, size) if isinstance(op, Warp) else op for op in operations]


def cut(side: int, size: int, *, flip: bool) -> np.ndarray:
    """The homography from pixels of a clip of `size` to those of a window of `side`."""
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
    """An imgaug pipeline as a program for whole clips: data.augment.imgaug_compiler."""

    def __init__(self, pipeline: Any):
        self._draft: Draft = compile_pipeline(pipeline)

    def draw(self, rng: np.random.Generator, size: int) -> Program:
        return Program(self._draft(rng, size))


class ImgaugAugmentation:
    """A pipeline run by imgaug itself, frame by frame: the reference."""

    def __init__(self, pipeline: Any):
        self.pipeline = pipeline

    def draw(self, rng: np.random.Generator, size: int) -> Program:
        self.pipeline.seed_(entropy=int(rng.integers(2**31)))
        return Program([ByImgaug(self.pipeline.to_deterministic())])


@cache
def load_augmentation(name: str) -> Augmentation:
    """What `--augmentation name` means, once a process: pipelines need not survive pickling.

    Raises:
        DataError: there is no such recipe, or the file is none.
    """
    kind = ImgaugAugmentation if name == "imgaug" else CompiledAugmentation
    return kind(load_recipe(name))
