"""Everything a run needs, built from its configuration: data, schedule, network, optimiser."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from data.annotations.dataset_fingerprint import Fingerprint, fingerprint
from data.annotations.duplicate_videos import warn_of_overlap
from data.annotations.splits import open_split
from data.augment.presets import check_pipeline
from data.clips.clip_dataset import ClipDataset, ClipOptions
from data.clips.loader import Batch, StepPlan, training_loader, validation_loader
from data.clips.loader_workers import Batches
from data.datasets import DatasetSpec, dataset_spec
from network import build_network, load_weights
from train.batchnorm import StepNorms, shortage
from train.checkpoint.opening import check_scaler, check_tensors, load_checkpoint
from train.checkpoint.resume import newest_checkpoint
from train.checkpoint.saving import OPTIMISER
from train.config import Config
from train.devices import Devices, usable_cores
from train.distributed import all_reduce_sum
from train.memory import clips_per_pass
from train.metrics import Meter
from train.optimiser import (
    build_optimiser,
    groups_table,
    optimiser_problem,
    restore_optimiser,
    saved_groups,
)
from train.rank_agreement import broadcast_state, check_same_run, check_same_state, run_in_all_ranks
from train.results.history import History, check_history, read_history, restored_history
from train.results.recorder import results_folder
from train.schedule.schedule import Schedule, make_schedule
from train.speed_monitor import SpeedReport
from train.step_outcome import StepOutcome
from train.train_errors import OtherRunError, TrainError

log = logging.getLogger(__name__)

#: Options that a run may change while it is resumed. Those of the machine (devices, passes)
#: change how sums are rounded and batch norm's batches are cut, none what is trained.
FREE = {
    "dataset",
    "labels",
    "gpus",
    "deterministic",
    "workers",
    "batch_timeout",
    "micro_batch",
    "model_dir",
    "task_name",
    "log_file",
    "log_interval",
    "debug_mode",
    "val_frequency",
    "save_frequency",
    "save_steps",
    "save_minutes",
    "keep",
    "keep_optimiser",
    "overwrite",
    "resume",
    "pretrained_3d",
    "tensorboard",
    "wandb",
    "plan",
    "on_nan",
}


@dataclass
class Job:
    """One run. `epoch` is the epoch under way and `step` the next step; the loop moves them on."""

    config: Config
    devices: Devices
    folder: Path
    classes: tuple[str, ...]
    fingerprint: str
    schedule: Schedule
    train_clips: ClipDataset
    val_clips: ClipDataset
    net: nn.Module  # bare: what is saved and counted
    spread_net: nn.Module  # the same, on all devices
    norms: StepNorms  # its batch norm
    ema: AveragedModel | None
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    per_pass: Callable[[int, int], int]
    meter: Meter  # of the epoch under way
    epoch: int = 1
    step: int = 0
    best_top1: float = -1.0
    skipped_steps: int = 0
    overflows: int = 0  # steps in a row, up to the last one settled, that updated nothing
    unsettled: StepOutcome | None = None  # the step taken last, until its outcome is read
    speed: SpeedReport | None = None  # of the steps that were logged last
    unreadable: set[int] = field(default_factory=set)  # videos that --skip-bad has replaced
    history: History = field(default_factory=History)  # scores of the finished epochs

    def training_batches(self, look: Callable[[], None] | None = None) -> Batches[Batch]:
        """The loader of all the steps that are left. `look`: see `loader_workers.Batches`."""
        return training_loader(
            self.train_clips,
            self.schedule.plan,
            range(self.step, self.schedule.total_steps),
            seed=self.config.random_seed,
            look=look,
            **self._loading(),
        )

    def validation_batches(self, look: Callable[[], None] | None = None) -> Batches[Batch]:
        """The loader of the validation clips, at the full shape.

        Batches are those of training, but no larger than what training has room for: averaged
        weights are scored on one GPU, whatever the number of GPUs. `look`: see `Batches`.
        """
        gpus = 1 if self.ema else len(self.devices.all)
        batch = min(self.config.batch_size // self.devices.world, gpus * self._fitting_clips())
        return validation_loader(
            self.val_clips,
            max(1, batch),
            self.config.clip_length,
            self.config.clip_size,
            look=look,
            **self._loading(),
        )

    def plain_batches(self, number: int) -> Batches[Batch]:
        """The loader of up to `number` batches of training clips, cut as validation cuts them.

        At the full shape, drawn by (seed, epoch): the first ones of the list are often all of one
        class. Where a batch does not fit a device, more and smaller ones have as many clips.
        """
        clips = ClipDataset(
            self.train_clips.videos,
            self.val_clips.options,
            training=False,
            seed=self.config.random_seed,
        )
        batch = min(self.config.batch_size, len(clips), self._fitting_clips() * self.devices.world)
        number = number * self.config.batch_size // batch
        plan = functools.partial(
            _plain_plan,
            epoch=self.epoch,
            batch=batch,
            frames=self.config.clip_length,
            size=self.config.clip_size,
        )
        steps = range(min(number, len(clips) // batch))
        return training_loader(clips, plan, steps, seed=self.config.random_seed, **self._loading())

    def _fitting_clips(self) -> int:
        """How many clips of the full shape one device has room for, in training."""
        return self.per_pass(self.config.clip_length, self.config.clip_size)

    def _loading(self) -> dict[str, Any]:
        return {
            "workers": self.config.workers,
            "rank": self.devices.rank,
            "world": self.devices.world,
            "pin_memory": self.devices.pin_memory,
            "timeout": self.config.batch_timeout,
        }

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds: enough to go on as if nothing had happened."""
        return {
            "state_dict": self.net.state_dict(),
            "epoch": self.epoch - 1,
            "step": self.step,
            OPTIMISER: self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
            "meter": all_reduce_sum(self.devices, self.meter.sums).cpu(),
            "counts": counts(self.net),
            "best_top1": self.best_top1,
            "skipped_steps": self.skipped_steps,
            "history": self.history.rows(),
            "config": asdict(self.config),
            "classes": list(self.classes),
            "fingerprint": self.fingerprint,
        }

    def check_state(self, path: Path, state: dict[str, Any]) -> None:
        """Check everything in `state`, the content of `path`, against this run; changes nothing.

        Raises:
            OtherRunError: it is of another run.
            TrainError: it is damaged.
        """
        self._check_same_run(path, state)
        check_tensors(path, "state_dict", state["state_dict"], self.net.state_dict())
        if self.ema:
            check_tensors(path, "ema", state["ema"] or {}, self.ema.state_dict())
        check_tensors(path, "counts", state["counts"], counts(self.net))
        check_tensors(path, "scores", {"meter": state["meter"]}, {"meter": self.meter.sums})
        check_scaler(path, state["scaler"], self.scaler)
        if OPTIMISER in state:
            problem = optimiser_problem(self.optimiser, state[OPTIMISER])
            if problem:
                raise TrainError(f"{path}: the optimiser's state cannot be used: {problem}")
        check_history(path, state)
        epoch, step = state["epoch"] + 1, state["step"]
        if epoch <= self.schedule.epochs:
            steps = self.schedule.epoch_steps(epoch)
            if not steps.start <= step <= steps.stop:
                raise OtherRunError(
                    f"{path}: is at step {step} of epoch {epoch}, which here has the steps from "
                    f"{steps.start} to {steps.stop}: it is of another schedule; take its weights "
                    "by --pretrained-3d"
                )

    def share_first_state(self) -> None:
        """Give every process the first one's state, and make sure that all have it.

        Raises:
            TrainError: a process has another step or other weights than the first one.
        """
        if self.devices.world == 1:
            return
        state = broadcast_state(self.devices, self.state())
        if not self.devices.is_first:
            self.take_state(state)
        state = self.state()
        shared = {name: state[name] for name in ("state_dict", OPTIMISER, "ema")}
        check_same_state(self.devices, self.step, shared)

    def take_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned, in an earlier run or in this one's first process.

        What comes from a file is checked by `check_state` before.
        """
        self.net.load_state_dict(state["state_dict"])
        if OPTIMISER in state:
            restore_optimiser(self.optimiser, state[OPTIMISER])
        if state["scaler"]:  # empty where the precision was another one
            self.scaler.load_state_dict(state["scaler"])
        if self.ema:
            self.ema.load_state_dict(state["ema"])
        if self.devices.is_first:  # the sums are of all processes
            self.meter.sums.copy_(state["meter"])
            for name, count in counts(self.net).items():
                count.copy_(state["counts"][name])
        self.epoch, self.step = state["epoch"] + 1, state["step"]
        self.best_top1, self.skipped_steps = state["best_top1"], state["skipped_steps"]
        self.history = restored_history(state, self.folder)
        self.history.keep_until(self.epoch - 1)

    def _check_same_run(self, path: Path, state: dict[str, Any]) -> None:
        dataset, earlier = map(Fingerprint.parse, (self.fingerprint, state["fingerprint"]))
        conflict, remark = dataset.conflict(earlier), dataset.remark(earlier)
        if conflict:
            raise OtherRunError(
                f"{path}: was trained on a dataset with {conflict}; resume with the same one, or "
                "take its weights by --pretrained-3d"
            )
        if remark:
            log.warning("%s: %s", path, remark)
        now, then = asdict(self.config), state["config"]
        free = set(FREE)
        if self.config.lr_policy != "cosine" and self.config.multigrid != "paper":
            free.add("end_epoch")  # more epochs change nothing of the earlier ones
        other = [k for k in now if k not in free and k in then and now[k] != then[k]]
        if other:
            name = other[0]
            raise OtherRunError(
                f"{path}: was trained with --{name.replace('_', '-')} {then[name]}, not "
                f"{now[name]}; give the same options, or take its weights by --pretrained-3d"
            )


def _plain_plan(step: int, *, epoch: int, batch: int, frames: int, size: int) -> StepPlan:
    return StepPlan(epoch, step * batch, batch, frames, size)


def counts(net: nn.Module) -> dict[str, torch.Tensor]:
    """Buffers that are no part of the state dict: what the gates have counted in this epoch."""
    kept = net.state_dict().keys()
    return {name: buffer for name, buffer in net.named_buffers() if name not in kept}


def prepare(config: Config, devices: Devices) -> Job:
    """Build the run that `config` describes, at its start or where `--resume` puts it.

    Raises:
        TrainError, DataError, NetworkError: something cannot be used.
    """
    config = replace(config, workers=_workers(config, devices), precision=devices.precision)
    train_clips, val_clips, schedule, net = run_in_all_ranks(
        devices, lambda: _open(config, devices)
    )
    classes = train_clips.videos.classes
    dataset = run_in_all_ranks(devices, lambda: fingerprint(train_clips.videos, val_clips.videos))
    check_same_run(devices, config, dataset)
    norms = StepNorms(net, devices, config.bn_clips)
    trouble = shortage(devices, config.batch_size, config.bn_clips)
    if trouble and devices.is_first:
        log.warning(trouble)
    per_pass = clips_per_pass(net, devices, config.micro_batch, _shapes(schedule))
    optimiser = build_optimiser(net, config)
    if devices.device_count > 1:
        log.info(
            "each of %d devices takes its share of a step's %d clips; the learning rate, %g, is "
            "that of the whole step", devices.device_count, config.batch_size, config.lr_base,
        )  # fmt: skip
    if config.fine_tune or config.debug_mode:
        log.info("parameter groups\n%s", groups_table(optimiser))
    ema = None
    if config.ema:
        ema = AveragedModel(net, device=devices.device)
    job = Job(
        config=config,
        devices=devices,
        folder=results_folder(config),
        classes=classes,
        fingerprint=str(dataset),
        schedule=schedule,
        train_clips=train_clips,
        val_clips=val_clips,
        net=net,
        spread_net=devices.parallelise(net),
        norms=norms,
        ema=ema,
        optimiser=optimiser,
        scaler=devices.grad_scaler(),
        per_pass=per_pass,
        meter=Meter(devices.device),
    )
    # only the first process needs to see the files that the run goes on from
    run_in_all_ranks(devices, lambda: _resume(job) if devices.is_first else None)
    job.share_first_state()
    return job


def _open(config: Config, devices: Devices) -> tuple[ClipDataset, ClipDataset, Schedule, nn.Module]:
    """The parts of a run that each process makes for itself: clips, schedule and network."""
    _check_names(config, devices)
    spec = dataset_spec(config.benchmark, config.variant)
    train_clips, val_clips = _open_clips(config, spec)
    schedule = make_schedule(config, len(train_clips))
    check_shares(schedule, devices.world)
    torch.manual_seed(config.random_seed)
    net = _network(config, len(train_clips.videos.classes), devices)
    return train_clips, val_clips, schedule, net


def _shapes(schedule: Schedule) -> list[StepPlan]:
    """Each shape with its largest batch, most pixels first; the full one, of validation, always."""
    shapes, full = schedule.largest_shapes(), schedule.full
    if any((shape.frames, shape.size) == (full.frames, full.size) for shape in shapes):
        return shapes
    return [StepPlan(1, 0, *full), *shapes]


def check_shares(schedule: Schedule, world: int) -> None:
    """Raise TrainError where a step has fewer clips than there are processes to share them."""
    smallest, _ = schedule.batch_range()
    if smallest >= world:
        return
    enough = 2 * world  # steps have at least half of the batch
    larger = f", or raise --batch-size to {enough}" if schedule.full.batch < enough else ""
    raise TrainError(
        f"the smallest step of this run has {smallest} clips, which {world} processes cannot "
        f"share: start at most {smallest} processes{larger}"
    )


def _check_names(config: Config, devices: Devices) -> None:
    """Check what the options name before the dataset is scanned, which can take minutes."""
    check_pipeline(config.augmentation)
    with torch.device("meta"):  # costs no memory and next to no time
        _build(config, 2)
    missing = config.pretrained_3d and not Path(config.pretrained_3d).is_file()
    if missing and devices.is_first:  # the others receive its weights
        raise TrainError(f"--pretrained-3d {config.pretrained_3d}: there is no such file")


def _workers(config: Config, devices: Devices) -> int:
    if config.workers is not None:
        return config.workers
    return max(1, usable_cores() // devices.local_world_size - max(1, devices.gpus))


def clip_options(config: Config, spec: DatasetSpec, *, training: bool) -> ClipOptions:
    """What the clips of a split have in common.

    The crop's share of the view is the dataset's own (clip size to short side), at any --clip-size.
    """
    return ClipOptions(
        intervals=tuple(config.train_frame_interval) if training else (config.val_frame_interval,),
        short_side=round(spec.short_side * config.clip_size / spec.clip_size),
        clip_size=config.clip_size,
        augmentation=config.augmentation,
        flip=config.flip,
        crop=config.crop,
        erase=config.erase,
        start=config.start,
        short_videos=config.short_videos,
        skip_bad=config.skip_bad,
    )


def _open_clips(config: Config, spec: DatasetSpec) -> tuple[ClipDataset, ClipDataset]:
    where = {"labels": config.labels, "split": config.split, "skip_bad": config.skip_bad}
    train = open_split(spec, config.dataset, "train", **where)
    if len(train.classes) < 2:
        raise TrainError(
            f"{train.source}: all videos are of one class, {train.classes[0]!r}; "
            "training needs at least two"
        )
    val = open_split(spec, config.dataset, "val", classes=train.classes, **where)
    log.info("%d training and %d validation videos", len(train), len(val))
    warn_of_overlap(train, val)
    train_clips, val_clips = (
        ClipDataset(
            videos,
            clip_options(config, spec, training=training),
            training=training,
            seed=config.random_seed,
        )
        for videos, training in ((train, True), (val, False))
    )
    return train_clips, val_clips


def _build(config: Config, n_classes: int) -> nn.Module:
    return build_network(
        config.network,
        n_classes,
        gates=config.gates,
        place=config.place,
        recurrent_init=config.recurrent_init,
    )


def _network(config: Config, n_classes: int, devices: Devices) -> nn.Module:
    net = _build(config, n_classes)
    if config.pretrained_3d and devices.is_first:  # the others receive its weights
        report = load_weights(net, config.pretrained_3d)
        log.info(
            "%s: %d tensors loaded, %d skipped, %d missing",
            config.pretrained_3d,
            len(report.loaded),
            len(report.skipped),
            len(report.missing),
        )
        for name, reason in report.skipped:
            log.info("skipped %s: %s", name, reason)
    return net.to(devices.device)


def _resume(job: Job) -> None:
    config = job.config
    if config.resume == "auto":
        found = newest_checkpoint(job.folder, config.network, job.check_state)
        if found:
            path, state = found
            job.take_state(state)
            log.info("goes on from %s: epoch %d, step %d", path, job.epoch, job.step)
            if OPTIMISER not in state:
                log.warning(
                    "%s was saved without the optimiser's state, which saves disk space (see "
                    "--keep-optimiser): the optimiser starts anew, so the results will differ "
                    "from those of a run that was never interrupted", path,
                )  # fmt: skip
    elif config.resume_epoch:
        if not config.pretrained_3d:
            log.warning("--resume-epoch without --pretrained-3d: the weights are random")
        if config.resume_epoch > job.schedule.epochs:
            raise TrainError(
                f"--resume-epoch {config.resume_epoch} is past the last epoch, "
                f"{job.schedule.epochs}: raise --end-epoch"
            )
        job.epoch = config.resume_epoch
        job.step = job.schedule.epoch_steps(job.epoch).start
        job.history = read_history(job.folder)
        job.history.keep_until(job.epoch - 1)
        if config.pretrained_3d and not config.fine_tune:
            _take_optimiser(job, Path(config.pretrained_3d))


def _take_optimiser(job: Job, path: Path) -> None:
    """Take the optimiser's state too, where the checkpoint is ours and of the same network."""
    try:
        state = load_checkpoint(path)
    except TrainError as error:
        log.warning("the optimiser starts afresh: %s", error)
        return
    if OPTIMISER not in state:
        log.warning(
            "the optimiser starts afresh: %s was saved without its state, which saves disk space "
            "(see --keep-optimiser)", path,
        )  # fmt: skip
        return
    own = job.net.state_dict()
    shapes = {name: getattr(value, "shape", ()) for name, value in state["state_dict"].items()}
    if shapes != {name: tensor.shape for name, tensor in own.items()}:
        log.warning("the optimiser starts afresh: %s is of another network", path)
        return
    if state["config"]["optimiser"] != job.config.optimiser:
        log.warning("the optimiser starts afresh: it was %s", state["config"]["optimiser"])
        return
    if saved_groups(state[OPTIMISER]) != saved_groups(job.optimiser.state_dict()):
        log.warning("the optimiser starts afresh: its groups of parameters were others")
        return
    problem = optimiser_problem(job.optimiser, state[OPTIMISER])
    if problem:
        raise TrainError(f"{path}: the optimiser's state cannot be used: {problem}")
    averaged = job.ema and state["ema"]
    if averaged:
        check_tensors(path, "ema", state["ema"], job.ema.state_dict())
    check_scaler(path, state["scaler"], job.scaler)
    restore_optimiser(job.optimiser, state[OPTIMISER])
    if state["scaler"]:
        job.scaler.load_state_dict(state["scaler"])
    job.best_top1 = state["best_top1"]
    if averaged:
        job.ema.load_state_dict(state["ema"])
