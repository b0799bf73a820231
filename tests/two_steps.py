"""Two optimiser steps, in this process or under torchrun: `two_steps.py OUT OPTIONS`."""

import copy
import sys

import torch

from data.loading import Batch
from run.cli import parse_config
from train.devices import open_devices
from train.job import prepare
from train.monitor import SpeedMonitor
from train.step import train_step


def two_steps(options: list[str], *, shares: int = 1) -> dict:
    """Weights before and after two steps on the CPU, and the scores of these steps.

    `shares`: one process takes the clips of a step in the order of so many ranks' shares (every
    `shares`-th from the first, from the second, ...), so that batch norm's sub-batches hold the
    same clips as the ranks.
    """
    config = parse_config("custom", options)
    with open_devices(0, "fp32") as devices:
        job = prepare(config, devices)
        before = copy.deepcopy(dict(job.net.named_parameters()))
        job.spread_net.train()
        batches = iter(job.training_batches())
        for _ in range(2):
            batch = next(batches)
            order = [i for rank in range(shares) for i in range(rank, len(batch.labels), shares)]
            batch = Batch(*(part[order] for part in batch))
            train_step(job, batch, SpeedMonitor(devices.device))
            job.step += 1
        scores = job.meter.scores(devices)
        after = dict(job.net.named_parameters())
        return {"before": before, "after": after, "scores": scores, "first": devices.is_first}


def main() -> None:
    out, *options = sys.argv[1:]
    result = two_steps(options)
    if result["first"]:
        torch.save(result, out)


if __name__ == "__main__":
    main()
