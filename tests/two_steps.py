"""Two optimiser steps (or a few), in this process or under torchrun: `two_steps.py OUT OPTIONS`."""

import os
import socket
import sys
from pathlib import Path

import pytest
import torch
from runs import SERVER, command
from torch import nn

from data.clips.loader import Batch
from run.command_line import parse_config
from train.devices import open_devices
from train.divergence import check_last_step
from train.loaders import training_batches
from train.setup import prepare
from train.speed_monitor import SpeedMonitor
from train.step import train_step


def two_steps(options: list[str], *, shares: int = 1, frozen: bool = False, steps: int = 2) -> dict:
    """Weights before and after so many `steps`, and the scores of these steps, all on the CPU.

    `shares`: one process takes the clips of a step in the order of so many ranks' shares (every
    `shares`-th from the first, from the second, ...), so that batch norm's sub-batches hold the
    same clips as the ranks. `frozen`: batch norm uses its running statistics; that over few values
    would amplify what number formats lose.
    """
    config = parse_config("custom", options)
    torch.backends.cudnn.allow_tf32 = False  # fp32 means float32 here
    with open_devices(config.gpus, config.precision) as devices:
        run = prepare(config, devices)
        before = weights(run.net)
        run.parallel_net.train(not frozen)
        batches = iter(training_batches(run))
        for _ in range(steps):
            batch = next(batches)
            order = [i for rank in range(shares) for i in range(rank, len(batch.labels), shares)]
            batch = Batch(*(part[order] for part in batch))
            train_step(run, batch, SpeedMonitor(devices.device))
            run.step += 1
        check_last_step(run)
        scores = run.meter.scores(devices)
        return {
            "before": before,
            "after": weights(run.net),
            "scores": scores,
            "first": devices.is_first,
        }


def weights(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().clone() for name, value in net.named_parameters()}


def options_in(tiny, out, *more: str) -> list[str]:
    """Options of steps whose statistics of batch norm are over four clips of eight."""
    shape = ("--batch-size", "8", "--clip-size", "48", "--bn-clips", "4")
    rate = ("--lr-base", "0.01")  # of which a wrong gradient shows
    words = ("--multigrid", "off", "--workers", "0", "--precision", "fp32", *rate, *shape, *more)
    return command(tiny, out, *words)[2:]


def steps_of_processes(world_size: int, options: list[str], out: Path, *, steps: int = 2) -> dict:
    """What `two_steps` gives in the first of so many processes of one run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        SERVER.Process(target=_rank, args=(rank, world_size, port, str(out), options, steps))
        for rank in range(world_size)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    assert [process.exitcode for process in ranks] == [0] * world_size
    return torch.load(out, weights_only=True)


def _rank(rank: int, world_size: int, port: int, out: str, options: list[str], steps: int) -> None:
    torch.set_num_threads(1)
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size), **where)
    result = two_steps(options, steps=steps)
    if rank == 0:
        torch.save(result, out)


def difference(one_process: dict, parts: dict) -> float:
    """The length of the difference of two runs' updates, over the length of the first's update."""
    start, end, other = (
        torch.cat([weight.flatten() for weight in weights.values()])
        for weights in (one_process["before"], one_process["after"], parts["after"])
    )
    return float((other - end).norm() / (end - start).norm())


def compare(one_process: dict, parts: dict, *, tolerance: float = 0.05) -> None:
    """Updates and scores are equal but for rounding, which batch norm over few values amplifies."""
    assert difference(one_process, parts) < tolerance
    assert one_process["scores"]["clips"] == parts["scores"]["clips"]
    assert one_process["scores"]["loss"] == pytest.approx(
        parts["scores"]["loss"], rel=tolerance / 10
    )


def main() -> None:
    out, *options = sys.argv[1:]
    result = two_steps(options)
    if result["first"]:
        torch.save(result, out)


if __name__ == "__main__":
    main()
