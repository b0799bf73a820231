"""Compare the speed of the compiled augmentation with that of imgaug, operation by operation.

Each turns 16 frames of 340 x 256 pixels into a clip of 16 x 224 x 224, on one core, including the
crop and the resizing. The two take turns on equal clips. Times are medians over the clips. --png
draws augmented clips.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import cv2
import numpy as np

from data.augment.crop import draw_crop
from data.augment.presets import load_pipeline
from data.augment.program import (
    Augmentation,
    CompiledAugmentation,
    ImgaugAugmentation,
    load_augmentation,
)
from data.synthetic import ACTIONS, render

FRAMES, HEIGHT, WIDTH, SIZE, SHARE = 16, 256, 340, 224, 224 / 256


def measure(args: argparse.Namespace) -> list[dict]:
    """Return a row for each operation: operation, ours_ms, imgaug_ms, ratio."""
    cv2.setNumThreads(0)
    frames = load_frames(args.video)
    if args.png:
        draw(args.png, frames, load_augmentation(args.augmentation))
    whole = load_pipeline("readme")
    operations = {
        type(sometimes.then_list[0]).__name__: sometimes.then_list[0]
        for sometimes in whole.then_list
    }
    rows = []
    for name, pipeline in {**operations, "the whole pipeline": whole}.items():
        ways = {"ours": CompiledAugmentation(pipeline), "imgaug": ImgaugAugmentation(pipeline)}
        ours, imgaug = race(list(ways.values()), frames, args.repeats)
        rows.append(
            {"operation": name, "ours_ms": ours, "imgaug_ms": imgaug, "ratio": imgaug / ours}
        )
    return rows


def race(ways: list[Augmentation], frames: np.ndarray, repeats: int) -> list[float]:
    """Return the median CPU time of each way in milliseconds per clip. The ways take turns."""
    times = [[] for _ in ways]
    for number in range(-2, repeats):
        for way, taken in zip(ways, times, strict=True):
            rng = np.random.default_rng(number + 2)
            start = time.process_time()
            way.draw(rng, SIZE).render(frames, draw_crop(SHARE, rng), SIZE)
            if number >= 0:  # the first two clips are not counted
                taken.append(1e3 * (time.process_time() - start))
    return [statistics.median(taken) for taken in times]


def load_frames(path: Path | None) -> np.ndarray:
    """Return the frames of one clip: uint8 (FRAMES, HEIGHT, WIDTH, 3) RGB.

    They are every second frame at the start of the video file, or of a rendered video for None.
    """
    if path is None:
        frames = render(next(iter(ACTIONS)), 1)
    else:
        capture, found = cv2.VideoCapture(str(path)), []
        while len(found) < 2 * FRAMES and capture.grab():
            found.append(capture.retrieve()[1][..., ::-1])
        frames = np.stack(found)
    chosen = np.linspace(0, min(len(frames), 2 * FRAMES) - 1, FRAMES).astype(int)
    return np.stack([cv2.resize(np.ascontiguousarray(frames[i]), (WIDTH, HEIGHT)) for i in chosen])


def draw(path: Path, frames: np.ndarray, augmentation: Augmentation, clips: int = 4) -> None:
    """Draw the stored clip in the first row and an augmented clip in each row below it."""
    from matplotlib.figure import Figure

    shown = range(0, FRAMES, 4)
    rows = {"stored": frames}
    for seed in range(1, clips + 1):
        rng = np.random.default_rng(seed)
        clip = augmentation.draw(rng, SIZE).render(frames, draw_crop(SHARE, rng), SIZE)
        rows[f"augmented, seed {seed}"] = clip
    figure = Figure(figsize=(2.8 * len(shown), 2.8 * len(rows)), layout="constrained")
    for line, (name, images) in zip(
        figure.subplots(len(rows), len(shown)), rows.items(), strict=True
    ):
        line[0].set_ylabel(name)
        for axis, number in zip(line, shown, strict=True):
            axis.imshow(images[number])
            axis.set(xticks=[], yticks=[], title=f"frame {number}" if images is frames else "")
    figure.savefig(path, dpi=70)
