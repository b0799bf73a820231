"""The most confidently wrong predictions of an evaluation, as film strips."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from data.clips.clip_dataset import ClipDataset, ClipRequest
from data.clips.film_strip import frames_of
from data.data_error import DataError
from run.evaluation.video_scores import VideoScores
from run.film_strip import Strip, draw_strips
from run.worker_pool import printable

log = logging.getLogger(__name__)

NAME = "mistakes.png"
MOST = 10


def worst(scores: VideoScores) -> list[int]:
    """Return the positions of up to MOST wrong predictions, the highest probability first."""
    order = np.argsort(-scores.probabilities[:, 0], kind="stable")
    wrong = scores.top[order, 0] != scores.labels[order]
    return order[wrong][:MOST].tolist()


def draw_mistakes(scores: VideoScores, clips: ClipDataset, frames: int, folder: Path) -> None:
    """Draw the centre clips of the worst mistakes; nothing is drawn if there are none.

    Args:
        scores: the answers to the videos.
        clips: of these videos.
        frames: of a clip.
        folder: in which NAME is written.
    """
    videos, strips = clips.videos, []
    names = list(videos.names())
    for position in worst(scores):
        index = int(scores.indices[position])
        request = ClipRequest(index, 0, frames, clips.options.clip_size)
        try:
            sample = clips[request]
        except (DataError, OSError) as error:
            log.debug("no film strip: %s", error)
            continue
        label, predicted = (
            printable(videos.classes[number])
            for number in (scores.labels[position], scores.top[position, 0])
        )
        text = (
            f"{_shortened(printable(Path(names[index]).name))}\n"
            f"{predicted}: {scores.probabilities[position, 0]:.0%}\n"
            f"label {label}: {scores.label_probabilities[position]:.0%}"
        )
        strips.append(Strip(text, frames_of(sample.clip)))
    if strips:
        title = "Wrong predictions with the highest probabilities (look for wrong labels here)"
        draw_strips(strips, title, folder / NAME)


def _shortened(name: str, most: int = 28) -> str:
    return name if len(name) <= most else f"{name[: most - 3]}..."
