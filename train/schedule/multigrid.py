"""Which epochs show which shapes, and when the learning rate steps: the multigrid policies."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np

from train.config import Config
from train.schedule.shapes import (
    SMALLEST_SIDE,
    LongShape,
    epoch_policy_shapes,
    full_shape,
    paper_policy_shapes,
)
from train.train_errors import TrainError

log = logging.getLogger(__name__)

FINE_TUNED = 196 / 239  # of the published run lies before its fine-tuning phase


class Part(NamedTuple):
    """Epochs up to and including `end` that show only the long shape `row`; None: all of them."""

    end: int
    row: int | None


def check(config: Config, n_clips: int) -> None:
    """Raise TrainError where the options or the dataset can make no schedule."""
    if n_clips < 1:
        raise TrainError("the training split has no clips")
    if config.clip_size < SMALLEST_SIDE:
        raise TrainError(f"--clip-size {config.clip_size}: must be at least {SMALLEST_SIDE}")
    if config.warmup_epochs < 0:
        raise TrainError(f"--warmup-epochs {config.warmup_epochs}: must not be negative")
    if config.multigrid_epochs <= 0:
        raise TrainError(f"--multigrid-epochs {config.multigrid_epochs}: must be positive")
    if len(config.multigrid_frames) != len(config.multigrid_areas) or not config.multigrid_areas:
        raise TrainError(
            "--multigrid-frames and --multigrid-areas must be as many: one of each for each shape"
        )
    divisors = [*config.multigrid_frames, *config.multigrid_areas, *config.multigrid_short]
    if min(divisors) < 1:
        raise TrainError("--multigrid-frames, -areas and -short divide: they must be at least 1")
    long = [t * a for t, a in zip(config.multigrid_frames, config.multigrid_areas, strict=True)]
    if long != sorted(long, reverse=True) or long[-1] != 1:
        raise TrainError(
            "--multigrid-frames and --multigrid-areas go from coarse to fine and end with 1 and 1"
        )


def even_parts(config: Config, n_clips: int) -> tuple[list[LongShape], list[Part], tuple[int, ...]]:
    """Every epoch alike: the epoch policy, multigrid off, or the paper's short cycles alone."""
    lr_steps = [step for step in config.lr_steps if step > 0]
    if config.multigrid == "off" or not (config.long_cycles or config.short_cycles):
        return [full_shape(config)], [Part(config.end_epoch, None)], tuple(lr_steps)
    if config.multigrid == "paper":
        end = max(1, round(config.end_epoch * config.multigrid_epochs))
        lr_steps = [int(step * config.multigrid_epochs) for step in lr_steps]
        return paper_policy_shapes(config), [Part(end, 0)], tuple(lr_steps)
    shapes = epoch_policy_shapes(config)
    kept = shapes[-max(1, min(len(shapes), n_clips // config.batch_size)) :]
    shapes = [shape._replace(lr=shape.lr / kept[0].lr) for shape in kept]
    return shapes, [Part(config.end_epoch, None)], tuple(lr_steps)


def paper_parts(config: Config) -> tuple[list[LongShape], list[Part], tuple[int, ...]]:
    """The shapes, the phases and the epochs after which the learning rate steps.

    Phases of one long cycle have equal numbers of steps, so epochs in proportion to their mean
    batch. The fine-tuning phase saves as many steps as the rest does. Then all are stretched to
    `multigrid_epochs` times the epochs, and their ends, not their lengths, are rounded.
    """
    shapes = paper_policy_shapes(config)
    weights = np.array([shape.mean_batch for shape in shapes]) / config.batch_size
    ends = sorted({step for step in config.lr_steps if 0 < step < config.end_epoch})
    ends = ends or [max(1, round(FINE_TUNED * config.end_epoch))]
    lengths = np.diff([0, *ends])
    epochs = np.outer(lengths, weights / weights.sum()).ravel()  # coarse to fine, cycle by cycle
    saving = weights.sum() / len(shapes)  # steps of these epochs without and with multigrid
    epochs = np.append(epochs, (config.end_epoch - ends[-1]) / saving * weights[-1])

    stretch = config.end_epoch * config.multigrid_epochs / epochs.sum()
    ends = [round(end) for end in np.cumsum(epochs) * stretch]
    total = max(1, ends[-1])
    # the full shape has the last word
    bounds = [*(min(end, total - 1) for end in ends[:-1]), total]
    rows = [*range(len(shapes))] * len(lengths) + [len(shapes) - 1]
    parts = [
        Part(end, row)
        for begin, end, row in zip([0, *bounds], bounds, rows, strict=False)
        if end > begin
    ]
    if len(parts) < len(bounds):
        log.warning(
            "multigrid: %d of %d phases would have no epoch in %d epochs and are left out",
            len(bounds) - len(parts),
            len(bounds),
            total,
        )
    lr_steps = [bounds[(i + 1) * len(shapes) - 1] for i in range(len(lengths))]
    lr_steps[-1:] = [lr_steps[-1] + (total - lr_steps[-1]) // 2]  # halfway through fine-tuning
    if not any(0 < step < config.end_epoch for step in config.lr_steps):
        lr_steps = []
    return shapes, parts, tuple(lr_steps)
