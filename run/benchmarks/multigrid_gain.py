"""Compare training with and without multigrid: accuracy, time, and the cost of shape changes.

Each policy is trained with each seed, as the training scripts do. The data are the demo's videos,
rendered into --root, or those of --dataset. Times are wall-clock times from the start of a run to
the end of an epoch, with its validation. The picture shows validation accuracy over time.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm import tqdm

from data.clips.clip_dataset import ClipRequest
from data.clips.loader import StepPlan, collate, epoch_order
from run import demo
from run.command_line import parse_config
from train.config import Config
from train.devices import open_devices
from train.loaders import training_batches
from train.loop import train
from train.prefetch import prefetched
from train.results.results_folder import epoch_file
from train.schedule.multigrid_phases import paper_long_cycle
from train.schedule.steps_table import make_schedule
from train.setup import prepare
from train.speed_monitor import SpeedMonitor
from train.step import train_step
from train.training_run import TrainingRun

BASELINE = "off"
#: Small batches, since a thousand videos give few updates. Before each validation, batch norm's
#: statistics are estimated at the full shape (--precise-bn), in all runs.
RECIPE = "--clip-size 48 --batch-size 8 --bn-clips 8 --precise-bn 8 --val-frequency 4"
#: The smallest clips keep four frames, since fewer show little motion, and have a quarter of the
#: pixels instead. There are no short cycles: they would use clips of 24 pixels until the end. The
#: learning rate does not depend on the batch size, because accuracy was lower when it did.
MULTIGRID_RECIPE = (
    "--multigrid-frames 2 2 1 1 --multigrid-areas 4 2 2 1 --multigrid-epochs 1 "
    "--short-cycles False --multigrid-lr-power 0"
)


class Run(NamedTuple):
    """One training: for each validated epoch, the minutes since the start and top-1 in percent."""

    policy: str
    seed: int
    epochs: int
    steps: int
    minutes: list[float]
    top1: list[float]


def measure(args: argparse.Namespace) -> list[dict]:
    """Return rows of each run, of each policy's means over the seeds, and of each clip shape."""
    where = _data_options(args)
    rows: list[dict] = []
    if not args.changes_only:
        names = [BASELINE, *args.policies]
        pairs = [(policy, seed) for seed in args.seeds for policy in names]  # policies take turns
        runs = [
            run_once(config_for(args, where, policy, seed), policy)
            for policy, seed in tqdm(pairs, desc="trainings", disable=None)
        ]
        rows += [_run_row(run) for run in runs] + comparison(runs, args.policies)
        draw(runs, args.png)
    config = config_for(args, where, "epoch", args.seeds[0])
    return rows + shape_changes(replace(config, short_cycles=False))


def _data_options(args: argparse.Namespace) -> list[str]:
    if args.dataset:
        where = ["--dataset", str(args.dataset), "--labels", str(args.labels or "")]
        return ["--recipe", "original", *where]
    labels = demo.prepare(args.root, scale=args.scale)
    return [
        *demo.RECIPE.split(),
        *RECIPE.split(),
        "--dataset",
        str(args.root),
        "--labels",
        str(labels),
    ]


def config_for(args: argparse.Namespace, where: list[str], policy: str, seed: int) -> Config:
    """Return the configuration of the run with this policy and seed."""
    folder = (args.dataset or args.root) / "benchmark_multigrid"
    options = ["--network", args.network, "--multigrid", policy, "--random-seed", str(seed)]
    options += ["--model-dir", str(folder), "--task-name", f"{policy}_{seed}"]
    if policy != BASELINE and not args.dataset:
        options += MULTIGRID_RECIPE.split()
    options += shlex.split(args.options)
    if policy != BASELINE:
        options += shlex.split(args.multigrid_options)
    config = parse_config("custom", [*where, *options])
    epochs = round(args.epochs * args.epoch_factor) if policy == "epoch" else args.epochs
    # paper raises the learning rate for larger batches, epoch lowers it for smaller ones: here
    # both get the same rate for their largest batch
    highest = paper_long_cycle(config)[0].lr_factor if policy == "paper" else 1.0
    return replace(
        config,
        end_epoch=epochs,
        lr_steps=[step for step in config.lr_steps if step < epochs],
        lr_base=config.lr_base / highest,
        given=[*config.given, "lr_base"],  # else the recipe would set it
        overwrite=True,
        tensorboard=False,
    )


def run_once(config: Config, policy: str) -> Run:
    """Train once, and read accuracies and times from the results folder."""
    since = time.time()
    folder = train(config)
    with (folder / "val_results.csv").open(newline="") as file:
        top1 = {int(row["Epoch"]): float(row["Top1"]) for row in csv.DictReader(file)}
    with (folder / "train_results.csv").open(newline="") as file:
        clips = int(next(csv.DictReader(file))["Clips"])
    schedule = make_schedule(config, clips)
    ends = [epoch_file(folder, config.network, epoch).stat().st_mtime for epoch in top1]
    return Run(
        policy,
        config.random_seed,
        schedule.epochs,
        schedule.total_steps,
        [(end - since) / 60 for end in ends],
        list(top1.values()),
    )


def _run_row(run: Run) -> dict:
    return {
        "policy": run.policy,
        "seed": run.seed,
        "epochs": run.epochs,
        "steps": run.steps,
        "top1_percent": run.top1[-1],
        "wall_minutes": run.minutes[-1],
    }


def comparison(runs: list[Run], policies: list[str]) -> list[dict]:
    """Return a row for each policy: the means over the seeds, and the time relative to `off`."""
    rows = []
    base = [run for run in runs if run.policy == BASELINE]
    for policy in [BASELINE, *policies]:
        own = [run for run in runs if run.policy == policy]
        top1 = [run.top1[-1] for run in own]
        ratios = [
            mine.minutes[-1] / other.minutes[-1] for mine, other in zip(own, base, strict=True)
        ]
        rows.append(
            {
                "policy": policy,
                "seed": "all",
                "top1_percent": statistics.mean(top1),
                "top1_deviation": statistics.stdev(top1) if len(top1) > 1 else 0.0,
                "wall_minutes": statistics.mean(run.minutes[-1] for run in own),
                "wall_ratio_to_off": statistics.median(ratios),
            }
        )
    return rows


def shape_changes(config: Config, *, epochs: int = 4) -> list[dict]:
    """Return a row for each clip shape: how long the first step after a change to it takes.

    first_step_new_ms is the time in the first epoch, in which the libraries see the shape for the
    first time. first_step_changed_ms is the time in later epochs. median_step_ms is the time of
    steps that follow a step of the same shape. All times include the wait for the batch.
    batch_load_ms is the time to load one batch.
    """
    seen: dict[tuple[int, int, int], dict[str, list[float]]] = {}
    with open_devices(config.gpus, config.precision) as devices:
        run = prepare(config, devices)
        batches, monitor = prefetched(training_batches(run), devices), SpeedMonitor(devices.device)
        run.parallel_net.train()
        before = None
        last = run.schedule.epoch_steps(min(epochs, run.schedule.epochs)).stop
        for step in tqdm(range(last), desc="shape changes", disable=None):
            plan = run.schedule.plan(step)
            since = time.perf_counter()
            train_step(run, next(batches), monitor)
            devices_wait(devices.device)
            elapsed = 1000 * (time.perf_counter() - since)
            run.step += 1
            if step == 0 or plan[2:5] == before:
                kind = "same"
            else:
                kind = "new" if plan.epoch == 1 else "changed"
            before = plan[2:5]
            if step:  # the first step of all waits for the workers to start
                entry = seen.setdefault(plan[2:5], {"same": [], "new": [], "changed": []})
                entry[kind].append(elapsed)
        return [
            _change_row(run, shape, times)
            for shape, times in seen.items()
            if len(times["same"]) >= 2 and times["new"] + times["changed"]
        ]


def devices_wait(device: torch.device) -> None:
    """Wait until the device has done its queued work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _change_row(
    run: TrainingRun, shape: tuple[int, int, int], times: dict[str, list[float]]
) -> dict[str, object]:
    batch, frames, size = shape
    row: dict[str, object] = {"policy": "shape change", "batch": batch}
    row |= {"frames": frames, "size": size, "median_step_ms": statistics.median(times["same"])}
    for kind in ("new", "changed"):
        if times[kind]:
            row[f"first_step_{kind}_ms"] = statistics.median(times[kind])
    row["batch_load_ms"] = batch_load_ms(run, StepPlan(1, 0, batch, frames, size))
    return row


def batch_load_ms(run: TrainingRun, plan: StepPlan) -> float:
    """Return how many milliseconds one process takes to load a batch."""
    order = epoch_order(len(run.train_clips), run.config.random_seed, plan.epoch)
    requests = [ClipRequest(int(i), 1, plan.frames, plan.size) for i in order[: plan.batch]]
    since = time.perf_counter()
    collate([run.train_clips[request] for request in requests])
    return 1000 * (time.perf_counter() - since)


def draw(runs: list[Run], path: Path) -> None:
    """Draw top-1 over wall-clock time: one line per run, with a dot at its end."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4.5))
    for number, policy in enumerate(dict.fromkeys(run.policy for run in runs)):
        own = [run for run in runs if run.policy == policy]
        for i, run in enumerate(own):
            label = f"multigrid {policy}" if i == 0 else None
            axis.plot(run.minutes, run.top1, color=f"C{number}", linewidth=1, label=label)
            axis.plot(run.minutes[-1], run.top1[-1], "o", color=f"C{number}")
    axis.set(xlabel="wall-clock (minutes)", ylabel="validation top-1 (%)", xlim=(0, None))
    axis.grid(alpha=0.3)
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
