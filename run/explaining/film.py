"""The film of `run.explain`: the clip and its heat maps side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

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
    """Return the frame rate of a film: that of the clip, or less, so that one can follow it."""
    return min(FASTEST, max(SLOWEST, frames_per_second or FASTEST / 2))
