"""Write a long video again, with the scores of the likeliest classes and all segments below it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from data.store import FrameStore
from run.mp4_writer import write_mp4
from run.predicting.segments import Segment, best_classes
from run.predicting.timeline import Timeline
from run.predicting.timeline_picture import OTHER, colours_of
from run.worker_pool import printable

FASTEST = 30.0  # frames per second; of faster videos not every frame is shown
SMALLEST, LARGEST = 240, 480  # short side of the video in the film, in pixels
NARROWEST = 400  # width of the film
BARS = 3  # classes whose scores are shown
ROW, STRIP, MARGIN = 24, 16, 8  # heights of a bar's row and of the segments, in pixels


def write_film(
    path: Path,
    timeline: Timeline,
    segments: Sequence[Segment],
    store: FrameStore,
    classes: Sequence[str],
    *,
    title: str,
) -> None:
    """Write the film, frame by frame, without sound.

    Raises:
        DataError: a frame cannot be read, or ffmpeg fails.
    """
    rate = min(store.fps, FASTEST)
    film = _Film(timeline, segments, classes)
    write_mp4(path, film.frames(store, rate, title), rate)


class _Film:
    """Draws the film's frames."""

    def __init__(self, timeline: Timeline, segments: Sequence[Segment], classes: Sequence[str]):
        from matplotlib import get_data_path
        from PIL import ImageFont

        self.timeline, self.segments, self.classes = timeline, segments, classes
        self.colours = colours_of(segments)
        font = Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
        self.font = ImageFont.truetype(str(font), 14)
        self.end = float(timeline.edges[-1])
        self._panel: tuple[int, np.ndarray] | None = None  # number of its interval

    def frames(self, store: FrameStore, rate: float, title: str) -> Iterator[np.ndarray]:
        """Yield the frames at a constant rate, uint8 (H, W, 3)."""
        count = max(1, round(self.end * rate))
        moments = np.arange(count) / rate
        tolerance = 0.01 / store.fps  # for the rounding of times
        shown = np.searchsorted(store.times(), moments + tolerance, side="right") - 1
        last, frame = -1, None
        bar = tqdm(desc=f"writing {title}", total=count, unit="frame", leave=False, disable=None)
        with bar:
            for moment, number in zip(moments.tolist(), np.maximum(shown, 0).tolist(), strict=True):
                if number != last:
                    last, frame = number, self._enlarged(store.read_at_least([number], LARGEST)[0])
                yield self._composed(frame, moment)
                bar.update()

    def _enlarged(self, frame: np.ndarray) -> np.ndarray:
        """Return a frame in the film's size; its width and height are even."""
        short = min(frame.shape[:2])
        factor = min(max(short, SMALLEST), LARGEST) / short
        height, width = (2 * round(side * factor / 2) for side in frame.shape[:2])
        method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        return cv2.resize(frame, (width, height), interpolation=method)

    def _composed(self, frame: np.ndarray, moment: float) -> np.ndarray:
        """Return the frame with the scores of this moment below it."""
        width = max(NARROWEST, frame.shape[1])
        number = self.timeline.at(moment)
        if self._panel is None or self._panel[0] != number:
            self._panel = number, self._draw_panel(number, width)
        panel = self._panel[1].copy()
        left = (width - frame.shape[1]) // 2
        picture = np.zeros((frame.shape[0] + len(panel), width, 3), np.uint8)
        picture[: len(frame), left : left + frame.shape[1]] = frame
        at = min(width - 2, round(moment / self.end * width))
        panel[-STRIP - 4 :, max(0, at - 1) : at + 2] = 0
        picture[len(frame) :] = panel
        return picture

    def _draw_panel(self, number: int, width: int) -> np.ndarray:
        """Draw the bars of an interval's likeliest classes and the segments, uint8 (h, W, 3)."""
        from PIL import Image, ImageDraw

        height = BARS * ROW + STRIP + 2 * MARGIN
        image = Image.new("RGB", (width, height + height % 2), "white")
        draw = ImageDraw.Draw(image)
        scores = best_classes(self.timeline.scores[number], self.classes, BARS)
        longest = width // 2 - 2 * MARGIN
        for row, (name, score) in enumerate(scores):
            top = MARGIN + row * ROW
            text = printable(name)
            while self.font.getlength(text) > longest - 50:
                text = text[:-2] + "…"
            draw.text((MARGIN, top + 2), f"{text} {score:.0%}", "black", self.font)
            left = width // 2
            draw.rectangle(
                (left, top + 3, left + max(1, round(score * longest)), top + ROW - 4),
                self.colours.get(name, OTHER),
            )
        for segment in self.segments:
            ends = (round(end / self.end * width) for end in (segment.start, segment.end))
            left, right = ends
            colour = self.colours[segment.name]
            draw.rectangle((left, image.height - STRIP, max(left, right - 1), image.height), colour)
        return np.asarray(image)
