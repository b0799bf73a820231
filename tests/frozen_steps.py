"""Two optimiser steps with frozen norms, alone or under torchrun: `frozen_steps.py OUT OPTIONS`."""

import sys

import torch

from run.cli import parse_config
from train.devices import open_devices
from train.job import prepare
from train.monitor import SpeedMonitor
from train.step import train_step


def main() -> None:
    out, *options = sys.argv[1:]
    config = parse_config("custom", options)
    with open_devices(0, "fp32") as devices:
        job = prepare(config, devices)
        # Batch norm over a part of the batch is another function; torch synchronises it on GPUs
        # only. With running statistics the gradients of a batch and of its parts must agree.
        job.spread_net.eval()
        batches = iter(job.training_batches())
        for _ in range(2):
            train_step(job, next(batches), SpeedMonitor(devices.device))
            job.step += 1
        scores = job.meter.scores(devices)
        if devices.is_first:
            torch.save({"net": job.net.state_dict(), "scores": scores}, out)


if __name__ == "__main__":
    main()
