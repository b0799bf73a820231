"""The learning rate as a pure function of epoch, progress and batch size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from train.config import Config


def learning_rates(
    config: Config,
    lr_level: np.ndarray,
    epochs_done: np.ndarray,
    run_done: np.ndarray,
    warmup_epochs: float,
) -> np.ndarray:
    """Compute the learning rate of every step, before its batch size is taken into account.

    Warm-up and steps follow the epochs, the cosine follows the optimiser steps. The large batches
    of `--multigrid paper` use half of the epochs' clips in a quarter of the steps, so a cosine over
    epochs would be almost 0 by the time of the full shape.

    Args:
        config: gives the policy, the base rate and the factor.
        lr_level: int (steps,), see `lr_levels`.
        epochs_done: float (steps,), epochs finished after the step, with their fractions.
        run_done: float (steps,), the part of the run's steps before the step, from 0 to 1.
        warmup_epochs: during which the rate rises in proportion to `epochs_done`.

    Returns:
        float64 (steps,).
    """
    # Python's power and cosine, since numpy's may differ in the last bit between kinds of CPU
    level_rates = [config.lr_base * config.lr_factor**i for i in range(lr_level.max() + 1)]
    rates = np.array(level_rates)[lr_level]
    if config.lr_policy == "cosine":
        rates *= [0.5 * (1 + math.cos(math.pi * done)) for done in run_done.tolist()]
    if warmup_epochs > 0:
        rates *= np.minimum(epochs_done, warmup_epochs) / warmup_epochs
    return rates


def lr_levels(config: Config, lr_steps: Sequence[int], clips_before: np.ndarray) -> np.ndarray:
    """Count how often the learning rate has been reduced before each step.

    Args:
        config: with another policy than "step" there are no such reductions.
        lr_steps: clips after which the learning rate is multiplied by `--lr-factor`, ascending.
        clips_before: int (steps,), clips of all earlier steps; in a compressed run, the clips that
            the whole schedule has had when as much of it is done.

    Returns:
        int64 (steps,).
    """
    steps = lr_steps if config.lr_policy == "step" else []
    return np.searchsorted(steps, clips_before, side="right")


def batch_size_factor(config: Config, ratio: float) -> float:
    """Return the factor of the learning rate for a batch that is `ratio` times larger.

    It is the ratio to the power of `--multigrid-lr-power`. By default that is 1 for SGD (Goyal et
    al., Accurate, Large Minibatch SGD, 2017) and 0.5 for AdamW, whose steps do not shrink with the
    gradient's noise (Malladi et al., On the SDEs and Scaling Rules for Adaptive Gradient
    Algorithms, NeurIPS 2022).
    """
    power = config.multigrid_lr_power
    if power is None:
        power = 1.0 if config.optimiser == "sgd" else 0.5
    return float(ratio**power)
