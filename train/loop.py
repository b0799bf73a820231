"""Train epoch after epoch, validate, save, until the schedule ends or a signal arrives."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from data.clips.loader import Batch
from data.data_error import DataError, MachineError
from train.config import Config
from train.devices import Devices, open_devices
from train.distributed import DelayedMaximum
from train.divergence import check_last_step
from train.epoch_end import finish_epoch, save_last, seconds_left, update_last
from train.evaluation import validate
from train.freezing import set_training_mode
from train.loaders import training_batches, validation_batches
from train.mixing import scoring_note
from train.network_choice import NetworkChoice
from train.plan_report import report_plan, report_recipe
from train.prefetch import prefetched
from train.progress import log_progress, progress_bar, show_progress
from train.rank_agreement import run_in_all_ranks
from train.recipes import ENOUGH_STEPS
from train.report.run_report import update_report
from train.results.folder_preparation import held_results, start_results
from train.results.log_file import log_file
from train.results.losses_file import start_losses
from train.results.recorder import Recorder, write_config
from train.setup import agree_on_network, prepare
from train.signals import Signals, caught_signals
from train.speed_monitor import SpeedMonitor
from train.step import train_step
from train.time_limit import TimeLimit, fit_to_time, shorten
from train.train_errors import DivergedError, Interrupted
from train.training_run import TrainingRun

log = logging.getLogger(__name__)


def train(config: Config) -> Path:
    """Start or resume the run that `config` describes; return its results folder.

    Raises:
        TrainError, DataError, NetworkError: the input cannot be used; nothing is written then.
        DivergedError: the loss is not finite; `last.pth` is of an earlier step.
        Interrupted: SIGINT or SIGTERM arrived; `last.pth` is of that step.
    """
    config.check()
    with (
        open_devices(config.gpus, config.precision, deterministic=config.deterministic) as devices,
        caught_signals() as signals,
    ):
        return train_on(config, devices, signals)


def train_on(config: Config, devices: Devices, signals: Signals) -> Path:
    """Start or resume a run on `devices`; as `train`, which opens them."""
    started = time.monotonic()
    with log_file() as log_to, contextlib.ExitStack() as stack:
        choice = agree_on_network(config, devices)
        config = choice.fill_in(config)
        writes = devices.is_first and not config.plan
        run_in_all_ranks(
            devices, lambda: stack.enter_context(held_results(config)) if writes else None
        )
        if not devices.is_first:
            logging.getLogger().setLevel(logging.WARNING)  # else every rank would log every line
        run = prepare_in_time(config, devices, choice, started)
        del choice  # the weights are in the network now
        if config.plan:
            report_plan(run)
            return run.folder
        start = partial(
            start_results, run.folder, run.config, run.net, log_to,
            first_epoch=run.epoch, last_epoch=run.schedule.epochs,
        )  # fmt: skip
        run_in_all_ranks(devices, start if writes else lambda: None)
        report_recipe(run)
        log.info("%s, %d classes, on %s", config.network, len(run.classes), devices.describe())
        note = scoring_note(config)
        if note:
            log.info(note)
        train_epochs(run, signals)
        log.info("done: best top1 %.2f, results in %s", run.best_top1, run.folder)
    return run.folder


def prepare_in_time(
    config: Config, devices: Devices, choice: NetworkChoice, started: float
) -> TrainingRun:
    """Build the run and fit its schedule to --max-minutes, which count from `started`.

    If the schedule that fits has too few steps for the recipe `original`, --recipe auto takes
    `scratch` instead, although the whole schedule would have had enough.
    """
    run = prepare(config, devices, choice)
    run.clock.begin_process(started)
    fit_to_time(run)
    steps = run.schedule.total_steps
    is_choice = config.recipe == "auto" and run.recipe.name == "original" and run.step == 0
    if not (is_choice and config.max_minutes and steps < ENOUGH_STEPS):
        return run
    del run  # its memory is needed
    run = prepare(replace(config, recipe="scratch"), devices, choice)
    run.recipe = replace(
        run.recipe,
        why=f"the original's options would make {steps:,} optimiser steps in --max-minutes "
        f"{config.max_minutes:g}, and they need {ENOUGH_STEPS:,}",
    )
    run.clock.begin_process(started)
    fit_to_time(run)
    return run


def train_epochs(run: TrainingRun, signals: Signals) -> None:
    """Train and validate from the current epoch to the last one."""
    recorder = None
    if run.devices.is_first:
        write_options(run)
        videos, classes = len(run.train_clips), len(run.classes)
        start_losses(run.folder, videos, classes, epochs=run.epoch - 1)
        recorder = Recorder(
            run.folder,
            run.config,
            run.history,
            first_epoch=run.epoch,
            report=lambda: update_report(run),
        )

    def stop_waiting() -> None:
        # one rank of several cannot save alone: it continues to wait for its batch
        if signals.number and run.devices.world_size == 1:
            raise Interrupted(signals.number)

    validation = validation_batches(run, stop_waiting)
    run.clock.begin_training()
    try:
        training = prefetched(training_batches(run, stop_waiting), run.devices)
        limit = TimeLimit(run)
        while run.epoch <= run.schedule.epochs:
            while not train_epoch(run, training, signals, limit):
                shorten(run)
                save_last(run)  # a resumed run must have the same schedule
                if run.devices.is_first:
                    write_options(run)
                training = prefetched(training_batches(run, stop_waiting), run.devices)
            scores = None
            if run.epoch % run.config.val_frequency == 0 or run.epoch == run.schedule.epochs:
                if run.devices.world_size > 1:
                    # several ranks do not stop validating for a signal: a launcher may kill them
                    save_last(run)
                with run.clock.timing("validation"):
                    scores = validate(run, validation, signals)
            finish_epoch(run, recorder, scores)
    except Interrupted:
        save_last(run)
        raise
    except (DivergedError, DataError, MachineError):
        update_last(run)
        raise
    except RuntimeError as error:
        if not signals.number:
            raise
        # On some systems a signal to the whole process group ends the workers too (see
        # data.clips.loader_workers), perhaps in the middle of a step: nothing is saved then.
        raise Interrupted(signals.number) from error
    finally:
        if recorder:
            recorder.close()


def write_options(run: TrainingRun) -> None:
    """Write config.json."""
    write_config(
        run.folder,
        run.config,
        classes=run.classes,
        fingerprint=run.fingerprint,
        recipe=run.recipe.facts(),
    )


def train_epoch(
    run: TrainingRun, batches: Iterator[Batch], signals: Signals, limit: TimeLimit
) -> bool:
    """Take the remaining steps of the current epoch; return whether all of them were taken.

    If the run turns out too slow for --max-minutes, return False after the same step in all ranks.
    The caller must then shorten the schedule and make new `batches`.

    Raises:
        Interrupted: a signal arrived in some rank; all ranks stop after the same step.
        DivergedError: see `train.divergence`.
    """
    config, monitor = run.config, SpeedMonitor(run.devices.device)
    steps, began = run.schedule.epoch_steps(run.epoch), time.monotonic()
    requests = DelayedMaximum(run.devices)
    run.parallel_net.train()
    set_training_mode(run.net, config)
    with progress_bar(run, steps) as bar:
        while run.step < steps.stop:
            since = time.monotonic()
            batch = next_batch(run, batches, monitor)
            outcome = train_step(run, batch, monitor)
            run.clock.add_step(run.schedule.plan(run.step), time.monotonic() - since)
            monitor.clips += len(batch.labels)
            run.unreadable.update(batch.replaced[batch.replaced >= 0].tolist())
            run.step += 1

            done = run.step - steps.start
            log_now = done % config.log_interval == 0 or run.step == steps.stop
            if log_now:  # only these steps wait for the device
                check_last_step(run)
                left = seconds_left(run)
                log_progress(run, done, outcome, monitor, seconds_left=left)
                show_progress(run, bar, left)
            bar.update()

            minutes = min(run.saved.seconds, time.monotonic() - began) / 60
            save_now = bool(config.save_minutes and minutes >= config.save_minutes)
            # clocks and signals differ between ranks, but all must stop or save at the same step
            signal, save_now, too_slow = requests.all_reduce_max(
                [signals.number, save_now, limit.is_too_short(run)], wait=log_now
            )
            if signal:
                raise Interrupted(int(signal))
            if too_slow and run.step < run.schedule.total_steps:
                check_last_step(run)
                return False
            if save_now or (config.save_steps and run.step % config.save_steps == 0):
                save_last(run)
                requests = DelayedMaximum(run.devices)  # earlier requests are answered
    return True


def next_batch(run: TrainingRun, batches: Iterator[Batch], monitor: SpeedMonitor) -> Batch:
    """Wait for the next batch; if it cannot be read, save the run if it has unsaved steps."""
    with monitor.reading():
        try:
            return next(batches)
        except (DataError, MachineError):
            if run.step > run.saved.step and run.devices.world_size == 1:
                save_last(run)
            raise
