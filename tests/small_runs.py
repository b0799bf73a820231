"""Runs whose steps take milliseconds: a small network on made-up clips, all else is real."""

from collections import OrderedDict

import torch
from runs import command
from torch import nn

from data.clips.loader import Batch
from run.command_line import parse_config
from train import setup
from train.devices import Devices
from train.setup import prepare
from train.speed_monitor import SpeedMonitor
from train.step import train_step
from train.training_run import TrainingRun

PLAIN = ["--workers", "0", "--multigrid", "off", "--micro-batch", "4"]


def small_network() -> nn.Module:
    """A network with batch norm that takes a millisecond."""
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv3d(3, 8, 3, padding=1),
            norm=nn.BatchNorm3d(8),
            relu=nn.ReLU(),
            pool=nn.AdaptiveAvgPool3d(1),
            flat=nn.Flatten(),
            fc=nn.Linear(8, 3),
        )
    )


def batch(step: int) -> Batch:
    """Four clips of the first step's videos in turn; what they show does not matter here."""
    random = torch.Generator().manual_seed(step)
    clips = torch.randint(0, 256, (4, 3, 2, 16, 16), dtype=torch.uint8, generator=random)
    indices = torch.arange(4) + step
    return Batch(clips, indices % 3, indices, torch.full((4,), -1))


def small_run(monkeypatch, root, out, *options: str, devices: Devices) -> TrainingRun:
    """A run on the dataset in `root` that trains a `small_network`; `run.batches` are four."""
    monkeypatch.setattr(setup, "_build_with_weights", lambda *_: small_network())
    words = command(root, out, *PLAIN, "--precision", devices.precision, *options)[2:]
    run = prepare(parse_config("custom", words), devices)
    run.batches = [batch(step) for step in range(4)]
    run.parallel_net.train()
    return run


def take(run, count=1):
    """Take `count` steps."""
    for _ in range(count):
        train_step(run, run.batches[run.step % len(run.batches)], SpeedMonitor(run.devices.device))
        run.step += 1
