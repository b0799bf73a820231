"""Score a network on videos, also the one in training; average the views of each video."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from data.annotations.video_folders import Videos
from data.clips.loader import Batch
from train.batchnorm import estimate_statistics
from train.devices import Devices
from train.distributed import all_reduce_sum, broadcast_tensors
from train.input_normalisation import normalised
from train.loaders import unaugmented_batches
from train.metrics import Meter
from train.prefetch import prefetched
from train.results.val_predictions import ValPredictions
from train.signals import Signals
from train.train_errors import Interrupted
from train.training_run import TrainingRun

log = logging.getLogger(__name__)

MOST_NAMES = 8  # videos that a warning names


class Predictions(NamedTuple):
    """Predictions of a network for N videos, or for N clips of videos.

    They can be fewer than those of the batch: unreadable videos have no prediction.
    """

    indices: Tensor  # int64 (N,), on the CPU: of the videos in their dataset
    logits: Tensor  # float32 (N, classes)
    labels: Tensor  # int64 (N,)


class Evaluation(NamedTuple):
    """Scores over all ranks, and predictions for the videos of this rank, on the CPU."""

    scores: dict[str, float]  # top1 and top5 in percent, mean loss, number of clips
    labels: Tensor  # int64 (videos,)
    predicted: Tensor  # int64 (videos,), the likeliest class
    indices: Tensor  # int64 (videos,), of the videos in their dataset
    probabilities: Tensor  # float64 (videos,), of the likeliest class
    losses: Tensor  # float32 (videos,)


@torch.no_grad()
def evaluate(
    net: nn.Module,
    batches: Iterable[Batch],
    devices: Devices,
    videos: Videos,
    *,
    signals: Signals | None = None,
    title: str = "evaluation",
) -> Evaluation:
    """Score `net` on `batches` of clips of `videos`, over all ranks.

    The predictions for successive clips with equal `indices`, the views of one video, are averaged
    first. Losses that are not finite are included, and a warning names their videos.

    Raises:
        Interrupted: a signal arrived.
    """
    meter = Meter(devices.device)
    none = torch.empty(0, dtype=torch.int64)  # a rank may have no readable video
    answers = [(none, none, none, none, none)]
    for indices, logits, labels in predictions(net, batches, devices, title=title):
        losses = F.cross_entropy(logits, labels, reduction="none")
        meter.add(logits, labels, losses.sum())
        probabilities = logits.log_softmax(1).amax(1).double().exp()
        answers.append((indices, labels, logits.argmax(1), probabilities, losses))
        if signals and devices.world_size == 1 and signals.number:
            raise Interrupted(signals.number)
    # moved to the CPU here and not in the loop, which would wait for the device in each batch
    indices, labels, predicted, probabilities, losses = (
        torch.cat([part.cpu() for part in parts]) for parts in zip(*answers, strict=True)
    )
    bad = indices[~losses.isfinite()].tolist()
    warn_of_losses(videos, bad, len(indices), title)
    return Evaluation(meter.scores(devices), labels, predicted, indices, probabilities, losses)


def warn_of_losses(videos: Videos, indices: list[int], total: int, title: str) -> None:
    """Warn of the videos, `indices` of `total`, whose loss is not finite, and name some of them."""
    if indices:
        names = ", ".join(str(videos.folders[index]) for index in indices[:MOST_NAMES])
        log.warning(
            "%s: the loss of %d of %d videos is not finite, which makes the mean loss meaningless; "
            "the videos are %s%s",
            title, len(indices), total, names, ", ..." if len(indices) > MOST_NAMES else "",
        )  # fmt: skip


def predictions(
    net: nn.Module, batches: Iterable[Batch], devices: Devices, *, title: str
) -> Iterator[Predictions]:
    """Yield the predictions of `net` for each video, batch by batch, with views averaged."""
    for indices, logits, labels in clip_predictions(net, batches, devices, title=title):
        indices, clips = indices.unique_consecutive(return_counts=True)
        if len(indices) < len(logits):
            groups = logits.split(clips.tolist())
            logits = torch.stack([mean_prediction(group) for group in groups])
            labels = torch.stack([group[0] for group in labels.split(clips.tolist())])
        yield Predictions(indices, logits, labels)


@torch.no_grad()
def clip_predictions(
    net: nn.Module,
    batches: Iterable[Batch],
    devices: Devices,
    *,
    title: str,
    total: int | None = None,
    most: int | None = None,
) -> Iterator[Predictions]:
    """Yield the predictions of `net` for each clip, batch by batch.

    Args:
        net: the network.
        batches: clips of videos; see `readable` for those that are left out.
        devices: the device to compute on.
        title: of the progress bar.
        total: number of batches, if `batches` does not say it.
        most: clips that are computed at a time; by default those of a batch.
    """
    net.eval()
    hidden = not (devices.is_first and sys.stderr.isatty())
    shown = tqdm(batches, desc=title, total=total, leave=False, disable=hidden)
    for batch in prefetched(map(readable, shown), devices):
        if not len(batch.labels):
            continue
        with devices.autocast():
            parts = batch.clips.split(most or len(batch.clips))
            logits = torch.cat([net(normalised(net, part)).float() for part in parts])
        yield Predictions(batch.indices, logits, batch.labels)


def mean_prediction(logits: Tensor) -> Tensor:
    """Return the log of the mean of the probabilities of several clips.

    Args:
        logits: (..., clips, classes).

    Returns:
        (..., classes).
    """
    return logits.log_softmax(-1).logsumexp(-2) - math.log(logits.shape[-2])


def readable(batch: Batch) -> Batch:
    """Return the batch without the videos of which a clip cannot be read.

    These are not scored, so that every score is of as many clips.
    """
    replaces = batch.replaced >= 0
    if not replaces.any():
        return batch
    bad = batch.replaced[replaces].unique()
    keep = ~torch.isin(torch.where(replaces, batch.replaced, batch.indices), bad)
    log.warning("%d unreadable videos are not scored", len(bad))
    return Batch(*(part[keep] for part in batch))


def validate(run: TrainingRun, batches: Iterable[Batch], signals: Signals) -> dict[str, float]:
    """Score the network on the validation clips; return top1, top5, loss and clips.

    It also stores the predictions for all videos in `run.predictions`, in every rank.
    """
    result = evaluate(
        network_to_validate(run),
        batches,
        run.devices,
        run.val_clips.videos,
        signals=signals,
        title="validation",
    )
    run.predictions = predictions_of_all_ranks(run, result)
    return result.scores


def predictions_of_all_ranks(run: TrainingRun, result: Evaluation) -> ValPredictions:
    """Collect the predictions of the ranks, each of which has scored other videos."""
    videos = run.val_clips.videos
    rows = [
        result.predicted,
        result.probabilities,
        torch.exp(-result.losses.double()),
        torch.ones(len(result.indices)),
    ]
    table = torch.zeros(len(videos), len(rows), dtype=torch.float64)
    table[result.indices] = torch.stack([row.double() for row in rows], 1)
    table = all_reduce_sum(run.devices, run.devices.to_device(table)).cpu().numpy()
    scored = table[:, -1] > 0  # the others cannot be read
    predicted, probability, label_probability, _ = table[scored].T
    return ValPredictions(
        run.epoch,
        videos.folders[scored].tolist(),
        videos.labels[scored],
        predicted.astype(np.int64),
        probability,
        label_probability,
        None if videos.times is None else videos.times[scored],
    )


def network_to_validate(run: TrainingRun) -> nn.Module:
    """Return the averaged network with --ema, else the current one.

    With `--precise-bn`, its batch norm statistics are first estimated again over unaugmented
    training clips. All ranks then use the statistics of rank 0, which are those that are saved.
    """
    net = run.ema.module if run.ema else run.net
    if run.config.precise_bn:
        run.norms.split()  # no synchronisation: the ranks may have different numbers of batches
        batches = unaugmented_batches(run, run.config.precise_bn)
        with run.devices.autocast():
            clips = (normalised(net, run.devices.to_device(batch.clips)) for batch in batches)
            estimate_statistics(net, clips)
    broadcast_tensors(run.devices, net.buffers())
    return run.parallel_net if run.devices.gpus > 1 and net is run.net else net
