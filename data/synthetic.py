"""Render a dataset of actions that differ only in the direction of time, for the demo and tests.

A textured rectangle with a dark mark lies on a textured background. It has four properties: x, y,
scale and light. In each video one of them changes steadily from one end of its range to the other,
and the other three have random constant values. A single frame therefore shows neither which
property changes nor in which direction, and a video of one class, played backwards, is a video of
the opposite class.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

#: Class -> (property that changes, direction of the change). Opposite classes follow each other.
ACTIONS: dict[str, tuple[str, int]] = {
    "move_left": ("x", -1),
    "move_right": ("x", 1),
    "move_up": ("y", -1),
    "move_down": ("y", 1),
    "shrink": ("scale", -1),
    "grow": ("scale", 1),
    "darken": ("light", -1),
    "brighten": ("light", 1),
}
PROPERTIES = ("x", "y", "scale", "light")
SIZES = ((64, 64), (64, 80), (72, 64), (80, 96))  # (height, width) in pixels
FRAMES_PER_SECOND = 12


@dataclass(frozen=True)
class Scene:
    """Everything random about one video; the action is not part of it.

    A property's value is its phase, from -1 to 1, times its amplitude. The amplitude is in pixels
    for x and y, and the logarithm of a factor for scale and light.
    """

    background: np.ndarray  # uint8 (H, W, 3)
    sprite: np.ndarray  # uint8 (side, side, 4), the last channel is its opacity
    n_frames: int
    centre: tuple[float, float]  # pixels
    angle: float  # degrees
    amplitude: dict[str, float]
    constant: dict[str, float]  # the phase of each property while it does not change


def texture(shape: tuple[int, int], rng: np.random.Generator, *, cells: int) -> np.ndarray:
    """Return smooth random colours, uint8 (H, W, 3): `cells` x `cells` random pixels, enlarged."""
    coarse = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    return cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def draw_scene(rng: np.random.Generator, size: tuple[int, int] | None = None) -> Scene:
    """Choose a random scene: background, sprite, position, length and amplitudes.

    `size` is (height, width) in pixels, one of SIZES at random if it is not given.
    """
    drawn = SIZES[rng.integers(len(SIZES))]
    height, width = size or drawn
    short = min(height, width)
    side = int(short * rng.uniform(0.36, 0.48))
    return Scene(
        background=texture((height, width), rng, cells=3) // 2 + 32,
        sprite=draw_sprite(side, rng),
        n_frames=int(rng.integers(24, 49)),
        centre=(
            width / 2 + short * rng.uniform(-0.08, 0.08),
            height / 2 + short * rng.uniform(-0.08, 0.08),
        ),
        angle=rng.uniform(0, 360),
        amplitude={
            "x": short * rng.uniform(0.2, 0.32),
            "y": short * rng.uniform(0.2, 0.32),
            "scale": rng.uniform(0.3, 0.5),
            "light": rng.uniform(0.4, 0.6),
        },
        constant={name: rng.uniform(-1, 1) for name in PROPERTIES},
    )


def draw_sprite(side: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a bright textured rectangle with a dark mark at one end, uint8 (side, side, 4)."""
    sprite = np.zeros((side, side, 4), np.uint8)
    thickness = int(side * rng.uniform(0.5, 0.8))
    top = (side - thickness) // 2
    body = sprite[top : top + thickness]
    body[..., :3] = texture(body.shape[:2], rng, cells=4) // 4 + rng.integers(120, 192, 3).astype(
        np.uint8
    )
    body[..., 3] = 255
    mark = int(side * 0.3)
    body[:, :mark, :3] = rng.integers(0, 64, 3)
    return sprite


def render(action: str, seed: int | tuple[int, ...]) -> np.ndarray:
    """Render one video: uint8 (T, H, W, 3) RGB, 24 to 48 frames.

    Of two opposite actions with the same seed, one is the other played backwards.

    Raises:
        KeyError: the action is not one of ACTIONS.
    """
    moving, direction = ACTIONS[action]
    scene = draw_scene(np.random.default_rng(seed))
    phases = direction * np.linspace(-1.0, 1.0, scene.n_frames)
    return np.stack([draw_frame(scene, {**scene.constant, moving: phase}) for phase in phases])


def draw_frame(scene: Scene, phase: dict[str, float]) -> np.ndarray:
    """Draw one frame, uint8 (H, W, 3). `phase` has the state of each property, from -1 to 1."""
    offset = {name: scene.amplitude[name] * phase[name] for name in PROPERTIES}
    side = scene.sprite.shape[0]
    matrix = cv2.getRotationMatrix2D(
        ((side - 1) / 2, (side - 1) / 2), scene.angle, float(np.exp(offset["scale"]))
    )
    matrix[:, 2] += [
        scene.centre[0] + offset["x"] - (side - 1) / 2,
        scene.centre[1] + offset["y"] - (side - 1) / 2,
    ]
    height, width = scene.background.shape[:2]
    placed = cv2.warpAffine(scene.sprite, matrix, (width, height), flags=cv2.INTER_AREA)
    opacity = placed[..., 3:].astype(np.float32) / 255  # (H, W, 1)
    light = np.exp(offset["light"] - scene.amplitude["light"])  # at most 1
    return (scene.background * (1 - opacity) + placed[..., :3] * opacity * light).astype(np.uint8)


def write_video(path: Path, frames: np.ndarray) -> None:
    """Write frames, uint8 (T, H, W, 3) RGB, as MPEG-4. Raises OSError if OpenCV cannot."""
    _write_frames(path, frames, frames.shape[1:3])


def write_long_video(
    path: Path, actions: Sequence[str], *, seed: int, seconds: float = 4.0
) -> list[tuple[float, float, str]]:
    """Render one scene in which actions follow each other, as MPEG-4.

    A property that no action has changed yet is where its first action begins. An action that
    repeats the one before it on the same property begins with a jump.

    Args:
        path: the video file.
        actions: names of ACTIONS, in their order.
        seed: of all random choices.
        seconds: how long each action lasts.

    Returns:
        (start, end, action) of each action, in seconds.

    Raises:
        KeyError: an action is not one of ACTIONS.
        OSError: OpenCV cannot encode MPEG-4.
    """
    scene = draw_scene(np.random.default_rng(seed), SIZES[-1])
    phase = dict(scene.constant)
    for action in reversed(actions):
        moving, direction = ACTIONS[action]
        phase[moving] = -direction
    length = max(2, round(seconds * FRAMES_PER_SECOND))

    def frames() -> Iterator[np.ndarray]:
        for action in actions:
            moving, direction = ACTIONS[action]
            for value in direction * np.linspace(-1.0, 1.0, length):
                phase[moving] = value
                yield draw_frame(scene, phase)

    _write_frames(path, frames(), SIZES[-1])
    step = length / FRAMES_PER_SECOND
    return [(i * step, (i + 1) * step, action) for i, action in enumerate(actions)]


def _write_frames(path: Path, frames: Iterable[np.ndarray], size: tuple[int, int]) -> None:
    height, width = size
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter.fourcc(*"mp4v"), FRAMES_PER_SECOND, (width, height)
    )
    if not writer.isOpened():
        raise OSError(f"{path}: OpenCV cannot encode MPEG-4 here")
    for frame in frames:
        writer.write(frame[..., ::-1])  # OpenCV wants BGR
    writer.release()


def write_videos(folder: Path, per_class: int, *, seed: int, prefix: str) -> list[tuple[str, str]]:
    """Render videos to `<folder>/<action>/<prefix>_<action>_NNNN.mp4`, except those that exist.

    Args:
        folder: where to write.
        per_class: number of videos of each action.
        seed: of all random choices.
        prefix: begins the videos' names.

    Returns:
        (action, video id) of each video.
    """
    videos = [
        (action, f"{prefix}_{action}_{number:04d}", (seed, index, number))
        for index, action in enumerate(ACTIONS)
        for number in range(per_class)
    ]
    # disable=None: no bar where stderr is not a terminal
    bar = tqdm(videos, desc=f"rendering {prefix}", unit="video", disable=None)
    for action, video_id, video_seed in bar:
        path = folder / action / f"{video_id}.mp4"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}")
        write_video(unfinished, render(action, video_seed))
        unfinished.rename(path)
    return [(action, video_id) for action, video_id, _ in videos]
