"""Videos of random pixels, and a plan of steps, for the tests of the data loader."""

from pathlib import Path

import numpy as np
import simplejpeg

from data.annotations.video_folders import Videos
from data.clips.loader import StepPlan
from data.store import write_store


def stored_videos(root: Path, shapes: list[tuple[int, int, int]]) -> Videos:
    """Write a video of each shape (frames, height, width), each of a class of its own."""
    rng, names = np.random.default_rng(0), [f"video{i}" for i in range(len(shapes))]
    for name, shape in zip(names, shapes, strict=True):
        frames = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        write_store(root / name, name, [simplejpeg.encode_jpeg(f, quality=80) for f in frames])
    return Videos(
        root=root,
        folders=np.array(names),
        labels=np.arange(len(names)),
        classes=tuple(names),
        rejected=[],
        source=root / "labels.csv",
    )


def plan(step: int) -> StepPlan:
    """Two steps an epoch, of changing shape."""
    frames, size = ((2, 16), (4, 24), (4, 32))[step % 3]
    return StepPlan(step // 2, (step % 2) * 4, 4 if step % 2 == 0 else 6, frames, size, 2.0)
