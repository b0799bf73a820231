"""Build all that a run needs from its configuration: data, schedule, network, optimiser."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from data.annotations.dataset_fingerprint import fingerprint
from data.annotations.duplicate_videos import warn_of_overlap
from data.annotations.splits import open_split
from data.annotations.video_folders import Videos
from data.clips.clip_dataset import ClipDataset, ClipOptions
from data.clips.loader import StepPlan
from data.data_error import DataError
from data.dataset_defaults import DatasetSpec, dataset_spec
from data.store import FrameStore
from network import build_network
from network.input_profile import ASSUMED_FPS
from network.torchvision_networks import clip_limits
from train.batchnorm import StepNorms, shortage
from train.checkpoint.earlier_recipe import earlier_recipe
from train.checkpoint.resume import resume
from train.config import Config
from train.cpu_cores import usable_cores
from train.devices import Devices
from train.distributed import broadcast_object
from train.freezing import freeze, frozen_layers
from train.input_check import check_names
from train.memory import micro_batch_sizes
from train.metrics import Meter
from train.network_choice import NetworkChoice, build_chosen, choose_network, profile_of_run
from train.optimiser import OPTIMISER, build_optimiser, groups_table
from train.rank_agreement import broadcast_state, check_same_run, check_same_state, run_in_all_ranks
from train.recipe_choice import EarlierRecipe, RecipeChoice, complete_recipe
from train.results.results_folder import results_folder
from train.run_clock import RunClock
from train.schedule.multigrid_phases import paper_long_cycle
from train.schedule.steps_table import Schedule, make_schedule
from train.train_errors import TrainError
from train.training_run import TrainingRun
from train.video_losses import VideoLosses

log = logging.getLogger(__name__)


def agree_on_network(config: Config, devices: Devices) -> NetworkChoice:
    """Return the network of the run; only rank 0 needs to see weights and checkpoints.

    Raises:
        TrainError, NetworkError: the weights cannot be had, or contradict the options.
    """
    choice = run_in_all_ranks(devices, lambda: choose_network(config) if devices.is_first else None)
    if devices.world_size == 1:
        return choice
    shared = broadcast_object(devices, choice and replace(choice, weights=None))
    return choice or shared


def prepare(config: Config, devices: Devices, choice: NetworkChoice | None = None) -> TrainingRun:
    """Build the run that `config` describes, at its first step or where `--resume` continues.

    Args:
        config: the options.
        devices: the devices.
        choice: what `agree_on_network` returned, if it has been called.

    Raises:
        TrainError, DataError, NetworkError: options, data or a checkpoint cannot be used.
    """
    choice = choice or agree_on_network(config, devices)
    config = choice.fill_in(config)
    config = replace(config, workers=_workers(config, devices), precision=devices.precision)
    # only rank 0 needs to see the results folder
    earlier = run_in_all_ranks(
        devices, lambda: earlier_recipe(config) if devices.is_first else None
    )
    earlier = broadcast_object(devices, earlier)
    config, recipe, train_clips, val_clips, schedule, net = run_in_all_ranks(
        devices, lambda: _open(config, devices, choice, earlier)
    )
    dataset = run_in_all_ranks(devices, lambda: fingerprint(train_clips.videos, val_clips.videos))
    check_same_run(devices, config, dataset)
    norms = StepNorms(net, devices, config.bn_clips)
    micro_batch_size = micro_batch_sizes(
        net, devices, config.micro_batch, _shapes(config, schedule)
    )
    optimiser = build_optimiser(net, config)
    _log_setup(config, devices, optimiser)
    run = TrainingRun(
        config=config,
        devices=devices,
        folder=results_folder(config),
        classes=train_clips.videos.classes,
        fingerprint=str(dataset),
        recipe=recipe,
        schedule=schedule,
        train_clips=train_clips,
        val_clips=val_clips,
        net=net,
        parallel_net=devices.parallelise(net),
        norms=norms,
        ema=AveragedModel(net, device=devices.device) if config.ema else None,
        optimiser=optimiser,
        scaler=devices.grad_scaler(),
        micro_batch_size=micro_batch_size,
        meter=Meter(devices.device),
        losses=VideoLosses(len(train_clips), devices.device),
        clock=RunClock(len(val_clips)),
    )
    # only rank 0 needs to see the checkpoints on its disk; the other ranks receive its state
    run_in_all_ranks(devices, lambda: resume(run) if devices.is_first else None)
    broadcast_run(run)
    return run


def broadcast_run(run: TrainingRun) -> None:
    """Give every rank the state of rank 0, and check that all have it.

    Raises:
        TrainError: a rank has another step or other weights than rank 0.
    """
    if run.devices.world_size == 1:
        return
    state = broadcast_state(run.devices, run.state_dict())
    if not run.devices.is_first:
        run.load_state_dict(state)
    state = run.state_dict()
    shared = {name: state[name] for name in ("state_dict", OPTIMISER, "ema")}
    check_same_state(run.devices, run.step, shared)


def _log_setup(config: Config, devices: Devices, optimiser: torch.optim.Optimizer) -> None:
    trouble = shortage(devices, config.batch_size, config.bn_clips)
    if trouble and devices.is_first:
        log.warning(trouble)
    if devices.device_count > 1:
        log.info(
            "each of %d devices takes its share of a step's %d clips; the learning rate, %g, is "
            "that of the whole step", devices.device_count, config.batch_size, config.lr_base,
        )  # fmt: skip
    if config.fine_tune or config.freeze_until or config.debug_mode:
        log.info("parameter groups\n%s", groups_table(optimiser))


def _open(
    config: Config, devices: Devices, choice: NetworkChoice, earlier: EarlierRecipe | None
) -> tuple[Config, RecipeChoice, ClipDataset, ClipDataset, Schedule, nn.Module]:
    """Build what each rank builds for itself: options by recipe, clips, schedule and network."""
    _check_names(config, choice)
    spec = dataset_spec(config.benchmark, config.variant)
    train, val = _open_videos(config, spec)
    config = with_usable_rate(config, train, val)
    if config.clip_fps:
        log.info("clips have %g frames per second; frame intervals are not used", config.clip_fps)
    config, recipe = complete_recipe(config, len(train), train.classes, earlier)
    config = without_multigrid_where_fixed(config)
    train_clips, val_clips = (
        ClipDataset(
            videos,
            replace(
                clip_options(config, spec, training=training), erase_colour=choice.profile.mean
            ),
            training=training,
            seed=config.random_seed,
        )
        for videos, training in ((train, True), (val, False))
    )
    schedule = make_schedule(config, len(train_clips))
    check_shares(schedule, devices.world_size)
    torch.manual_seed(config.random_seed)
    net = _build_with_weights(config, len(train_clips.videos.classes), devices, choice)
    net.input_profile = profile_of_run(config, val_clips.options.short_side, choice.profile)
    if config.from_profile and not config.resume_epoch:
        log.info("clips as the weights expect them: %s", net.input_profile)
    return config, recipe, train_clips, val_clips, schedule, net


def _shapes(config: Config, schedule: Schedule) -> list[StepPlan]:
    """Return each shape with its largest batch, most pixels first.

    The full shape is always among them, because validation has it. If --max-minutes may compress
    the run, so are the shapes of the paper's phases for which the whole run has too few epochs.
    """
    plans, full = schedule.largest_shapes(), schedule.full
    possible = [full]
    if config.multigrid == "paper" and (config.max_minutes or config.schedule_parts):
        possible += [shape for phase in paper_long_cycle(config) for shape in phase.short_cycle]
    for shape in possible:
        if all((plan.frames, plan.size) != (shape.frames, shape.size) for plan in plans):
            plans.append(StepPlan(1, 0, *shape, full.frames / shape.frames))
    return sorted(plans, key=lambda plan: -plan.batch * plan.frames * plan.size**2)


def check_shares(schedule: Schedule, world_size: int) -> None:
    """Raise TrainError if a step has fewer clips than there are ranks."""
    smallest, _ = schedule.batch_range()
    if smallest >= world_size:
        return
    enough = 2 * world_size  # steps have at least half of the batch
    larger = f", or raise --batch-size to {enough}" if schedule.full.batch < enough else ""
    raise TrainError(
        f"the smallest step of this run has {smallest} clips, which {world_size} processes cannot "
        f"share: start at most {smallest} processes{larger}"
    )


def _check_names(config: Config, choice: NetworkChoice) -> None:
    """Check the names in the options before the dataset is scanned, which can take minutes."""
    check_names(config, reads_weights=False)  # `choice` has read them
    with torch.device("meta"):  # needs no memory and hardly any time
        net = build_network(choice.network, 2, **choice.options)
        frozen_layers(net, config.freeze_until)


def _workers(config: Config, devices: Devices) -> int:
    if config.workers is not None:
        return config.workers
    return max(1, usable_cores() // devices.local_world_size - max(1, devices.gpus))


def clip_options(config: Config, spec: DatasetSpec, *, training: bool) -> ClipOptions:
    """Return the options that all clips of a split share.

    Frames are resized so that a crop of any --clip-size covers the same part of the frame: the
    part that --crop-share says, or as with the dataset's own clip size.
    """
    return ClipOptions(
        intervals=tuple(config.train_frame_interval) if training else (config.val_frame_interval,),
        short_side=round(config.clip_size / config.crop_share)
        if config.crop_share
        else round(spec.short_side * config.clip_size / spec.clip_size),
        clip_size=config.clip_size,
        augmentation=config.augmentation,
        flip=config.flip,
        crop=config.crop,
        erase=config.erase,
        start=config.start,
        short_videos=config.short_videos,
        skip_bad=config.skip_bad,
        fps=config.clip_fps,
    )


def _open_videos(config: Config, spec: DatasetSpec) -> tuple[Videos, Videos]:
    """Open the training and the validation split."""
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
    return train, val


def with_usable_rate(config: Config, *parts: Videos) -> Config:
    """Check that the videos say their frame rate if clips have a fixed one.

    If the rate came from pretrained weights and the videos do not say theirs, return the
    configuration without it: the frame interval is then that of a video of 30 frames per second.

    Raises:
        DataError: the rate was given, and a video does not say its own.
    """
    if not config.clip_fps:
        return config
    try:
        for videos in parts:
            check_rate(videos)
    except DataError as error:
        if "clip_fps" not in config.from_profile:
            raise
        log.warning(
            "the weights expect %g frames per second, but %s; taking the frame interval %d, which "
            "is right for videos of %g frames per second",
            config.clip_fps, error, config.val_frame_interval, ASSUMED_FPS,
        )  # fmt: skip
        left = {name: v for name, v in config.from_profile.items() if name != "clip_fps"}
        return replace(config, clip_fps=None, from_profile=left)
    return config


def without_multigrid_where_fixed(config: Config) -> Config:
    """Return the configuration without multigrid if the network cannot take its small clips."""
    limits = clip_limits(config.network)
    if config.multigrid == "off" or limits.suit_multigrid:
        return config
    log.info("multigrid is off: %s takes clips of %s", config.network, limits)
    return replace(config, multigrid="off")


def check_rate(videos: Videos) -> None:
    """Raise DataError if the first video, which stands for all, does not say its frame rate."""
    with FrameStore(videos.path(0)) as store:
        store.check_rate()


def _build_with_weights(
    config: Config, n_classes: int, devices: Devices, choice: NetworkChoice
) -> nn.Module:
    net = build_chosen(choice, n_classes, partial=config.pretrained_partial)
    freeze(net, config.freeze_until)
    return net.to(devices.device)
