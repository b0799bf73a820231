"""Validate the network of a run: which weights, with which batch norm statistics."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from data.clips.loader import Batch
from train.batchnorm import estimate_statistics
from train.distributed import all_reduce_sum, broadcast_tensors
from train.evaluation import Evaluation, evaluate
from train.loaders import unaugmented_batches
from train.normalisation import normalised
from train.results.val_predictions import ValPredictions
from train.signals import Signals
from train.training_run import TrainingRun


def validate(run: TrainingRun, batches: Iterable[Batch], signals: Signals) -> dict[str, float]:
    """Score the network on the validation clips; return top1, top5, loss and clips.

    The predictions for all videos are in `run.predictions` then, in every rank.
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
