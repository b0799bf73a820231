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
from train.loaders import training_batches, unaugmented_batches, validation_batches
from train.metrics import Meter
from train.mixing import scoring_note
from train.prefetch import prefetched
from train.rank_agreement import run_in_all_ranks
from train.results.recorder import Recorder, log_file, write_config
from train.results.results_folder import held_results, start_results
from train.schedule.plan_table import draw_plan, plan_table
from train.schedule.schedule import Schedule
from train.setup import prepare
from train.signals import Signals, caught_signals
from train.speed_monitor import SpeedMonitor
from train.step import settle, train_step
from train.step_outcome import StepOutcome
from train.train_errors import Interrupted
from train.training_run import TrainingRun

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
        run = prepare(config, devices)
        if config.plan:
            if devices.is_first:
                print_plan(run.schedule)
            return run.folder
        run_in_all_ranks(devices, lambda: start_results(run, log_to) if writes else None)
        log.info("%s, %d classes, on %s", config.network, len(run.classes), devices.describe())
        note = scoring_note(config)
        if note:
            log.info(note)
        run_epochs(run, signals)
        log.info("done: best top1 %.2f, results in %s", run.best_top1, run.folder)
    return run.folder


def print_plan(schedule: Schedule) -> None:
    """Print the schedule, and draw it into the current folder."""
    print(plan_table(schedule))
    try:
        draw_plan(schedule, PICTURE)
    except OSError as error:
        log.warning("the plan cannot be drawn: %s", error)
    else:
        print(f"drawn to {PICTURE.absolute()}")


def run_epochs(run: TrainingRun, signals: Signals) -> None:
    """Train and validate epoch after epoch, from the run's own on."""
    recorder = None
    if run.devices.is_first:
        write_config(run.folder, run.config, classes=run.classes, fingerprint=run.fingerprint)
        recorder = Recorder(run.folder, run.config, run.history, first_epoch=run.epoch)

    def look() -> None:
        # One process of several cannot save alone: it goes on waiting for its batch.
        if signals.number and run.devices.world == 1:
            raise Interrupted(signals.number)

    batches = prefetched(training_batches(run, look), run.devices)
    validation = validation_batches(run, look)
    try:
        while run.epoch <= run.schedule.epochs:
            train_epoch(run, batches, signals)
            val = None
            if run.epoch % run.config.val_frequency == 0 or run.epoch == run.schedule.epochs:
                if run.devices.world > 1:
                    # scoring looks at no signals then, and a launcher's patience may end before it
                    save_last(run)
                net = net_to_score(run)
                val = evaluate(
                    net,
                    validation,
                    run.devices,
                    run.val_clips.videos,
                    signals=signals,
                    title="validation",
                ).scores
            finish_epoch(run, recorder, val)
    except Interrupted:
        save_last(run)
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


def train_epoch(run: TrainingRun, batches: Iterator[Batch], signals: Signals) -> None:
    """Take the steps that are left of the epoch under way."""
    config, monitor = run.config, SpeedMonitor(run.devices.device)
    steps = run.schedule.epoch_steps(run.epoch)
    saved_at, last_saved = time.monotonic(), run.step
    asked = DelayedMaximum(run.devices)
    run.parallel_net.train()
    with _bar(run, steps) as bar:
        while run.step < steps.stop:
            with monitor.reading():
                try:
                    batch = next(batches)
                except (DataError, MachineError):
                    if run.step > last_saved and run.devices.world == 1:
                        save_last(run)  # the steps taken are not lost
                    raise
            outcome = train_step(run, batch, monitor)
            monitor.clips += len(batch.labels)
            run.unreadable.update(batch.replaced[batch.replaced >= 0].tolist())
            run.step += 1
            bar.update()
            done = run.step - steps.start
            logged = done % config.log_interval == 0 or run.step == steps.stop
            if logged:  # no other step waits for the device
                settle(run)
                log_progress(run, done, outcome, monitor)
            minutes = (time.monotonic() - saved_at) / 60
            late = bool(config.save_minutes and minutes >= config.save_minutes)
            number, late = asked.all_reduce_max([signals.number, late], wait=logged)
            if number:
                raise Interrupted(int(number))
            if late or (config.save_steps and run.step % config.save_steps == 0):
                save_last(run)
                saved_at, last_saved = time.monotonic(), run.step
                asked = DelayedMaximum(
                    run.devices
                )  # what was asked before the save is answered by it


def net_to_score(run: TrainingRun) -> nn.Module:
    """The network that validation scores: averaged weights, or the current ones.

    With `--precise-bn`, its batch norm is first estimated anew over training clips, plain ones.
    Every process scores with the first one's statistics, which are those that are saved.
    """
    net = run.ema.module if run.ema else run.net
    if run.config.precise_bn:
        run.norms.split()  # the processes may have different numbers of batches
        batches = unaugmented_batches(run, run.config.precise_bn)
        with run.devices.autocast():
            clips = (normalise(run.devices.to_device(batch.clips)) for batch in batches)
            estimate_statistics(net, clips)
    broadcast_tensors(run.devices, net.buffers())
    return run.parallel_net if run.devices.gpus > 1 and net is run.net else net


def finish_epoch(run: TrainingRun, recorder: Recorder | None, val: dict[str, float] | None) -> None:
    """Write down an epoch and save it; the next one is then under way. `val`: None without one."""
    settle(run)
    trained = run.meter.scores(run.devices)
    gates = gate_rates(run.net, reset=True) if run.config.gates else {}
    parts = {"train": trained, "val": val} if val else {"train": trained}
    said = [
        f"{part}: loss {scores['loss']:.4f} top1 {scores['top1']:.2f} top5 {scores['top5']:.2f}"
        for part, scores in parts.items()
    ]
    log.info("Epoch [%d] %s", run.epoch, " | ".join(said))
    if gates:
        log.info("gates open: %s", " ".join(f"{k} {v:.0%}" for k, v in gates.items()))
    if run.unreadable:
        names = sorted(run.train_clips.videos.folder(i).name for i in run.unreadable)
        log.warning(
            "%d unreadable videos were replaced: %s%s",
            len(names), ", ".join(names[:5]), ", ..." if len(names) > 5 else "",
        )  # fmt: skip
    improved = val is not None and val["top1"] > run.best_top1
    if improved:
        run.best_top1 = val["top1"]
    lr = run.schedule.lr(run.step - 1)
    run.history.add_epoch(run.epoch, parts, lr=lr, gates=gates)
    finished, run.epoch = run.epoch, run.epoch + 1
    run.meter = Meter(run.devices.device)
    state = run.state_dict()
    if recorder:
        # the checkpoint first: it has the rows that the csv files lack if the run dies in between
        is_last = finished == run.schedule.epochs
        save_epoch(run.folder, run.config, state, improved=improved, last=is_last)
        speeds = run.speed.speeds if run.speed else {}
        recorder.write_epoch(finished, parts, lr=lr, gates=gates, speeds=speeds)


def save_last(run: TrainingRun) -> None:
    """Write `last.pth`: the next step is the one that it goes on with.

    Raises:
        DivergedError: the step taken last was not finite; `last.pth` is left as it was.
    """
    settle(run)
    state = run.state_dict()
    if run.devices.is_first:
        save_checkpoint(run.folder / "last.pth", state)


def log_progress(run: TrainingRun, done: int, outcome: StepOutcome, monitor: SpeedMonitor) -> None:
    """The original's line: epoch, batch, speeds, loss, accuracy so far, batch shape, lr."""
    report = run.speed = monitor.report()
    scores = run.meter.scores(run.devices)
    total = len(run.schedule.epoch_steps(run.epoch))
    log.info(
        "Epoch [%d] Batch [%d/%d] %s loss %.4f top1 %.2f top5 %.2f batch (%s) lr %.4g",
        run.epoch,
        done,
        total,
        report,
        outcome.loss,
        scores["top1"],
        scores["top5"],
        ",".join(map(str, outcome.shape)),
        outcome.lr,
    )
    verdict = report.verdict(run.config.workers)
    if verdict:
        log.info(verdict)


def _bar(run: TrainingRun, steps: range) -> tqdm:
    return tqdm(
        total=len(steps),
        initial=run.step - steps.start,
        desc=f"epoch {run.epoch}/{run.schedule.epochs}",
        unit="step",
        leave=False,
        disable=not (run.devices.is_first and sys.stderr.isatty()),
    )
