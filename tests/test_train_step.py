"""One optimiser step: what it changes, and that one whose loss is not finite changes nothing."""

import copy

import pytest
import torch
from runs import command, same_bits

from run.cli import parse_config
from train.devices import open_devices
from train.engine import train_step
from train.job import prepare
from train.monitor import SpeedMonitor


@pytest.fixture
def job(tiny, tmp_path):
    """A job, one good step into its training, that may leave out steps."""
    words = ["--workers", "0", "--on-nan", "skip:9", "--ema", "0.9"]
    config = parse_config("custom", command(tiny, tmp_path, *words)[2:])
    with open_devices(0, "fp32") as devices:
        job = prepare(config, devices)
        job.batches = iter(job.training_batches())
        job.spread_net.train()
        take_step(job)
        yield job


def take_step(job):
    train_step(job, next(job.batches), SpeedMonitor(job.devices.device))
    job.step += 1


def state(job):
    """Everything that a step changes."""
    momentum = job.optimiser.state_dict()["state"]
    parts = (job.net.state_dict(), job.ema.state_dict(), momentum, job.meter.sums)
    return copy.deepcopy(parts)


def fill_classifier(job):
    """Finite weights whose products overflow: the loss is not finite."""
    with torch.no_grad():
        job.net.fc.weight.fill_(3e38)


def break_gradient(job):
    """The loss stays finite, one value of one gradient does not."""
    job.net.stem[0].weight.register_hook(
        lambda gradient: gradient.index_fill(0, torch.tensor(0), torch.inf)
    )


@pytest.mark.parametrize("fault", [fill_classifier, break_gradient])
def test_a_step_that_is_not_finite_changes_nothing(job, fault):
    fault(job)
    before = state(job)
    take_step(job)
    assert all(same_bits(a, b) for a, b in zip(before, state(job), strict=True))
    assert job.skipped_steps == 1


def test_a_step_changes_weights_average_momentum_and_scores(job):
    before = state(job)
    take_step(job)
    assert not any(same_bits(a, b) for a, b in zip(before, state(job), strict=True))
    assert job.skipped_steps == 0
