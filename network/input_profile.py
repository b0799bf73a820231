"""The input profile of a network: how clips must look that its weights were trained on.

A network that is fed with another mean, frame rate or crop than its weights were trained on loses
much of its accuracy without any error. So the profile is an attribute of the network,
`input_profile`, and part of every checkpoint. Needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from network.network_error import NetworkError

#: Frame rate that is assumed of a video where none is known, to turn `fps` into a frame interval.
ASSUMED_FPS = 30.0
MOST = 100_000  # frames or pixels


@dataclass(frozen=True)
class InputProfile:
    """How the clips look that a network was trained on. What is not known is None.

    Attributes:
        mean: of R, G and B in 0..1, subtracted first.
        std: of R, G and B in 0..1, by which clips are then divided.
        frames: of a clip.
        fps: frames of a clip in one second of the video.
        interval: frames of the video from one frame of the clip to the next.
        resize: short side of the whole frame in pixels, or its (height, width).
        crop: height and width of the clip in pixels, cut out of the resized frame.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    frames: int | None = None
    fps: float | None = None
    interval: int | None = None
    resize: int | tuple[int, int] | None = None
    crop: int | None = None

    @property
    def short_side(self) -> int | None:
        """Return the short side of the resized frame in pixels."""
        return min(self.resize) if isinstance(self.resize, tuple) else self.resize

    @property
    def frame_interval(self) -> int | None:
        """Return the frame interval. If only `fps` is known, assume videos of 30 fps."""
        if self.interval is None and self.fps is not None:
            return max(1, round(ASSUMED_FPS / self.fps))
        return self.interval

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as a checkpoint stores them."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> InputProfile:
        """Return the profile that `as_dict` returned the values of.

        Raises:
            NetworkError: a value is missing, unknown or impossible.
        """
        known = {item.name for item in fields(cls)}
        if not {"mean", "std"} <= values.keys() <= known:
            raise NetworkError("its input profile has missing or unknown values")
        made = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        for name, value in made.items():
            if not _is_possible(name, value):
                raise NetworkError(f"its input profile has {name} {str(value)[:40]!r}")
        return cls(**made)

    def shape_text(self) -> str:
        """Return frames, size and rate as short text, such as `16x112x112, 15 fps`."""
        rate = f"{self.fps:g} fps" if self.fps else f"interval {self.interval}"
        return f"{self.frames}x{self.crop}x{self.crop}, {rate}"

    def __str__(self) -> str:
        shape = f"{self.frames} frames" if self.frames else "clips"
        if self.crop:
            shape += f" of {self.crop}x{self.crop} pixels"
        if self.resize:
            size = "x".join(map(str, self.resize)) if isinstance(self.resize, tuple) else (
                f"a short side of {self.resize}"
            )  # fmt: skip
            shape += f" out of frames of {size}"
        if self.fps:
            shape += f", {self.fps:g} frames per second"
        elif self.interval:
            shape += f", frame interval {self.interval}"
        mean, std = (", ".join(f"{v:.4g}" for v in row) for row in (self.mean, self.std))
        return f"{shape}; mean {mean}, std {std}"


def _is_possible(name: str, value: object) -> bool:
    """Return whether a profile can have this value."""
    if name in ("mean", "std"):
        return (
            isinstance(value, tuple)
            and len(value) == 3
            and all(type(v) in (int, float) and math.isfinite(v) for v in value)
            and (name == "mean" or min(value) > 0)
        )
    if value is None:
        return True
    if name == "fps":
        return type(value) in (int, float) and 0 < value < MOST
    if name == "resize" and isinstance(value, tuple):
        return len(value) == 2 and all(type(v) is int and 0 < v < MOST for v in value)
    return type(value) is int and 0 < value < MOST


#: The profile of the original project's recipe. The std is 1 / 0.0167 in values of 0..255.
DEFAULT_PROFILE = InputProfile(
    mean=(124 / 255, 117 / 255, 104 / 255), std=(1 / (0.0167 * 255),) * 3
)


def profile_of(net: object) -> InputProfile:
    """Return a network's `input_profile`, also if it is wrapped as `module` or `net` of another.

    A network without one has `DEFAULT_PROFILE`.
    """
    while "input_profile" not in vars(net):
        inner = getattr(net, "module", None) or getattr(net, "net", None)
        if inner is None:
            return DEFAULT_PROFILE
        net = inner
    return net.input_profile
