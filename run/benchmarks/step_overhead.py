"""What the training loop itself costs: the share of a step that is neither data nor computing.

Trains epochs of one shape by the engine's own loop, on the embedded dataset (rendered below --root)
or on --dataset and --labels, and reads its speed monitor after each.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from run import demo
from run.command_line import parse_config
from train.devices import open_devices
from train.loaders import training_batches
from train.loop import train_epoch
from train.prefetch import prefetched
from train.setup import prepare
from train.signals import Signals


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The data, the network and the shape."""
    parser.add_argument("--dataset", type=Path, help="folder with jpg/ (default: embedded videos)")
    parser.add_argument("--labels", type=Path, help="csv of --dataset's training videos")
    parser.add_argument("--root", type=Path, default=Path("demo"), help="default: demo")
    parser.add_argument("--scale", type=float, default=0.1, help="share of the embedded videos")
    parser.add_argument("--network", default="r3d_18")
    parser.add_argument("--shape", type=int, nargs=3, default=(8, 8, 112), metavar=("B", "T", "S"))
    parser.add_argument("--epochs", type=int, default=3, help="after one that is not counted")
    parser.add_argument("--workers", type=int, default=1)


def measure(args: argparse.Namespace) -> list[dict]:
    """One row: shape, milliseconds per step, and the shares of waiting and of the loop itself."""
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
            train_epoch(run, batches, Signals())
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
