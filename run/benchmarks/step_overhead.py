"""Measure the training loop's own share of the time: neither waiting for data nor computing.

It trains a few epochs with one clip shape, as the training scripts do, and reads the speed monitor
after each epoch. The data are the demo's videos, rendered into --root, or those of --dataset.
"""

from __future__ import annotations

import argparse
import statistics

from run import demo
from run.command_line import parse_config
from train.devices import open_devices
from train.loaders import training_batches
from train.loop import train_epoch
from train.prefetch import prefetched
from train.setup import prepare
from train.signals import Signals
from train.time_limit import TimeLimit


def measure(args: argparse.Namespace) -> list[dict]:
    """Return one row: network, shape, step_ms, waiting_percent, loop_percent.

    step_ms is the time of a step in milliseconds. waiting_percent and loop_percent are the shares
    of the time spent waiting for data and in the loop itself. All are medians over the epochs.
    """
    root = args.dataset or args.root
    labels = args.labels or demo.prepare(args.root, scale=args.scale)
    batch, frames, size = map(str, args.shape)
    words = ["--dataset", str(root), "--labels", str(labels), "--network", args.network]
    words += ["--batch-size", batch, "--clip-length", frames, "--clip-size", size]
    words += [
        "--recipe",
        "original",
        "--multigrid",
        "off",
        "--workers",
        str(args.workers),
        "--save-minutes",
        "0",
    ]
    words += ["--end-epoch", str(args.epochs + 1), "--log-interval", str(10**9)]
    config = parse_config("custom", words)
    reports = []
    with open_devices(config.gpus, config.precision) as devices:
        run = prepare(config, devices)
        batches = prefetched(training_batches(run), devices)
        for _ in range(args.epochs + 1):
            train_epoch(run, batches, Signals(), TimeLimit(run))
            reports.append(run.speed)
            run.epoch += 1
    counted = reports[1:]  # the first epoch warms up the libraries and starts the workers
    steps = len(run.schedule.epoch_steps(1))
    return [
        {
            "network": args.network,
            "shape": f"({batch},3,{frames},{size},{size})",
            "step_ms": 1000 * statistics.median(report.wall / steps for report in counted),
            "waiting_percent": 100 * statistics.median(report.waiting for report in counted),
            "loop_percent": 100 * statistics.median(report.overhead for report in counted),
        }
    ]
