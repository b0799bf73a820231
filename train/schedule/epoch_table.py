"""Cut the clips of each epoch into steps: batch sizes and clip shapes, without learning rates."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from train.config import Config
from train.schedule.learning_rate import batch_size_factor
from train.schedule.multigrid_phases import Phase

STEP = np.dtype(
    [
        ("epoch", np.int32),  # from 1
        ("start", np.int64),  # clips of the epoch in earlier steps
        ("batch", np.int32),
        ("frames", np.int16),
        ("size", np.int16),  # height and width in pixels
        ("phase", np.int16),  # index of the schedule phase, from 0
        ("lr", np.float64),
    ]
)


def epochs_table(config: Config, phases: Sequence[Phase], n_clips: int) -> np.ndarray:
    """Return all steps, of dtype STEP, with the factor of the batch size alone in the field `lr`.

    Args:
        config: decides how the learning rate follows the batch size.
        phases: those of the run, see `multigrid_phases`.
        n_clips: clips of an epoch; the last one may have fewer.
    """
    epochs: list[np.ndarray] = []
    tables: dict[tuple, tuple[np.ndarray, int]] = {}  # equal epochs are cut only once
    last_phase, position = -1, 0
    for begin in range(0, phases[-1].end, n_clips):
        clips = {
            number: overlap
            for number, phase in enumerate(phases)
            if (overlap := min(phase.end, begin + n_clips) - max(phase.begin, begin)) > 0
        }
        # The paper's short cycle continues in the next epoch: with one step an epoch, it would
        # otherwise never get past its first shape.
        if config.multigrid != "paper" or last_phase != next(iter(clips)):
            position = 0
        key = (*clips.items(), position)
        if key not in tables:
            total = min(n_clips, phases[-1].end - begin)
            shared = _shared_out(list(clips.values()), total)
            parts = [(number, phases[number], n) for number, n in zip(clips, shared, strict=True)]
            tables[key] = _epoch_table(config, parts, position)
        steps, position = tables[key]
        epochs.append(steps)
        last_phase = max(clips)
    table = np.concatenate(epochs)
    table["epoch"] = np.repeat(np.arange(1, len(epochs) + 1), [len(steps) for steps in epochs])
    return table


def _shared_out(weights: Sequence[int], total: int) -> list[int]:
    """Divide `total` clips in proportion to `weights`."""
    bounds = [round(sum(weights[:i]) * total / sum(weights)) for i in range(len(weights) + 1)]
    return [end - begin for begin, end in itertools.pairwise(bounds)]


def _epoch_table(
    config: Config, parts: Sequence[tuple[int, Phase, int]], position: int
) -> tuple[np.ndarray, int]:
    """Return the steps of one epoch, and the position in the short cycle after the last of them.

    Args:
        config: decides how the learning rate follows the batch size.
        parts: the index of each phase, the phase and its clips.
        position: position in the short cycle of the first phase's first step.
    """
    tables = []
    for number, phase, clips in parts:
        if not clips:  # an epoch of fewer clips than phases
            continue
        sizes = [shape.batch for shape in phase.short_cycle]
        positions, batches = cut(clips, sizes, first=0 if tables else position)
        shapes = np.array([shape[1:] for shape in phase.short_cycle])[positions]  # (steps, 2)
        steps = np.zeros(len(batches), STEP)
        steps["batch"], steps["phase"] = batches, number
        steps["frames"], steps["size"] = shapes.T
        steps["lr"] = phase.lr_factor
        if 2 * clips < min(sizes):  # one batch, smaller than half of its shape's
            steps["lr"] *= batch_size_factor(config, clips / phase.shape.batch)
        tables.append(steps)
    table = np.concatenate(tables)
    table["start"] = np.cumsum(table["batch"]) - table["batch"]
    return table, (int(positions[-1]) + 1) % len(sizes)


def cut(clips: int, sizes: Sequence[int], *, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Cut `clips` into batches whose sizes go through the short cycle `sizes` from `first` on.

    Every batch has at least half and at most one and a half times the clips of its size: a size
    more than twice as large as the remaining clips is skipped, and a remainder too small for every
    size is added to the last batch. If `clips` is too small for every size from the start, they
    form one batch at position `first`.

    Returns:
        The position in the short cycle and the number of clips of each batch, int64 (batches,).
    """
    if 2 * clips < min(sizes):
        return np.array([first]), np.array([clips])
    sizes = [*sizes[first:], *sizes[:first]]
    whole_cycles, clips = divmod(clips, sum(sizes))
    positions, batches, after = [], [], 0
    while clips > 0:
        in_order = ((after + i) % len(sizes) for i in range(len(sizes)))
        position = next((i for i in in_order if 2 * clips >= sizes[i]), None)
        if position is None:
            break
        positions.append(position)
        batches.append(min(sizes[position], clips))
        clips -= batches[-1]
        after = position + 1
    every_position = np.tile(np.arange(len(sizes)), whole_cycles)
    every_position = np.append(every_position, np.array(positions, dtype=np.int64))
    every_batch = np.append(np.tile(sizes, whole_cycles), np.array(batches, dtype=np.int64))
    every_batch[-1] += clips
    return (every_position + first) % len(sizes), every_batch
