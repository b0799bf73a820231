"""The answers of a network to the videos of a dataset, for several orders of their frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.annotations.video_folders import Videos
from data.clips.loader import Batch
from data.clips.loader_workers import Batches
from data.data_error import DataError
from run.evaluation.accuracy_by_views import Part
from run.evaluation.frame_orders import in_every_order
from train.devices import Devices
from train.evaluation import clip_predictions, mean_prediction, warn_of_losses

TOP = 5  # classes of each video that are kept


@dataclass(frozen=True)
class VideoScores:
    """The answers to N readable videos, in the order of the dataset."""

    indices: np.ndarray  # int64 (N,), of the videos in the dataset
    labels: np.ndarray  # int64 (N,)
    top: np.ndarray  # int64 (N, TOP), the likeliest classes; fewer if there are fewer classes
    probabilities: np.ndarray  # float64 (N, TOP), of these
    label_probabilities: np.ndarray  # float64 (N,)
    losses: np.ndarray  # float32 (N,)
    part_hits: np.ndarray  # int64 (parts, 2), see `part_scores`; only for the first order
    logits: np.ndarray | None = None  # float32 (N, views, crops, classes), of the first order

    @property
    def top1(self) -> int:
        """The number of videos whose likeliest class is the label."""
        return int((self.top[:, 0] == self.labels).sum())

    @property
    def top5(self) -> int:
        """The number of videos whose label is among the five likeliest classes."""
        return int((self.top == self.labels[:, None]).sum())


def score_videos(
    net: nn.Module,
    loader: Batches[Batch],
    devices: Devices,
    videos: Videos,
    *,
    orders: Sequence[str],
    views: int,
    crops: int,
    parts: Sequence[Part] = (),
    most: int | None = None,
    keep_logits: bool = False,
) -> dict[str, VideoScores]:
    """Return the answers for each order of the frames; the videos are read once for all.

    Args:
        net: the network.
        loader: gives `views` x `crops` clips of each video.
        devices: the device to compute on.
        videos: those of the loader.
        orders: of `frame_orders.ORDERS`.
        views: of each video.
        crops: of each view.
        parts: whose accuracies are wanted, for the first order.
        most: clips that are computed at a time.
        keep_logits: keep the logits of all clips, for the first order.

    Raises:
        DataError: no video can be read.
    """
    kept: dict[str, list[list[Tensor]]] = {order: [] for order in orders}
    hits = torch.zeros(len(parts), 2, dtype=torch.int64, device=devices.device)
    logits_of_clips = []
    answers = clip_predictions(
        net, in_every_order(loader, orders), devices,
        title="evaluation", total=len(loader) * len(orders), most=most,
    )  # fmt: skip
    for number, (indices, logits, labels) in enumerate(answers):
        order, clips = orders[number % len(orders)], views * crops
        indices, labels = indices[::clips], labels[::clips]
        logits = logits.unflatten(0, (-1, clips))  # (videos, clips, classes)
        kept[order].append([indices, *_answers(logits, labels)])
        if order == orders[0]:
            for row, part in enumerate(parts):
                hits[row] += _hits(mean_prediction(logits[:, part.clips]), labels)
            if keep_logits:
                logits_of_clips.append(logits.unflatten(1, (views, crops)).cpu().numpy())
    if not kept[orders[0]]:
        raise DataError(f"{videos.source}: none of its videos can be read")
    found = {}
    for order, batches in kept.items():
        # moved to the CPU here and not in the loop, which would wait for the device in each batch
        columns = [torch.cat(column).cpu().numpy() for column in zip(*batches, strict=True)]
        found[order] = VideoScores(
            *columns,
            part_hits=hits.cpu().numpy(),
            logits=np.concatenate(logits_of_clips) if keep_logits and order == orders[0] else None,
        )
        bad = found[order].indices[~np.isfinite(found[order].losses)].tolist()
        warn_of_losses(videos, bad, len(found[order].indices), order)
    return found


def _answers(logits: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    """Return labels, likeliest classes, probabilities, the labels' ones and losses of videos."""
    means = mean_prediction(logits) if logits.shape[1] > 1 else logits[:, 0]  # (videos, classes)
    losses = F.cross_entropy(means, labels, reduction="none")
    logs = means.double().log_softmax(1)
    best = means.topk(min(TOP, means.shape[1]), dim=1).indices
    of_label = logs.gather(1, labels[:, None])[:, 0]
    return labels, best, logs.gather(1, best).exp(), of_label.exp(), losses


def _hits(means: Tensor, labels: Tensor) -> Tensor:
    """Count the videos whose label is in the top 1, and in the top 5: int64 (2,)."""
    best = means.topk(min(TOP, means.shape[1]), dim=1).indices == labels[:, None]
    return torch.stack([best[:, 0].sum(), best.sum()])
