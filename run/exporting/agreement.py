"""Compare the answers of an exported file with those of the checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from run.exporting.clip_axes import Shape, random_clips
from train.train_errors import TrainError

#: Largest difference of a logit, relative to the largest logit of the clips if that is above 1.
TOLERANCE = 1e-4
Answer = Callable[[np.ndarray], np.ndarray]  # uint8 (N, T, H, W, 3) -> logits (N, classes)


def expected_answers(net: nn.Module, shapes: Iterable[Shape]) -> dict[Shape, np.ndarray]:
    """Return the logits of random clips of each shape, float32 (N, classes)."""
    answers = {}
    for shape in tqdm(shapes, desc="checkpoint", leave=False, disable=None):
        with torch.no_grad():
            answers[shape] = net(torch.from_numpy(random_clips(shape))).numpy()
    return answers


def largest_difference(answer: Answer, expected: dict[Shape, np.ndarray], name: str) -> float:
    """Return the largest difference of a logit, relative as `TOLERANCE` is.

    Args:
        answer: computes the logits as the file does.
        expected: what `expected_answers` returned.
        name: of the file.

    Raises:
        TrainError: the difference is above the tolerance, or an answer is not finite.
    """
    largest = 0.0
    for shape, right in tqdm(expected.items(), desc=name, leave=False, disable=None):
        found = answer(random_clips(shape))
        scale = max(1.0, float(np.abs(right).max()))
        difference = float(np.abs(found - right).max()) / scale
        if not difference <= TOLERANCE:  # also if it is NaN
            raise TrainError(
                f"{name}: differs from the checkpoint by {difference:.2g} for clips of "
                f"{'x'.join(map(str, shape))}, more than {TOLERANCE:g}; nothing is written"
            )
        largest = max(largest, difference)
    return largest
