"""Clips with their frames in another order, which shows how much a network relies on motion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from data.clips.loader import Batch
from train.evaluation import readable

#: Order -> what a clip then shows, in words.
ORDERS = {
    "forward": "frames in order",
    "reversed": "frames reversed",
    "shuffled": "frames shuffled",
    "first": "first frame repeated",
    "centre": "centre frame repeated",
    "single": "centre frame alone, a clip of one frame",
}


def reordered(batch: Batch, order: str, seed: int = 0) -> Batch:
    """Return the batch with the frames of each clip in `order`, one of ORDERS.

    The random order of a shuffled clip depends on (seed, index of its video).
    """
    clips = batch.clips  # (B, 3, T, S, S)
    frames = clips.shape[2]
    if order == "reversed":
        clips = clips.flip(2)
    elif order == "shuffled":
        clips = _shuffled(clips, batch.indices.tolist(), seed)
    elif order in ("first", "centre"):
        at = frames // 2 if order == "centre" else 0
        clips = clips[:, :, at : at + 1].expand_as(clips)
    elif order == "single":
        clips = clips[:, :, frames // 2 : frames // 2 + 1]
    elif order != "forward":
        raise ValueError(f"no order of frames {order!r}")
    return batch._replace(clips=clips)


def _shuffled(clips: Tensor, videos: Sequence[int], seed: int) -> Tensor:
    orders = [np.random.default_rng((seed, video)).permutation(clips.shape[2]) for video in videos]
    return torch.stack([clip[:, at] for clip, at in zip(clips, orders, strict=True)])


def in_every_order(batches: Iterable[Batch], orders: Sequence[str]) -> Iterator[Batch]:
    """Yield each batch of readable videos in every order, one after the other.

    So the videos are read once for all orders. Batches without readable videos are left out.
    """
    for batch in map(readable, batches):
        if len(batch.labels):
            yield from (reordered(batch, order) for order in orders)
