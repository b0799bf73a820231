"""The film of `run.explain`: the clip and its heat maps side by side, as an mp4."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import ffmpeg
import numpy as np

from data.data_error import DataError
from data.store.ffmpeg import ffmpeg_executable

GAP, BAR = 8, 26  # pixels between panels, and of the line of text above each
SLOWEST, FASTEST = 2.0, 8.0  # frames per second


def film_frames(panels: Sequence[tuple[str, np.ndarray]], moments: Sequence[str]) -> np.ndarray:
    """Put panels side by side, a line of text above each, and the moment on the first one.

    Args:
        panels: (text, frames uint8 (T, H, W, 3)) of each panel, all of one size.
        moments: when each frame is shown, T texts.

    Returns:
        uint8 (T, H', W', 3), H' and W' even.
    """
    from matplotlib import get_data_path
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(str(Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), 13)
    height, width = panels[0][1].shape[1:3]
    total = len(panels) * (width + GAP) - GAP
    size = (total + total % 2, height + BAR + height % 2)
    films = []
    for t, moment in enumerate(moments):
        image = Image.new("RGB", size, "white")
        draw = ImageDraw.Draw(image)
        for number, (text, frames) in enumerate(panels):
            left = number * (width + GAP)
            image.paste(Image.fromarray(frames[t]), (left, BAR))
            draw.text((left + 2, 5), text if number else f"{text}, {moment}", "black", font)
        films.append(np.asarray(image))
    return np.stack(films)


def film_rate(frames_per_second: float | None) -> float:
    """Return the frame rate of a film: that of the clip, but slow enough to look at."""
    return min(FASTEST, max(SLOWEST, frames_per_second or FASTEST / 2))


def write_mp4(path: Path, frames: np.ndarray, rate: float) -> None:
    """Write frames, uint8 (T, H, W, 3) with even H and W, as an mp4 that browsers play.

    Raises:
        DataError: there is no ffmpeg, or it fails.
    """
    height, width = frames.shape[1:3]
    stream = ffmpeg.input(
        "pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=rate
    ).output(str(path), format="mp4", pix_fmt="yuv420p", movflags="+faststart", r=24)
    words = ffmpeg.compile(
        stream.global_args("-v", "error", "-hide_banner"), cmd=ffmpeg_executable(),
        overwrite_output=True,
    )  # fmt: skip
    made = subprocess.run(words, input=frames.tobytes(), capture_output=True)
    if made.returncode:
        lines = made.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise DataError(f"{path.name}: ffmpeg cannot write it ({lines[-1]})")
