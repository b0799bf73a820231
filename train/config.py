"""Every option of a training run, as one dataclass. Its fields are the command line (`run.cli`).

A field whose default is None takes the dataset's own default (`data.datasets`), which
`Config.with_defaults` fills in.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from train.errors import TrainError


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def option(default: Any, help: str, *, group: str, choices: tuple[str, ...] = ()) -> Any:
    """One field of `Config` together with what the command line says about it."""
    metadata = {"help": help, "group": group, "choices": choices}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


DATA, MODEL, SCHEDULE, OPTIMISER, MACHINE, RESULTS = (
    "data",
    "network",
    "schedule",
    "optimisation",
    "machine",
    "results and resuming",
)


#: Smallest and largest value of the options that have one.
RANGES = {
    **dict.fromkeys(("clip_length", "batch_size", "end_epoch"), (1, math.inf)),
    **dict.fromkeys(("log_interval", "val_frequency", "save_frequency"), (1, math.inf)),
    **dict.fromkeys(
        ("workers", "bn_clips", "precise_bn", "keep", "lr_base", "weight_decay", "random_seed",
         "resume_epoch", "save_steps", "save_minutes", "warmup_epochs", "clip_grad", "mixup",
         "cutmix", "lr_factor"),
        (0, math.inf),
    ),
    **dict.fromkeys(("label_smoothing", "ema", "erase", "momentum", "multigrid_lr_power"), (0, 1)),
    "clip_size": (16, math.inf),
    "val_frame_interval": (1, math.inf),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run, complete. Construct it with the dataset's name and, as a rule, through `run.cli`."""

    benchmark: str = field(default="custom", metadata={"hidden": True})

    dataset: str = option("", "folder of the dataset, the one that holds jpg/", group=DATA)
    labels: str | None = option(
        None, "folder of label csvs, or the train csv itself (default: looked for)", group=DATA
    )
    split: int = option(1, "which of the dataset's splits, where it has several", group=DATA)
    variant: int | None = option(None, "Kinetics only: 200, 400, 600 or 700 classes", group=DATA)
    clip_length: int | None = option(None, "frames of a clip", group=DATA)
    clip_size: int | None = option(None, "height and width of a clip, in pixels", group=DATA)
    train_frame_interval: list[int] | None = option(
        None, "frames from one sampled frame to the next; of a list, one is drawn", group=DATA
    )
    val_frame_interval: int | None = option(
        None, "frames from one sampled frame to the next, in validation", group=DATA
    )
    augmentation: str = option(
        "readme",
        "readme (the original's list, compiled), imgaug (the same list, run by imgaug), "
        "randaugment, colour, none, or a Python file that defines `pipeline`",
        group=DATA,
    )
    flip: bool = option(
        False, "mirror half of the clips (not where left and right matter)", group=DATA
    )
    crop: str = option(
        "random", "how a training clip is cut", group=DATA, choices=("random", "multiscale")
    )
    erase: float = option(0.0, "probability that one box of a clip is erased", group=DATA)
    start: str = option(
        "uniform", "where a training clip starts", group=DATA, choices=("uniform", "normal")
    )
    short_videos: str = option(
        "loop", "what a video too short for a clip does", group=DATA, choices=("loop", "hold")
    )
    skip_bad: bool = option(
        False, "go on without rows and videos that cannot be used; count and list them", group=DATA
    )

    network: str = option(
        "srtg_r3d_34", "name of the network (python -m run.networks)", group=MODEL
    )
    gates: bool = option(False, "SRTG: open the gate for cycle-consistent clips only", group=MODEL)
    place: str = option(
        "final",
        "SRTG: where in the block the recurrence sits",
        group=MODEL,
        choices=("start", "top", "mid", "bottom", "res", "final"),
    )
    recurrent_init: str = option(
        "open",
        "recurrent biases from scratch: open (features pass) or PyTorch's own",
        group=MODEL,
        choices=("open", "default"),
    )
    pretrained_3d: str | None = option(None, "checkpoint to take the weights from", group=MODEL)
    fine_tune: bool = option(False, "slower learning rates for all but the classifier", group=MODEL)

    batch_size: int | None = option(None, "clips of a step at the full shape", group=SCHEDULE)
    multigrid: str = option(
        "epoch",
        "epoch (cycles within each epoch), paper (Wu et al. 2020) or off",
        group=SCHEDULE,
        choices=("epoch", "paper", "off"),
    )
    long_cycles: bool = option(True, "multigrid: long cycles", group=SCHEDULE)
    short_cycles: bool = option(True, "multigrid: short cycles", group=SCHEDULE)
    multigrid_epochs: float = option(
        1.5, "multigrid paper: epochs, relative to --end-epoch", group=SCHEDULE
    )
    multigrid_frames: list[int] = option(
        [4, 2, 2, 1], "multigrid: each long shape has so many times fewer frames", group=SCHEDULE
    )
    multigrid_areas: list[int] = option(
        [2, 2, 1, 1], "multigrid: each long shape has so many times fewer pixels", group=SCHEDULE
    )
    multigrid_short: list[int] = option(
        [4, 2], "multigrid: short cycles' shapes have so many times fewer pixels", group=SCHEDULE
    )
    multigrid_lr_power: float | None = option(
        None,
        "multigrid: the rate goes with the batch to this power (default: 1, AdamW 0.5)",
        group=SCHEDULE,
    )
    end_epoch: int | None = option(None, "the last epoch", group=SCHEDULE)
    lr_base: float | None = option(None, "initial learning rate", group=SCHEDULE)
    lr_policy: str = option(
        "step",
        "how the learning rate falls",
        group=SCHEDULE,
        choices=("step", "cosine", "constant"),
    )
    lr_steps: list[int] | None = option(
        None, "epochs after which the learning rate changes", group=SCHEDULE
    )
    lr_factor: float = option(0.1, "what the learning rate is multiplied by there", group=SCHEDULE)
    warmup_epochs: float = option(0.0, "epochs of linear warm-up", group=SCHEDULE)

    optimiser: str = option("sgd", "update rule", group=OPTIMISER, choices=("sgd", "adamw"))
    momentum: float = option(0.9, "SGD's momentum (Nesterov)", group=OPTIMISER)
    weight_decay: float = option(1e-4, "weight decay", group=OPTIMISER)
    decay_norms: bool = option(True, "decay normalisation weights and biases too", group=OPTIMISER)
    label_smoothing: float = option(0.0, "label smoothing", group=OPTIMISER)
    clip_grad: float = option(0.0, "largest gradient norm (0: no clipping)", group=OPTIMISER)
    ema: float = option(0.0, "decay of the averaged weights (0: none)", group=OPTIMISER)
    mixup: float = option(0.0, "mixup's alpha (0: off)", group=OPTIMISER)
    cutmix: float = option(0.0, "cutmix's alpha (0: off)", group=OPTIMISER)
    bn_clips: int = option(
        8, "clips that batch norm's statistics are taken over (0: the whole batch)", group=OPTIMISER
    )
    precise_bn: int = option(
        0, "batches over which batch norm is re-estimated before validation", group=OPTIMISER
    )

    gpus: int | None = option(
        None, "GPUs to use; 0 is the CPU (default: all there are)", group=MACHINE
    )
    precision: str = option(
        "auto", "number format", group=MACHINE, choices=("auto", "fp32", "bf16", "fp16")
    )
    workers: int | None = option(
        None, "processes that read clips (default: the cores, less one a device)", group=MACHINE
    )
    micro_batch: str = option(
        "auto", "clips of one forward pass on a device: auto or a number", group=MACHINE
    )
    on_nan: str = option(
        "stop", "non-finite loss: stop, or skip:K to leave out up to K steps", group=MACHINE
    )

    random_seed: int = option(1, "seed of every random choice", group=RESULTS)
    model_dir: str | None = option(
        None, "folder of the results (default: results/<DATASET>)", group=RESULTS
    )
    task_name: str = option("", "added to the name of the results folder", group=RESULTS)
    log_file: str = option("", "log file (default: train.log in the results folder)", group=RESULTS)
    log_interval: int = option(20, "steps between two lines of the log", group=RESULTS)
    debug_mode: bool = option(
        False, "log debugging messages, and the groups of parameters", group=RESULTS
    )
    val_frequency: int = option(
        1, "epochs between two validations; the last epoch has one anyway", group=RESULTS
    )
    save_frequency: int = option(1, "epochs between two kept checkpoints", group=RESULTS)
    save_steps: int = option(0, "steps between two writes of last.pth (0: by epoch)", group=RESULTS)
    save_minutes: float = option(
        10.0, "minutes between two writes of last.pth (0: by epoch)", group=RESULTS
    )
    keep: int = option(0, "how many epochs' checkpoints to keep (0: all)", group=RESULTS)
    resume: str = option(
        "no",
        "auto goes on from last.pth where there is one",
        group=RESULTS,
        choices=("no", "auto"),
    )
    resume_epoch: int = option(
        0, "epoch to go on with, weights from --pretrained-3d", group=RESULTS
    )
    tensorboard: bool = option(True, "write TensorBoard event files", group=RESULTS)
    wandb: str = option("", "Weights & Biases project to log to", group=RESULTS)
    plan: bool = option(False, "print the schedule and leave", group=RESULTS)

    def with_defaults(self, **values: Any) -> Config:
        """A copy in which the fields that are None take the dataset's `values`."""
        return replace(self, **{k: v for k, v in values.items() if getattr(self, k) is None})

    def check(self) -> None:
        """Reject combinations that make no sense. Raises TrainError with one sentence."""
        missing = [
            f.name
            for f in fields(self)
            if getattr(self, f.name) is None
            and f.name
            in ("clip_length", "clip_size", "batch_size", "end_epoch", "lr_base", "lr_steps")
        ]
        if missing:
            raise TrainError(f"no value for {', '.join(missing)}")
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                upper = "" if high == math.inf else f" and at most {high:g}"
                raise TrainError(f"{_flag(name)} {value}: must be at least {low:g}{upper}")
        if not self.train_frame_interval or min(self.train_frame_interval) < 1:
            raise TrainError("--train-frame-interval: give whole numbers from 1 on")
        if self.log_file and not Path(self.log_file).absolute().parent.is_dir():
            raise TrainError(f"--log-file {self.log_file}: its folder does not exist")
        if self.wandb and not importlib.util.find_spec("wandb"):
            raise TrainError("--wandb needs its package: pip install wandb")
        if self.skippable_steps < 0:
            raise TrainError(f"--on-nan {self.on_nan}: give stop, or skip:K with a number K")
        if self.resume == "auto" and self.resume_epoch:
            raise TrainError("--resume auto and --resume-epoch exclude each other: give one")

    @property
    def skippable_steps(self) -> int:
        """How many steps with a non-finite loss may be left out; -1 where `on_nan` is nonsense."""
        word, _, number = self.on_nan.partition(":")
        if word == "stop" and not number:
            return 0
        return int(number) if word == "skip" and number.isdecimal() else -1
