"""Occlusion in time: how much the class's score falls when frames of the clip are hidden.

After Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014, who hide
parts of a picture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

BATCH = 8  # clips at a time


class Occlusion(NamedTuple):
    """The answers for the whole clip, and with each frame hidden."""

    whole: float  # log-odds of the class
    grey: list[float]  # with frame t in the clip's mean colour
    repeated: list[float]  # with frame t replaced by the one before it, or by the second one


def log_odds(logits: Tensor, label: int) -> Tensor:
    """Return log(p / (1 - p)) of a class's probability p: (B, classes) -> (B,).

    Unlike p itself it also changes visibly where p is near 1.
    """
    others = torch.cat([logits[:, :label], logits[:, label + 1 :]], 1)
    return logits[:, label] - others.logsumexp(1)


def occlude(clip: Tensor, label: int, answer: Callable[[Tensor], Tensor]) -> Occlusion:
    """Hide each frame in turn, once in grey and once by its neighbour, and ask the network again.

    A grey frame also breaks the motion. A repeated frame only takes away what is new in this one.

    Args:
        clip: uint8 (3, T, H, W).
        label: number of the class.
        answer: gives the logits of clips, uint8 (B, 3, T, H, W) -> float (B, classes).
    """
    frames = clip.shape[1]
    colour = clip.float().mean((1, 2, 3)).round().to(clip.dtype)[:, None, None]  # (3, 1, 1)
    changed = [clip]
    for t in range(frames):
        changed.append(clip.clone())
        changed[-1][:, t] = colour
    for t in range(frames):
        changed.append(clip.clone())
        changed[-1][:, t] = clip[:, t - 1 if t else min(1, frames - 1)]
    scores: list[float] = []
    starts = tqdm(range(0, len(changed), BATCH), desc="occlusion", leave=False, disable=None)
    for start in starts:
        batch = torch.stack(changed[start : start + BATCH])
        scores += log_odds(answer(batch), label).tolist()
    return Occlusion(scores[0], scores[1 : 1 + frames], scores[1 + frames :])
