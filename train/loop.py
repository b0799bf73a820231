"""The loop: train an epoch, validate, write down, save; until done or told to stop."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from torch import nn
from tqdm import tqdm

from data.clips.clip_dataset import normalise
from data.clips.loader import Batch
from data.data_error import DataError, MachineError
from network import gate_rates
from train.batchnorm import estimate_statistics
from train.checkpoint.saving import save_checkpoint, save_epoch
from train.config import Config
from train.devices import open_devices
from train.distributed import DelayedMaximum, broadcast_tensors
from train.evaluation import evaluate
from train.metrics import Meter
from train.mixing import scoring_note
from train.prefetch import prefetched
from train.rank_agreement import run_in_all_ranks
from train.results.recorder import Recorder, log_file, write_config
from train.results.results_folder import held_results, start_results
from train.schedule.plan_table import draw_plan, plan_table
from train.schedule.schedule import Schedule
from train.setup import Job, prepare
from train.signals import Signals, caught_signals
from train.speed_monitor import SpeedMonitor
from train.step import settle, train_step
from train.step_outcome import StepOutcome
from train.train_errors import Interrupted

log = logging.getLogger(__name__)

PICTURE = Path("plan.png")  # of --plan, which writes nothing into the results


def train(config: Config) -> Path:
    """Run what `config` describes, from the start or from where it stopped.

    Returns:
        The results folder.

    Raises:
        TrainError, DataError, NetworkError: input that cannot be used;
            nothing is written then.
        DivergedError: the loss is not finite; `last.pth` is of before.
        Interrupted: SIGINT or SIGTERM came; `last.pth` is of that step.
    """
    config.check()
    with (
        open_devices(config.gpus, config.precision, deterministic=config.deterministic) as devices,
        caught_signals() as signals,
        log_file() as log_to,
        contextlib.ExitStack() as stack,
    ):
        writes = devices.is_first and not config.plan
        run_in_all_ranks(
            devices, lambda: stack.enter_context(held_results(config)) if writes else None
        )
        if not devices.is_first:
            logging.getLogger().setLevel(logging.WARNING)  # or every line would come `world` times
        job = prepare(config, devices)
        if config.plan:
            if devices.is_first:
                print_plan(job.schedule)
            return job.folder
        run_in_all_ranks(devices, lambda: start_results(job, log_to) if writes else None)
        log.info("%s, %d classes, on %s", config.network, len(job.classes), devices.describe())
        note = scoring_note(config)
        if note:
            log.info(note)
        run_epochs(job, signals)
        log.info("done: best top1 %.2f, results in %s", job.best_top1, job.folder)
    return job.folder


def print_plan(schedule: Schedule) -> None:
    """Print the schedule, and draw it into the current folder."""
    print(plan_table(schedule))
    try:
        draw_plan(schedule, PICTURE)
    except OSError as error:
        log.warning("the plan cannot be drawn: %s", error)
    else:
        print(f"drawn to {PICTURE.absolute()}")


def run_epochs(job: Job, signals: Signals) -> None:
    """Train and validate epoch after epoch, from the job's own on."""
    recorder = None
    if job.devices.is_first:
        write_config(job.folder, job.config, classes=job.classes, fingerprint=job.fingerprint)
        recorder = Recorder(job.folder, job.config, job.history, first_epoch=job.epoch)

    def look() -> None:
        # One process of several cannot save alone: it goes on waiting for its batch.
        if signals.number and job.devices.world == 1:
            raise Interrupted(signals.number)

    batches = prefetched(job.training_batches(look), job.devices)
    validation = job.validation_batches(look)
    try:
        while job.epoch <= job.schedule.epochs:
            train_epoch(job, batches, signals)
            val = None
            if job.epoch % job.config.val_frequency == 0 or job.epoch == job.schedule.epochs:
                if job.devices.world > 1:
                    # scoring looks at no signals then, and a launcher's patience may end before it
                    save_last(job)
                net = net_to_score(job)
                val = evaluate(
                    net,
                    validation,
                    job.devices,
                    job.val_clips.videos,
                    signals=signals,
                    title="validation",
                ).scores
            finish_epoch(job, recorder, val)
    except Interrupted:
        save_last(job)
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


def train_epoch(job: Job, batches: Iterator[Batch], signals: Signals) -> None:
    """Take the steps that are left of the epoch under way."""
    config, monitor = job.config, SpeedMonitor(job.devices.device)
    steps = job.schedule.epoch_steps(job.epoch)
    saved_at, last_saved = time.monotonic(), job.step
    asked = DelayedMaximum(job.devices)
    job.spread_net.train()
    with _bar(job, steps) as bar:
        while job.step < steps.stop:
            with monitor.reading():
                try:
                    batch = next(batches)
                except (DataError, MachineError):
                    if job.step > last_saved and job.devices.world == 1:
                        save_last(job)  # the steps taken are not lost
                    raise
            outcome = train_step(job, batch, monitor)
            monitor.clips += len(batch.labels)
            job.unreadable.update(batch.replaced[batch.replaced >= 0].tolist())
            job.step += 1
            bar.update()
            done = job.step - steps.start
            logged = done % config.log_interval == 0 or job.step == steps.stop
            if logged:  # no other step waits for the device
                settle(job)
                log_progress(job, done, outcome, monitor)
            minutes = (time.monotonic() - saved_at) / 60
            late = bool(config.save_minutes and minutes >= config.save_minutes)
            number, late = asked.all_reduce_max([signals.number, late], wait=logged)
            if number:
                raise Interrupted(int(number))
            if late or (config.save_steps and job.step % config.save_steps == 0):
                save_last(job)
                saved_at, last_saved = time.monotonic(), job.step
                asked = DelayedMaximum(
                    job.devices
                )  # what was asked before the save is answered by it


def net_to_score(job: Job) -> nn.Module:
    """The network that validation scores: averaged weights, or the current ones.

    With `--precise-bn`, its batch norm is first estimated anew over training clips, plain ones.
    Every process scores with the first one's statistics, which are those that are saved.
    """
    net = job.ema.module if job.ema else job.net
    if job.config.precise_bn:
        job.norms.split()  # the processes may have different numbers of batches
        batches = job.plain_batches(job.config.precise_bn)
        with job.devices.autocast():
            clips = (normalise(job.devices.to_device(batch.clips)) for batch in batches)
            estimate_statistics(net, clips)
    broadcast_tensors(job.devices, net.buffers())
    return job.spread_net if job.devices.gpus > 1 and net is job.net else net


def finish_epoch(job: Job, recorder: Recorder | None, val: dict[str, float] | None) -> None:
    """Write down an epoch and save it; the next one is then under way. `val`: None without one."""
    settle(job)
    trained = job.meter.scores(job.devices)
    gates = gate_rates(job.net, reset=True) if job.config.gates else {}
    parts = {"train": trained, "val": val} if val else {"train": trained}
    said = [
        f"{part}: loss {scores['loss']:.4f} top1 {scores['top1']:.2f} top5 {scores['top5']:.2f}"
        for part, scores in parts.items()
    ]
    log.info("Epoch [%d] %s", job.epoch, " | ".join(said))
    if gates:
        log.info("gates open: %s", " ".join(f"{k} {v:.0%}" for k, v in gates.items()))
    if job.unreadable:
        names = sorted(job.train_clips.videos.folder(i).name for i in job.unreadable)
        log.warning(
            "%d unreadable videos were replaced: %s%s",
            len(names), ", ".join(names[:5]), ", ..." if len(names) > 5 else "",
        )  # fmt: skip
    improved = val is not None and val["top1"] > job.best_top1
    if improved:
        job.best_top1 = val["top1"]
    lr = job.schedule.lr(job.step - 1)
    job.history.add_epoch(job.epoch, parts, lr=lr, gates=gates)
    finished, job.epoch = job.epoch, job.epoch + 1
    job.meter = Meter(job.devices.device)
    state = job.state()
    if recorder:
        # the checkpoint first: it has the rows that the csv files lack if the run dies in between
        is_last = finished == job.schedule.epochs
        save_epoch(job.folder, job.config, state, improved=improved, last=is_last)
        speeds = job.speed.speeds if job.speed else {}
        recorder.write_epoch(finished, parts, lr=lr, gates=gates, speeds=speeds)


def save_last(job: Job) -> None:
    """Write `last.pth`: the next step is the one that it goes on with.

    Raises:
        DivergedError: the step taken last was not finite; `last.pth` is left as it was.
    """
    settle(job)
    state = job.state()
    if job.devices.is_first:
        save_checkpoint(job.folder / "last.pth", state)


def log_progress(job: Job, done: int, outcome: StepOutcome, monitor: SpeedMonitor) -> None:
    """The original's line: epoch, batch, speeds, loss, accuracy so far, batch shape, lr."""
    report = job.speed = monitor.report()
    scores = job.meter.scores(job.devices)
    total = len(job.schedule.epoch_steps(job.epoch))
    log.info(
        "Epoch [%d] Batch [%d/%d] %s loss %.4f top1 %.2f top5 %.2f batch (%s) lr %.4g",
        job.epoch,
        done,
        total,
        report,
        outcome.loss,
        scores["top1"],
        scores["top5"],
        ",".join(map(str, outcome.shape)),
        outcome.lr,
    )
    verdict = report.verdict(job.config.workers)
    if verdict:
        log.info(verdict)


def _bar(job: Job, steps: range) -> tqdm:
    return tqdm(
        total=len(steps),
        initial=job.step - steps.start,
        desc=f"epoch {job.epoch}/{job.schedule.epochs}",
        unit="step",
        leave=False,
        disable=not (job.devices.is_first and sys.stderr.isatty()),
    )
