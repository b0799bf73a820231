"""The batches of a run: for training, for validation, and for precise batch norm."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from data.clips.clip_dataset import ClipDataset
from data.clips.loader import Batch, StepPlan, training_loader, validation_loader
from data.clips.loader_workers import Batches
from train.training_run import TrainingRun


def training_batches(
    run: TrainingRun, check_signals: Callable[[], None] | None = None
) -> Batches[Batch]:
    """Return the loader of all remaining training steps.

    `check_signals` is called several times a second while waiting for a batch (see `Batches`).
    """
    return training_loader(
        run.train_clips,
        run.schedule.plan,
        range(run.step, run.schedule.total_steps),
        seed=run.config.random_seed,
        check_signals=check_signals,
        **_loader_options(run),
    )


def batches_of_steps(run: TrainingRun, steps: Sequence[int]) -> Batches[Batch]:
    """Return the loader of the training steps with these numbers, which may repeat."""
    return training_loader(
        run.train_clips,
        lambda number: run.schedule.plan(steps[number]),
        range(len(steps)),
        seed=run.config.random_seed,
        **_loader_options(run),
    )


def validation_batches(
    run: TrainingRun, check_signals: Callable[[], None] | None = None
) -> Batches[Batch]:
    """Return the loader of the validation clips, at the full shape.

    A batch has as many clips as in training, but no more than fit on the devices: averaged weights
    are validated on one GPU, whatever the number of GPUs.
    """
    gpus = 1 if run.ema else len(run.devices.all)
    batch = min(run.config.batch_size // run.devices.world_size, gpus * _full_micro_batch(run))
    return validation_loader(
        run.val_clips,
        max(1, batch),
        run.config.clip_length,
        run.config.clip_size,
        check_signals=check_signals,
        **_loader_options(run),
    )


def unaugmented_batches(run: TrainingRun, number: int) -> Batches[Batch]:
    """Return the loader of up to `number` batches of training clips, cropped as in validation.

    They have the full shape. They are drawn at random from (seed, epoch), because the first videos
    of a list are often all of one class. If a batch does not fit on a device, there are more
    batches of fewer clips instead.
    """
    clips = ClipDataset(
        run.train_clips.videos, run.val_clips.options, training=False, seed=run.config.random_seed
    )
    batch = min(run.config.batch_size, len(clips), _full_micro_batch(run) * run.devices.world_size)
    number = number * run.config.batch_size // batch
    plan = functools.partial(
        _unaugmented_step,
        epoch=run.epoch,
        batch=batch,
        frames=run.config.clip_length,
        size=run.config.clip_size,
    )
    steps = range(min(number, len(clips) // batch))
    return training_loader(clips, plan, steps, seed=run.config.random_seed, **_loader_options(run))


def _unaugmented_step(step: int, *, epoch: int, batch: int, frames: int, size: int) -> StepPlan:
    return StepPlan(epoch, step * batch, batch, frames, size)


def _full_micro_batch(run: TrainingRun) -> int:
    """How many clips of the full shape fit on one device."""
    return run.micro_batch_size(run.config.clip_length, run.config.clip_size)


def _loader_options(run: TrainingRun) -> dict[str, Any]:
    return {
        "workers": run.config.workers,
        "rank": run.devices.rank,
        "world_size": run.devices.world_size,
        "pin_memory": run.devices.pin_memory,
        "timeout": run.config.batch_timeout,
    }
