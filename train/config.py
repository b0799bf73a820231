"""Every option of a training run, as one dataclass, which `run.command_line` makes options of.

A field whose default is None takes the dataset's own default (`data.datasets`), which
`Config.with_defaults` fills in.
"""

from __future__ import annotations

import importlib.util
import itertools
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from train.option_bounds import Bounds, shortened
from train.train_errors import TrainError


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def option(
    default: Any,
    help: str,
    *,
    group: str,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
    below: float | None = None,
) -> Any:
    """One field of `Config` together with what the command line says about it.

    A field of numbers, or of a list of them, has bounds: `low`, and either `high`, the largest
    value, or `below`, which is itself too large.
    """
    metadata: dict[str, Any] = {"help": help, "group": group, "choices": choices}
    if low is not None:
        metadata["bounds"] = Bounds(low, high) if below is None else Bounds(low, below, True)
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


LONGEST_LIST = 50  # numbers in one option
MANY = 10**9  # steps, epochs or batches: beyond it nobody counts


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run, complete. As a rule, `run.command_line` makes it."""

    benchmark: str = field(default="custom", metadata={"hidden": True})

    dataset: str = option("", "folder of the dataset, the one that holds jpg/", group=DATA)
    labels: str | None = option(
        None, "folder of label csvs, or the train csv itself (default: looked for)", group=DATA
    )
    split: int = option(
        1, "which of the dataset's splits, where it has several", group=DATA, low=1, high=100
    )
    variant: int | None = option(
        None, "Kinetics only: 200, 400, 600 or 700 classes", group=DATA, low=1, high=10_000
    )
    clip_length: int | None = option(None, "frames of a clip", group=DATA, low=1, high=1024)
    clip_size: int | None = option(
        None, "height and width of a clip, in pixels", group=DATA, low=16, high=2048
    )
    train_frame_interval: list[int] | None = option(
        None,
        "frames from one sampled frame to the next; of a list, one is drawn",
        group=DATA,
        low=1,
        high=10_000,
    )
    val_frame_interval: int | None = option(
        None,
        "frames from one sampled frame to the next, in validation",
        group=DATA,
        low=1,
        high=10_000,
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
    erase: float = option(
        0.0, "probability that one box of a clip is erased", group=DATA, low=0, high=1
    )
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

    batch_size: int | None = option(
        None, "clips of a step at the full shape", group=SCHEDULE, low=1, high=65_536
    )
    multigrid: str = option(
        "epoch",
        "epoch (cycles within each epoch), paper (Wu et al. 2020) or off",
        group=SCHEDULE,
        choices=("epoch", "paper", "off"),
    )
    long_cycles: bool = option(True, "multigrid: long cycles", group=SCHEDULE)
    short_cycles: bool = option(True, "multigrid: short cycles", group=SCHEDULE)
    multigrid_epochs: float = option(
        1.5, "multigrid paper: epochs, relative to --end-epoch", group=SCHEDULE, low=0.01, high=10
    )
    multigrid_frames: list[int] = option(
        [4, 2, 2, 1],
        "multigrid: each long shape has so many times fewer frames",
        group=SCHEDULE,
        low=1,
        high=1024,
    )
    multigrid_areas: list[int] = option(
        [2, 2, 1, 1],
        "multigrid: each long shape has so many times fewer pixels",
        group=SCHEDULE,
        low=1,
        high=1024,
    )
    multigrid_short: list[int] = option(
        [4, 2],
        "multigrid: short cycles' shapes have so many times fewer pixels",
        group=SCHEDULE,
        low=1,
        high=1024,
    )
    multigrid_lr_power: float | None = option(
        None,
        "multigrid: the rate goes with the batch to this power (default: 1, AdamW 0.5)",
        group=SCHEDULE,
        low=0,
        high=1,
    )
    end_epoch: int | None = option(None, "the last epoch", group=SCHEDULE, low=1, high=10_000)
    lr_base: float | None = option(None, "initial learning rate", group=SCHEDULE, low=0, high=1000)
    lr_policy: str = option(
        "step",
        "how the learning rate falls",
        group=SCHEDULE,
        choices=("step", "cosine", "constant"),
    )
    lr_steps: list[int] | None = option(
        None, "epochs after which the learning rate changes", group=SCHEDULE, low=1, high=MANY
    )
    lr_factor: float = option(
        0.1, "what the learning rate is multiplied by there", group=SCHEDULE, low=0, high=1e6
    )
    warmup_epochs: float = option(
        0.0, "epochs of linear warm-up", group=SCHEDULE, low=0, high=100_000
    )

    optimiser: str = option("sgd", "update rule", group=OPTIMISER, choices=("sgd", "adamw"))
    momentum: float = option(0.9, "SGD's momentum (Nesterov)", group=OPTIMISER, low=0, below=1)
    weight_decay: float = option(1e-4, "weight decay", group=OPTIMISER, low=0, high=10)
    decay_norms: bool = option(True, "decay normalisation weights and biases too", group=OPTIMISER)
    label_smoothing: float = option(0.0, "label smoothing", group=OPTIMISER, low=0, below=1)
    clip_grad: float = option(
        0.0, "largest gradient norm (0: no clipping)", group=OPTIMISER, low=0, high=1e6
    )
    ema: float = option(
        0.0, "decay of the averaged weights (0: none)", group=OPTIMISER, low=0, below=1
    )
    mixup: float = option(0.0, "mixup's alpha (0: off)", group=OPTIMISER, low=0, high=100)
    cutmix: float = option(0.0, "cutmix's alpha (0: off)", group=OPTIMISER, low=0, high=100)
    bn_clips: int = option(
        8,
        "clips that batch norm's statistics are taken over (0: the whole batch)",
        group=OPTIMISER,
        low=0,
        high=65_536,
    )
    precise_bn: int = option(
        0,
        "batches over which batch norm is re-estimated before validation",
        group=OPTIMISER,
        low=0,
        high=MANY,
    )

    gpus: int | None = option(
        None, "GPUs to use; 0 is the CPU (default: all there are)", group=MACHINE, low=0, high=1024
    )
    precision: str = option(
        "auto", "number format", group=MACHINE, choices=("auto", "fp32", "bf16", "fp16")
    )
    deterministic: bool = option(
        False, "give the same bits each time on GPUs too, by slower algorithms", group=MACHINE
    )
    workers: int | None = option(
        None,
        "processes that read clips (default: the cores, less one a device)",
        group=MACHINE,
        low=0,
        high=256,
    )
    batch_timeout: float = option(
        600.0,
        "seconds to wait for a batch before the run ends (0: for ever)",
        group=MACHINE,
        low=0,
        high=MANY,
    )
    micro_batch: str = option(
        "auto", "clips of one forward pass on a device: auto or a number", group=MACHINE
    )
    on_nan: str = option(
        "stop", "non-finite loss: stop, or skip:K to leave out up to K steps", group=MACHINE
    )

    random_seed: int = option(
        1, "seed of every random choice", group=RESULTS, low=0, high=2**63 - 1
    )
    model_dir: str | None = option(
        None, "folder of the results (default: results/<DATASET>)", group=RESULTS
    )
    task_name: str = option("", "added to the name of the results folder", group=RESULTS)
    log_file: str = option("", "log file (default: train.log in the results folder)", group=RESULTS)
    log_interval: int = option(
        20, "steps between two lines of the log", group=RESULTS, low=1, high=MANY
    )
    debug_mode: bool = option(
        False, "log debugging messages, and the groups of parameters", group=RESULTS
    )
    val_frequency: int = option(
        1,
        "epochs between two validations; the last epoch has one anyway",
        group=RESULTS,
        low=1,
        high=MANY,
    )
    save_frequency: int = option(
        1, "epochs between two kept checkpoints", group=RESULTS, low=1, high=MANY
    )
    save_steps: int = option(
        0, "steps between two writes of last.pth (0: by epoch)", group=RESULTS, low=0, high=MANY
    )
    save_minutes: float = option(
        10.0, "minutes between two writes of last.pth (0: by epoch)", group=RESULTS, low=0, high=1e6
    )
    keep: int = option(
        0, "how many epochs' checkpoints to keep (0: all)", group=RESULTS, low=0, high=MANY
    )
    keep_optimiser: str = option(
        "newest",
        "which checkpoints of epochs keep the optimiser's state: the newest two, or all",
        group=RESULTS,
        choices=("newest", "all"),
    )
    resume: str = option(
        "no",
        "auto goes on from the newest whole checkpoint where there is one",
        group=RESULTS,
        choices=("no", "auto"),
    )
    resume_epoch: int = option(
        0, "epoch to go on with, weights from --pretrained-3d", group=RESULTS, low=0, high=100_000
    )
    overwrite: bool = option(
        False, "delete the earlier run in the results folder and start anew", group=RESULTS
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
        for item in fields(self):
            self._check_numbers(item)
        self._check_words()
        if not self.train_frame_interval:
            raise TrainError("--train-frame-interval: give at least one number")
        if any(after <= before for before, after in itertools.pairwise(self.lr_steps)):
            raise TrainError(
                f"--lr-steps {_written(self.lr_steps)}: must rise from one to the next"
            )
        stretch = self.multigrid_epochs if self.multigrid == "paper" else 1
        if self.warmup_epochs > self.end_epoch * stretch:
            raise TrainError(
                f"--warmup-epochs {self.warmup_epochs:g}: the warm-up must end within the run's "
                f"{self.end_epoch * stretch:g} epochs"
            )
        if self.log_file and not Path(self.log_file).absolute().parent.is_dir():
            raise TrainError(f"--log-file {self.log_file}: its folder does not exist")
        if self.wandb and not importlib.util.find_spec("wandb"):
            raise TrainError("--wandb needs its package: pip install wandb")
        if self.resume == "auto" and self.resume_epoch:
            raise TrainError("--resume auto and --resume-epoch exclude each other: give one")
        if self.overwrite and (self.resume == "auto" or self.resume_epoch):
            raise TrainError("--overwrite starts anew: give it without --resume or --resume-epoch")

    def _check_numbers(self, item: Field) -> None:
        """Raise TrainError where a number of the field is out of its bounds."""
        bounds, value = item.metadata.get("bounds"), getattr(self, item.name)
        if bounds is None or value is None:
            return
        numbers = value if isinstance(value, list) else [value]
        if len(numbers) > LONGEST_LIST:
            raise TrainError(f"{_flag(item.name)}: at most {LONGEST_LIST} numbers, not more")
        for number in numbers:
            if not bounds.hold(number):
                raise TrainError(f"{_flag(item.name)} {shortened(number)}: must be {bounds}")

    def _check_words(self) -> None:
        """Raise TrainError where `micro_batch` or `on_nan` is neither word nor number."""
        if self.skippable_steps < 0:
            raise TrainError(
                f"--on-nan {shortened(self.on_nan)}: give stop, or skip:K with a number K of steps"
            )
        if self.micro_batch != "auto" and not 1 <= _number(self.micro_batch) <= MANY:
            raise TrainError(
                f"--micro-batch {shortened(self.micro_batch)}: give auto or a number of clips "
                "from 1 on"
            )

    @property
    def skippable_steps(self) -> int:
        """How many steps with a non-finite loss may be left out; -1 where `on_nan` is nonsense."""
        word, _, number = self.on_nan.partition(":")
        if word == "stop" and not number:
            return 0
        return _number(number) if word == "skip" else -1


def bounds_of(name: str) -> Bounds:
    """The smallest and the largest value of the option `name`, a field of `Config`."""
    return Config.__dataclass_fields__[name].metadata["bounds"]


def _number(text: str) -> int:
    """The number that the text is, -1 where it is none, or too large to count to."""
    return int(text) if text.isdecimal() and len(text) < 10 else -1


def _written(numbers: list[int]) -> str:
    return ",".join(map(str, numbers))
