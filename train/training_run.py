"""The state of a training run: all that the loop changes and a checkpoint saves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from data.clips.clip_dataset import ClipDataset
from network.input_profile import profile_of
from train.batchnorm import StepNorms
from train.config import Config
from train.devices import Devices
from train.distributed import all_reduce_sum
from train.metrics import Meter
from train.optimiser import OPTIMISER, restore_optimiser
from train.recipe_choice import RecipeChoice
from train.results.history import History, restored_history
from train.results.val_predictions import ValPredictions
from train.run_clock import RunClock
from train.save_clock import SaveClock
from train.schedule.replanning import parts_after
from train.schedule.steps_table import Schedule, make_schedule
from train.speed_monitor import SpeedReport
from train.step_outcome import StepOutcome
from train.video_losses import VideoLosses


@dataclass
class TrainingRun:
    """A training run, at the step that it takes next. `train.setup.prepare` builds it."""

    config: Config
    devices: Devices
    folder: Path  # of the results
    classes: tuple[str, ...]
    fingerprint: str  # of the dataset
    recipe: RecipeChoice
    schedule: Schedule
    train_clips: ClipDataset
    val_clips: ClipDataset
    net: nn.Module  # not wrapped: its parameters are saved and counted
    parallel_net: nn.Module  # the same network, wrapped for all devices
    norms: StepNorms  # its batch norm
    ema: AveragedModel | None
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    micro_batch_size: Callable[[int, int], int]  # (frames, size) -> clips that fit on one device
    meter: Meter  # training scores of the current epoch
    losses: VideoLosses  # of the current epoch
    epoch: int = 1  # the current one
    step: int = 0  # the next one, counted from the start of the run
    best_top1: float = -1.0
    skipped_steps: int = 0
    overflows: int = 0  # successive steps without an update, up to the last one that was checked
    unchecked_step: StepOutcome | None = None  # the last step, until its outcome has been read
    speed: SpeedReport | None = None  # of the steps that were logged last
    unreadable: set[int] = field(default_factory=set)  # videos that --skip-bad has replaced
    history: History = field(default_factory=History)  # scores of the finished epochs
    fitted_minutes: float = 0.0  # the --max-minutes that the schedule was fitted to
    predictions: ValPredictions | None = None  # of this process's last validation
    clock: RunClock = field(default_factory=RunClock)
    saved: SaveClock = field(default_factory=SaveClock)

    def state_dict(self) -> dict[str, Any]:
        """Return the content of a checkpoint: all that is needed to continue exactly."""
        return {
            "state_dict": self.net.state_dict(),
            "epoch": self.epoch - 1,
            "step": self.step,
            OPTIMISER: self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
            "meter": all_reduce_sum(self.devices, self.meter.sums).cpu(),
            "counts": gate_counts(self.net),
            "losses": self.losses.state(self.devices),
            "best_top1": self.best_top1,
            "skipped_steps": self.skipped_steps,
            "history": self.history.rows(),
            "clock": self.clock.state_dict(),
            "config": asdict(self.config),
            "classes": list(self.classes),
            "fingerprint": self.fingerprint,
            "network_options": getattr(self.net, "build_options", {}),
            "input_profile": profile_of(self.net).as_dict(),
        }

    def schedule_after(self, state: dict[str, Any]) -> Schedule:
        """Return the schedule of this run when it continues from a checkpoint's `state`.

        Raises:
            TrainError: the run has another --end-epoch, and its schedule cannot follow.
        """
        parts = parts_after(self.config, state["config"], state["step"])
        if parts == self.config.schedule_parts:
            return self.schedule
        return make_schedule(replace(self.config, schedule_parts=parts), len(self.train_clips))

    def plan_anew(self, parts: list[list[float]]) -> None:
        """Change the schedule from the next step on; see `train.schedule.replanning.Part`."""
        if parts != self.config.schedule_parts:
            self.config = replace(self.config, schedule_parts=parts)
            self.schedule = make_schedule(self.config, len(self.train_clips))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned, in an earlier run or in rank 0 of this one.

        Check the content of a file with `train.checkpoint.compatibility` first.
        """
        self.net.load_state_dict(state["state_dict"])
        if OPTIMISER in state:
            restore_optimiser(self.optimiser, state[OPTIMISER])
        if state["scaler"]:  # empty where the earlier run had another precision
            self.scaler.load_state_dict(state["scaler"])
        if self.ema:
            self.ema.load_state_dict(state["ema"])
        if self.devices.is_first:  # the saved sums are those of all ranks
            self.meter.sums.copy_(state["meter"])
            for name, count in gate_counts(self.net).items():
                count.copy_(state["counts"][name])
        if "losses" in state:
            self.losses.load_state(state["losses"])
        self.epoch, self.step = state["epoch"] + 1, state["step"]
        self.plan_anew(parts_after(self.config, state["config"], self.step))
        self.fitted_minutes = state["config"].get("max_minutes", 0.0)
        self.best_top1, self.skipped_steps = state["best_top1"], state["skipped_steps"]
        self.history = restored_history(state, self.folder)
        self.history.keep_until(self.epoch - 1)
        self.clock.load_state_dict(state.get("clock", {}))
        self.saved.step = self.step


def gate_counts(net: nn.Module) -> dict[str, torch.Tensor]:
    """Return the buffers outside the state dict: what the gates have counted in this epoch."""
    saved = net.state_dict().keys()
    return {name: buffer for name, buffer in net.named_buffers() if name not in saved}
