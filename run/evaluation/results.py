"""What an evaluation has found, from which its files are made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.clips.clip_dataset import ClipDataset
from run.evaluation.accuracy_by_views import PartScore
from run.evaluation.protocol import Protocol
from run.evaluation.video_scores import VideoScores
from run.trained_network import Trained
from train.report.prediction_scores import confusion_matrix


@dataclass(frozen=True)
class Evaluated:
    """The answers of a network to the videos of a dataset."""

    trained: Trained
    clips: ClipDataset
    protocol: Protocol
    answers: dict[str, VideoScores]  # by order of the frames; the first one is the protocol's
    by_views: list[PartScore]  # empty for a single clip of each video

    @property
    def scores(self) -> VideoScores:
        """The answers for the protocol's own order of the frames."""
        return self.answers[self.protocol.order]

    @property
    def matrix(self) -> np.ndarray:
        """The confusion matrix: int64 (classes, classes), rows are labels."""
        scores = self.scores
        return confusion_matrix(scores.labels, scores.top[:, 0], len(self.trained.classes))
