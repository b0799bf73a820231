"""Time a few steps of each clip shape before a run starts, without changing the run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from data.clips.loader import Batch, StepPlan
from train.freezing import set_training_mode
from train.input_normalisation import normalised
from train.loaders import batches_of_steps
from train.memory import restored
from train.mixing import mixed
from train.prefetch import prefetched
from train.speed_monitor import SpeedMonitor
from train.step import accumulate_gradients, unscale_and_clip, update
from train.training_run import TrainingRun

STEPS = 3  # of each shape; the first is not timed
MOST_SHAPES = 8
SAVING_SPEED = 150e6  # bytes per second at which checkpoints are taken to be written


def time_steps(run: TrainingRun) -> None:
    """Time two steps of each clip shape with real batches, and give the times to the run's clock.

    A step before them does not count: for a new shape, memory is allocated and algorithms are
    chosen, and at the first one the workers start. All ranks call this function. Afterwards
    weights, optimiser, statistics and random state are what they were. A resumed run skips the
    updates, so their time is missing: a copy of the optimiser's state would need much memory.
    """
    steps = steps_to_time(run)
    monitor = SpeedMonitor(run.devices.device)
    scaler = run.scaler.state_dict()
    run.parallel_net.train()
    set_training_mode(run.net, run.config)
    with restored(run.net, run.devices), _weights_restored(run) as applied:
        batches = prefetched(batches_of_steps(run, steps), run.devices)
        for number, step in enumerate(steps):
            since = time.monotonic()
            batch, plan = next(batches), run.schedule.plan(step)
            _take(run, batch, plan, monitor, applied)
            if number % STEPS:
                run.clock.step_times.add(plan, time.monotonic() - since)
    if scaler:
        run.scaler.load_state_dict(scaler)
    run.clock.saving = 3 * _checkpoint_bytes(run) / SAVING_SPEED


def steps_to_time(run: TrainingRun) -> list[int]:
    """Return the numbers of the steps to take: three of each of the shapes with the most clips."""
    first = run.step if run.step < run.schedule.total_steps else 0
    table = run.schedule.table[first:]
    shapes = table["frames"].astype(np.int64) << 16 | table["size"]
    _, kind = np.unique(shapes, return_inverse=True)
    clips = np.bincount(kind, weights=table["batch"])
    chosen: list[int] = []
    for number in np.argsort(-clips)[:MOST_SHAPES]:
        own = np.flatnonzero(kind == number)
        chosen += [first + int(own[i % len(own)]) for i in range(STEPS)]
    return chosen


@contextmanager
def _weights_restored(run: TrainingRun) -> Iterator[bool]:
    """Restore a new run after the block; yield whether updates may be applied within it."""
    if run.step:
        yield False
        return
    weights = [parameter.detach().clone() for parameter in run.net.parameters()]
    kept = list(run.optimiser.state)  # SGD's buffers exist, and are 0; AdamW has no state yet
    try:
        yield True
    finally:
        with torch.no_grad():
            for parameter, before in zip(run.net.parameters(), weights, strict=True):
                parameter.copy_(before)
        if not kept:
            run.optimiser.state.clear()
        for parameter in kept:
            for buffer in run.optimiser.state[parameter].values():
                buffer.zero_()


def _take(
    run: TrainingRun, batch: Batch, plan: StepPlan, monitor: SpeedMonitor, applied: bool
) -> None:
    """Compute a step; apply its update if that may be and the gradients are finite; wait for it."""
    clips = normalised(run.net, batch.clips)
    clips, targets = mixed(clips, batch.labels, len(run.classes), run.config)
    accumulate_gradients(run, clips, targets, plan, monitor)
    finite = torch.isfinite(unscale_and_clip(run))
    update(run, finite & applied, average=False)
    float(next(run.net.parameters()).detach().flatten()[0])  # waits


def _checkpoint_bytes(run: TrainingRun) -> int:
    tensors = [*run.net.state_dict().values()]
    tensors += [value for state in run.optimiser.state.values() for value in state.values()]
    return sum(value.nbytes for value in tensors if torch.is_tensor(value))
