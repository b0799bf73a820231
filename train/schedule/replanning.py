"""The parts of a schedule that changes during a run. A resumed run continues or adds to them.

A run is planned anew in two cases: if it is too slow for --max-minutes, or if it is resumed with
another --end-epoch and --lr-policy cosine. Only steps that were not taken yet change. Each `Part`
describes the schedule from one step on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from train.config import Config
from train.recipes import EPOCHS_PER_WARMUP_EPOCH
from train.train_errors import TrainError

MOST_EPOCHS = 1e6


class Part(NamedTuple):
    """The plan for the rest of a run, from one of its steps on.

    A run has several parts if it was planned anew.
    """

    step: int  # the first step
    epochs: float  # after which the run ends; its last epoch may have fewer clips
    of_epochs: float  # of the schedule asked for, which is compressed into `epochs`

    @property
    def is_compressed(self) -> bool:
        """Whether the run is shorter than the options ask for."""
        return self.epochs != self.of_epochs

    def beginning(self, epochs: float) -> float:
        """Return the length, in the run's own epochs, of a warm-up or of --head-epochs.

        What was to last `epochs` of the schedule asked for is compressed as the run is, but not
        below a tenth of the run: with a warm-up of three steps, a run of a few hundred learns
        less than with one of thirty.
        """
        in_proportion = epochs * self.epochs / self.of_epochs
        return max(in_proportion, min(epochs, self.epochs / EPOCHS_PER_WARMUP_EPOCH))


def rows_of_part(
    table: np.ndarray, planned: np.ndarray, part: Part, n_clips: int
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the rows of a run that is planned anew, from its old `table` and from `planned`.

    The epoch in which `part` begins keeps its old steps. If the run now ends within that epoch,
    only the last of them are kept, because with multigrid they have the full shape.

    Returns:
        Indices into `table` and indices into `planned`.
    """
    if part.step == 0:
        return np.arange(0), np.arange(len(planned))
    epoch = table["epoch"][part.step - 1]
    of_epoch = np.flatnonzero(table["epoch"] == epoch)
    rest = of_epoch[of_epoch >= part.step]
    if part.epochs < epoch and len(rest):
        done = table["batch"][of_epoch[of_epoch < part.step]].sum()
        allowed = (part.epochs - (epoch - 1)) * n_clips - done
        clips_to_the_end = table["batch"][rest][::-1].cumsum()
        rest = rest[-max(1, int(np.searchsorted(clips_to_the_end, allowed + 0.5))) :]
    later = np.flatnonzero(planned["epoch"] > epoch)
    return np.concatenate([np.arange(part.step), rest]), later


def parts_after(config: Config, then: Mapping[str, Any], step: int) -> list[list[float]]:
    """Return the schedule parts of a run that continues an earlier one.

    Args:
        config: options of the run.
        then: options of the earlier run, from its checkpoint.
        step: the next step.

    Raises:
        TrainError: --end-epoch has changed, and the schedule cannot follow.
    """
    parts = [list(part) for part in then.get("schedule_parts", [])]
    before, now = then.get("end_epoch", config.end_epoch), config.end_epoch
    if before == now:
        return parts
    if parts and parts[-1][1] != parts[-1][2]:
        raise TrainError(
            f"was trained with --end-epoch {before}, not {now}, and its schedule was fitted to "
            "--max-minutes: to train for longer or shorter, give other --max-minutes"
        )
    if config.multigrid == "paper":
        raise TrainError(
            f"was trained with --end-epoch {before}, not {now}: the phases of --multigrid paper "
            "are laid out over all epochs, so their number cannot change; give the same, or take "
            "its weights by --pretrained-3d"
        )
    if config.lr_policy != "cosine" or step == 0:
        return []  # more epochs do not change the earlier ones
    return [*(parts or [[0, before, before]]), [step, now, now]]


def parts_problem(parts: list[list[float]]) -> str:
    """Return why a checkpoint's schedule parts cannot be used, or an empty string."""
    if any(len(part) != 3 or not all(map(math.isfinite, part)) for part in parts):
        return "they are not three finite numbers each"
    steps = [part[0] for part in parts]
    if parts and (steps[0] != 0 or steps != sorted(set(steps)) or steps[-1] >= 2**62):
        return "their first steps do not rise from 0"
    if any(not 0 < epochs <= of_epochs <= MOST_EPOCHS for _, epochs, of_epochs in parts):
        return "their numbers of epochs are out of bounds"
    return ""
