"""All options of a training run as one dataclass: values, help texts and checks.

`run.command_line` makes the command line from its fields. A field that is None by default takes the
default of its dataset, which `Config.with_defaults` fills in.
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
    group: str,
    default: Any,
    *,
    help: str,
    choices: tuple[str, ...] = (),
    bounds: tuple[float, ...] = (),
) -> Any:
    """Declare a field of `Config` that is an option of the command line.

    Args:
        group: heading of `--help` under which the option is listed.
        choices: the allowed values of a text; empty if any text is allowed.
        bounds: smallest and largest value of a number, or of each number in a list. Every option
            that takes numbers has them.
    """
    metadata: dict[str, Any] = {"help": help, "group": group, "choices": choices}
    if bounds:
        metadata["bounds"] = Bounds(*bounds)
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
SMALLEST_SIDE = 16  # height and width in pixels that every network takes
LONGEST_LIST = 50  # numbers in one option
MANY = 10**9  # upper bound of counts that have no natural one
#: Options that can follow from the input profile of pretrained weights.
FROM_PROFILE = {
    "clip_length", "clip_size", "crop_share", "clip_fps", "train_frame_interval",
    "val_frame_interval",
}  # fmt: skip
BELOW_ONE = Bounds(0, 1, exclusive=True)


@dataclass(frozen=True, kw_only=True)
class Config:
    """All options of one training run; `run.command_line` usually creates it."""

    benchmark: str = field(default="custom", metadata={"hidden": True})  # a key of DATASETS
    given: list[str] = field(default_factory=list, metadata={"hidden": True})  # by the user
    # how a run was planned anew, see train.schedule.replanning.Part; empty: as the options say
    schedule_parts: list[list[float]] = field(default_factory=list, metadata={"hidden": True})
    #: options that follow from the input profile of pretrained weights, with their values
    from_profile: dict = field(default_factory=dict, metadata={"hidden": True})

    # fmt: off
    dataset: str = option(DATA, "", help="folder of the dataset: the one that contains jpg/")
    labels: str | None = option(DATA, None,
        help="training csv, or folder of label csvs (default: see docs/data.md, Labels)")
    split: int = option(DATA, 1, bounds=(1, 100),
        help="number of the official split, for datasets that have several")
    variant: int | None = option(DATA, None, bounds=(1, 10_000),
        help="Kinetics only: number of classes, 200, 400, 600 or 700")
    clip_length: int | None = option(DATA, None, help="frames of a clip", bounds=(1, 1024))
    clip_size: int | None = option(DATA, None, bounds=(SMALLEST_SIDE, 2048),
        help="height and width of a clip, in pixels")
    train_frame_interval: list[int] | None = option(DATA, None, bounds=(1, 10_000),
        help="training: take every N-th frame of a video; several N: each clip takes one at random")
    val_frame_interval: int | None = option(DATA, None, bounds=(1, 10_000),
        help="validation: take every N-th frame of a video")
    clip_fps: float | None = option(DATA, None, bounds=(0.01, 10_000),
        help="frames per second of every clip, instead of the two frame intervals (default: off)")
    crop_share: float | None = option(DATA, None, bounds=(0.01, 1),
        help="side of the crop relative to the frame's short side (default: the dataset's)")
    augmentation: str = option(DATA, "readme",
        help="readme (the original's imgaug pipeline, compiled), imgaug (the same pipeline, "
             "run by imgaug itself), randaugment, colour, none, or a Python file that defines "
             "`pipeline`")
    flip: bool = option(DATA, False,
        help="mirror half of the training clips; not if classes differ only by left and right")
    crop: str = option(DATA, "random", choices=("random", "multiscale"),
        help="how training clips are cropped: at one scale (random) or at several (multiscale)")
    erase: float = option(DATA, 0.0, bounds=(0, 1),
        help="probability that one box of a training clip is erased")
    start: str = option(DATA, "uniform", choices=("uniform", "normal"),
        help="how the first frame is drawn: uniform, or normal (around the middle of the video)")
    short_videos: str = option(DATA, "loop", choices=("loop", "hold"),
        help="a video shorter than a clip starts again (loop) or repeats its last frame (hold)")
    skip_bad: bool = option(DATA, False,
        help="leave out label rows and videos that cannot be used, then count and list them")

    network: str = option(MODEL, "srtg_r3d_34",
        help="name of the network (listed by python -m run.networks)")
    gates: bool = option(MODEL, False,
        help="SRTG: apply the recurrence only to cycle-consistent clips")
    place: str = option(MODEL, "final", choices=("start", "top", "mid", "bottom", "res", "final"),
        help="SRTG: position of the recurrence in the residual block")
    recurrent_init: str = option(MODEL, "open", choices=("open", "default"),
        help="SRTG: initial biases of the recurrence: open (output near 1) or PyTorch's default")
    pretrained_3d: str | None = option(MODEL, None,
        help="weights to start from: a name that python -m run.networks --pretrained lists, or a "
             "checkpoint of this or another project. They also set the network and the clips' "
             "shape and rate, unless you give these")
    pretrained_partial: bool = option(MODEL, False,
        help="load the weights that fit instead of refusing if some do not")
    fine_tune: bool = option(MODEL, False,
        help="use lower learning rates for all layers except the classifier")
    backbone_lr: float = option(MODEL, 0.6, bounds=(0, 1000),
        help="fine-tuning: learning rate of all other layers, as a factor of the classifier's")
    recurrent_lr: float = option(MODEL, 0.5, bounds=(0, 1000),
        help="fine-tuning: learning rate of LSTM and GRU layers, as a factor of the classifier's")
    head_epochs: float = option(MODEL, 0.0, bounds=(0, 100_000),
        help="epochs at the start in which only the classifier learns")
    freeze_until: str = option(MODEL, "",
        help="layers before this one do not learn: with layer3, the layers from layer3 on learn; "
             "with fc, only the classifier does")
    freeze_bn: bool = option(MODEL, False,
        help="batch norm keeps the running statistics of the loaded weights")

    recipe: str = option(SCHEDULE, "auto",
        choices=("auto", "original", "scratch", "finetune", "probe"),
        help="which values options have that you do not give: those of original (the original "
             "code), scratch (for few clips), finetune (for --pretrained-3d) or probe (train only "
             "the classifier); auto chooses one, see docs/training.md")
    batch_size: int | None = option(SCHEDULE, None, bounds=(1, 65_536),
        help="clips of a step on all devices together, at full clip length and size")
    multigrid: str = option(SCHEDULE, "epoch", choices=("epoch", "paper", "off"),
        help="multigrid: epoch (all clip shapes in every epoch), paper (Wu et al. 2020) or off")
    long_cycles: bool = option(SCHEDULE, True,
        help="multigrid: use the long cycle (phases with shorter and smaller clips)")
    short_cycles: bool = option(SCHEDULE, True,
        help="multigrid: use the short cycle (clip size changes from step to step)")
    multigrid_epochs: float = option(SCHEDULE, 1.5, bounds=(0.01, 10),
        help="multigrid paper: number of epochs, as a multiple of --end-epoch")
    multigrid_frames: list[int] = option(SCHEDULE, [4, 2, 2, 1], bounds=(1, 1024),
        help="multigrid: divide the clip length by these, one for each shape of the long cycle")
    multigrid_areas: list[int] = option(SCHEDULE, [2, 2, 1, 1], bounds=(1, 1024),
        help="multigrid: divide the clip area by these, one for each shape of the long cycle")
    multigrid_short: list[int] = option(SCHEDULE, [4, 2], bounds=(1, 1024),
        help="multigrid: divide the clip area by these in the other steps of the short cycle")
    multigrid_lr_power: float | None = option(SCHEDULE, None, bounds=(0, 1),
        help="multigrid: the learning rate is proportional to this power of the batch size "
             "(default: 1 for SGD, 0.5 for AdamW)")
    end_epoch: int | None = option(SCHEDULE, None, help="number of epochs", bounds=(1, 10_000))
    max_minutes: float = option(SCHEDULE, 0.0, bounds=(0, 1e6),
        help="minutes that the run may take: if its epochs take longer, the whole schedule is "
             "compressed into fewer of them (0: no limit)")
    lr_base: float | None = option(SCHEDULE, None, help="initial learning rate", bounds=(0, 1000))
    lr_policy: str = option(SCHEDULE, "step", choices=("step", "cosine", "constant"),
        help="how the learning rate changes during the run")
    lr_steps: list[int] | None = option(SCHEDULE, None, bounds=(1, MANY),
        help="epochs after which the learning rate is multiplied by --lr-factor")
    lr_factor: float = option(SCHEDULE, 0.1, bounds=(0, 1e6),
        help="factor of the learning rate after each of --lr-steps")
    warmup_epochs: float = option(SCHEDULE, 0.0, bounds=(0, 100_000),
        help="epochs in which the learning rate rises linearly from 0")

    optimiser: str = option(OPTIMISER, "sgd", help="optimiser", choices=("sgd", "adamw"))
    momentum: float = option(OPTIMISER, 0.9, help="Nesterov momentum of SGD", bounds=BELOW_ONE)
    weight_decay: float = option(OPTIMISER, 1e-4, help="weight decay", bounds=(0, 10))
    decay_norms: bool = option(OPTIMISER, True,
        help="apply weight decay to biases and normalisation layers too")
    label_smoothing: float = option(OPTIMISER, 0.0, help="label smoothing", bounds=BELOW_ONE)
    clip_grad: float = option(OPTIMISER, 0.0, bounds=(0, 1e6),
        help="largest norm of the gradient, which is scaled down to it (0: no clipping)")
    ema: float = option(OPTIMISER, 0.0, bounds=BELOW_ONE,
        help="decay of the exponential moving average of the weights (0: none)")
    mixup: float = option(OPTIMISER, 0.0, help="alpha of mixup (0: off)", bounds=(0, 100))
    cutmix: float = option(OPTIMISER, 0.0, help="alpha of cutmix (0: off)", bounds=(0, 100))
    bn_clips: int = option(OPTIMISER, 8, bounds=(0, 65_536),
        help="clips over which batch norm takes its statistics (0: the whole batch)")
    precise_bn: int = option(OPTIMISER, 0, bounds=(0, MANY),
        help="batches that compute batch norm's statistics anew before validation (0: off)")

    gpus: int | None = option(MACHINE, None, bounds=(0, 1024),
        help="number of GPUs; 0 trains on the CPU (default: all)")
    precision: str = option(MACHINE, "auto", choices=("auto", "fp32", "bf16", "fp16"),
        help="number format of the forward pass; auto is bf16 or fp16 on a GPU, fp32 on the CPU")
    deterministic: bool = option(MACHINE, False,
        help="use deterministic algorithms on GPUs: slower, but the same bits each time")
    workers: int | None = option(MACHINE, None, bounds=(0, 256),
        help="processes that load clips (default: the CPU cores, minus one per device)")
    batch_timeout: float = option(MACHINE, 600.0, bounds=(0, MANY),
        help="seconds to wait for a batch before the run ends with an error (0: no limit)")
    micro_batch: str = option(MACHINE, "auto",
        help="clips of a micro-batch on one device: auto (as many as fit the memory) or a number")
    on_nan: str = option(MACHINE, "stop",
        help="after a loss that is not finite: stop, or skip:K to leave out up to K such steps")

    random_seed: int = option(RESULTS, 1, help="seed of every random choice", bounds=(0, 2**63 - 1))
    seeds: list[int] = option(RESULTS, [], bounds=(0, 2**63 - 1),
        help="train once with each of these seeds, each in a results folder of its own, and "
             "compare the runs: mean, spread, curves")
    model_dir: str | None = option(RESULTS, None,
        help="folder of the results (default: results/<DATASET>)")
    task_name: str = option(RESULTS, "", help="text added to the name of the results folder")
    log_file: str = option(RESULTS, "", help="log file (default: train.log in the results folder)")
    log_interval: int = option(RESULTS, 20, help="steps between two log lines", bounds=(1, MANY))
    debug_mode: bool = option(RESULTS, False,
        help="log debugging messages and the optimiser's parameter groups")
    val_frequency: int = option(RESULTS, 1, bounds=(1, MANY),
        help="epochs between two validations; the last epoch always has one")
    save_frequency: int = option(RESULTS, 1, bounds=(1, MANY),
        help="epochs between two checkpoints that are kept")
    save_steps: int = option(RESULTS, 0, bounds=(0, MANY),
        help="steps between two saves of last.pth within an epoch (0: not by steps)")
    save_minutes: float = option(RESULTS, 10.0, bounds=(0, 1e6),
        help="minutes between two saves of last.pth within an epoch (0: not by time)")
    epoch_save_seconds: float = option(RESULTS, 30.0, bounds=(0, 1e6),
        help="at the end of an epoch, write last.pth, curves.png and report.html only if the files "
             "are older than this many seconds (0: always); the first and the last epoch always "
             "write them")
    keep: int = option(RESULTS, 0, bounds=(0, MANY),
        help="number of epochs whose checkpoints are kept (0: all)")
    keep_optimiser: str = option(RESULTS, "newest", choices=("newest", "all"),
        help="which epochs' checkpoints keep the optimiser state: the newest two, or all")
    resume: str = option(RESULTS, "no", choices=("no", "auto"),
        help="auto: continue from the newest undamaged checkpoint, or start if there is none")
    resume_epoch: int = option(RESULTS, 0, bounds=(0, 100_000),
        help="continue with this epoch, from the weights of --pretrained-3d (0: off)")
    overwrite: bool = option(RESULTS, False,
        help="delete the earlier run in the results folder and start again")
    tensorboard: bool = option(RESULTS, True, help="write TensorBoard event files")
    wandb: str = option(RESULTS, "", help="Weights & Biases project to log to")
    plan: bool = option(RESULTS, False, help="print and draw the schedule, and train nothing")
    # fmt: on

    def with_defaults(self, **values: Any) -> Config:
        """Return a copy in which the fields that are None have the dataset's `values`."""
        return replace(self, **{k: v for k, v in values.items() if getattr(self, k) is None})

    def check(self) -> None:
        """Raise TrainError with one sentence if a value or a combination is impossible."""
        needed = ("clip_length", "clip_size", "batch_size", "end_epoch", "lr_base", "lr_steps")
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise TrainError(f"no value for {', '.join(missing)}")
        for item in fields(self):
            self._check_numbers(item)
        self._check_words()
        self._check_weights()
        if not self.train_frame_interval:
            raise TrainError("--train-frame-interval: give at least one number")
        if any(after <= before for before, after in itertools.pairwise(self.lr_steps)):
            raise TrainError(
                f"--lr-steps {_written(self.lr_steps)}: must increase from one to the next"
            )
        self._check_multigrid()
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
        if len(set(self.seeds)) < len(self.seeds):
            raise TrainError(f"--seeds {_written(self.seeds)}: give each seed once")
        for option_name in ("random_seed", "resume_epoch"):
            if self.seeds and option_name in self.given:
                raise TrainError(f"--seeds and {_flag(option_name)} exclude each other: give one")
        if self.overwrite and (self.resume == "auto" or self.resume_epoch):
            raise TrainError("--overwrite starts anew: give it without --resume or --resume-epoch")

    def _check_numbers(self, item: Field) -> None:
        """Raise TrainError if a number of the field is out of its bounds."""
        bounds, value = item.metadata.get("bounds"), getattr(self, item.name)
        if bounds is None or value is None:
            return
        numbers = value if isinstance(value, list) else [value]
        if len(numbers) > LONGEST_LIST:
            raise TrainError(f"{_flag(item.name)}: at most {LONGEST_LIST} numbers")
        for number in numbers:
            if not bounds.hold(number):
                raise TrainError(f"{_flag(item.name)} {shortened(number)}: must be {bounds}")

    def _check_multigrid(self) -> None:
        """Raise TrainError if the long cycle does not go from coarse shapes to the full one."""
        if len(self.multigrid_frames) != len(self.multigrid_areas) or not self.multigrid_areas:
            raise TrainError(
                "--multigrid-frames and --multigrid-areas must have equally many numbers, one of "
                "each for each shape of the long cycle"
            )
        divisors = zip(self.multigrid_frames, self.multigrid_areas, strict=True)
        products = [time * area for time, area in divisors]
        if products != sorted(products, reverse=True) or products[-1] != 1:
            raise TrainError(
                "--multigrid-frames and --multigrid-areas must go from coarse to fine: their "
                "products must not increase, and the last of both is 1"
            )

    def _check_weights(self) -> None:
        """Raise TrainError if options keep or tune weights that the run does not load."""
        if "freeze_until" in self.given and self.recipe == "probe" and self.freeze_until != "fc":
            raise TrainError(
                "--recipe probe trains the classifier alone: leave out --freeze-until, or give "
                "--recipe finetune"
            )
        if self.precise_bn and (self.freeze_bn or self.freeze_until):
            raise TrainError(
                "--precise-bn computes the statistics that --freeze-bn, --freeze-until and "
                "--recipe probe keep: leave one of them out"
            )
        if self.pretrained_3d or self.resume == "auto" or self.resume_epoch:
            return
        for name, asked in (
            (f"--recipe {self.recipe}", self.recipe in ("finetune", "probe")),
            (f"--freeze-until {self.freeze_until}", self.freeze_until),
            ("--freeze-bn", self.freeze_bn),
        ):
            if asked:
                raise TrainError(
                    f"{name} needs trained weights, and a new run starts with random ones: give "
                    "--pretrained-3d FILE"
                )

    def _check_words(self) -> None:
        """Raise TrainError if `micro_batch` or `on_nan` is neither a known word nor a number."""
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
        """How many steps with a non-finite loss may be left out; -1 if `on_nan` is invalid."""
        word, _, number = self.on_nan.partition(":")
        if word == "stop" and not number:
            return 0
        return _number(number) if word == "skip" else -1


def bounds_of(name: str) -> Bounds:
    """Return the smallest and the largest value of the option `name`, a field of `Config`."""
    return Config.__dataclass_fields__[name].metadata["bounds"]


def _number(text: str) -> int:
    """Return a text as a whole number; -1 if it is not one or has more than nine digits."""
    return int(text) if text.isdecimal() and len(text) < 10 else -1


def _written(numbers: list[int]) -> str:
    return ",".join(map(str, numbers))
