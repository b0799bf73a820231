"""Which frames and sizes an exported network takes, and the clips to check it with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from network.torchvision_networks import clip_limits

Shape = tuple[int, int, int, int]  # clips, frames, height, width

#: torch.export distinguishes axes of size 1: above this size no stage has a side of one pixel.
LARGEST_SINGLE = 32
#: A clip from which a program for clips of any shape is made. All stages have more than one frame
#: and row, and no two sides are alike.
ANY_SHAPE: Shape = (2, 40, 72, 104)


@dataclass(frozen=True)
class ClipAxes:
    """The clips that a file takes.

    Attributes:
        frames: the number of frames, or None if it takes any from `least[0]` on.
        size: height and width, or None if it takes any from `least[1]` on.
        least: the fewest frames, and the smallest height and width.
        why: why frames or sizes are fixed, as a sentence; empty if they are not.
    """

    frames: int | None
    size: int | None
    least: tuple[int, int] = (1, 16)
    why: str = ""

    def __str__(self) -> str:
        frames = f"{self.frames} frames" if self.frames else f"any frames from {self.least[0]} on"
        size = f"{self.size}x{self.size} pixels" if self.size else (
            f"any height and width from {self.least[1]} on"
        )  # fmt: skip
        return f"any number of clips, {frames}, {size}"


def clip_axes(network: str, file_format: str, frames: int, size: int) -> ClipAxes:
    """Return which clips the file of a network takes.

    Args:
        network: its name.
        file_format: "torch" or "onnx".
        frames: of its clips, which are fixed where they must be.
        size: height and width of its clips in pixels.
    """
    limits = clip_limits(network)
    name = network.lower()
    if limits.fixed:
        return ClipAxes(frames, size, why=f"{network} takes clips of one shape only")
    if name.startswith("mtnet_"):
        why = "an MTNet chooses frames and pads images by rules that depend on their number"
        return ClipAxes(frames, size, why=why)
    if "swin" in name:
        why = "a Swin transformer pads clips to whole windows, whose number depends on the shape"
        return ClipAxes(frames, size, why=why)
    if name.endswith("s3d"):
        return ClipAxes(frames, size, why="s3d was tried with clips of one shape only")
    if file_format == "onnx":
        return ClipAxes(None, None, limits[:2])
    least = max(limits.size, LARGEST_SINGLE + 1)
    if size < least:
        why = f"torch.export makes one program for clips of up to {LARGEST_SINGLE} pixels"
        return ClipAxes(frames, size, why=why)
    why = "torch.export unrolls recurrent layers, and sets apart a stage with a single frame"
    return ClipAxes(frames, None, (limits.frames, least), why)


def example_shape(axes: ClipAxes) -> Shape:
    """Return the shape of the clips from which the program of a file is made."""
    clips, frames, height, width = ANY_SHAPE
    height, width = (max(side, axes.least[1] + 8 * i) for i, side in enumerate((height, width)))
    size = (axes.size, axes.size) if axes.size else (height, width)
    return clips, axes.frames or max(frames, axes.least[0]), *size


def shapes_to_check(axes: ClipAxes, frames: int, size: int) -> list[Shape]:
    """Return shapes of clips to compare a file's answers for; the first is the usual one."""
    fewest, smallest = axes.least
    several = axes.frames or max(fewest, frames // 2)
    more = axes.frames or frames + 5
    one = axes.frames or fewest
    small = max(smallest, size // 2)
    sides = [(axes.size, axes.size)] * 3
    if not axes.size:
        sides = [(small, small), (smallest, small + 13), (small + 6, smallest)]
    shapes = [(1, frames, size, size), (3, several, *sides[0]), (2, more, *sides[1])]
    shapes.append((1, one, *sides[2]))
    return list(dict.fromkeys(shapes))


def random_clips(shape: Shape) -> np.ndarray:
    """Return clips with patches of random colours and noise: uint8 (N, T, H, W, 3)."""
    random = np.random.default_rng(shape)
    clips, frames, height, width = shape
    patch = 8
    coarse = (clips, frames, -(-height // patch), -(-width // patch), 3)
    colours = random.integers(0, 224, coarse, dtype=np.uint8)
    whole = colours.repeat(patch, axis=2).repeat(patch, axis=3)[:, :, :height, :width]
    return whole + random.integers(0, 32, whole.shape, dtype=np.uint8)
