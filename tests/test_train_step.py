"""One optimiser step: what it changes, and that one whose loss is not finite changes nothing."""

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from runs import command, same_bits

from data.clips.clip_dataset import normalise
from data.clips.loader import StepPlan
from network import gate_rates
from run.command_line import parse_config
from train.devices import open_devices
from train.divergence import check_last_step
from train.loaders import training_batches
from train.mixing import mixed
from train.prefetch import prefetched
from train.setup import prepare
from train.speed_monitor import SpeedMonitor
from train.step import number_of_micro_batches, train_step
from train.validation import network_to_validate


@pytest.fixture
def job(tiny, tmp_path):
    """A job, one good step into its training, that may leave out steps."""
    words = ["--workers", "0", "--on-nan", "skip:9", "--ema", "0.9"]
    config = parse_config("custom", command(tiny, tmp_path, *words)[2:])
    with open_devices(0, "fp32") as devices:
        job = prepare(config, devices)
        job.batches = prefetched(training_batches(job), devices)
        job.parallel_net.train()
        take_step(job)
        yield job


def take_step(job):
    train_step(job, next(job.batches), SpeedMonitor(job.devices.device))
    check_last_step(job)
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


def test_training_accuracy_under_mixup_counts_the_heavier_class(tiny, tmp_path):
    words = ["--workers", "0", "--mixup", "1", "--multigrid", "off", "--batch-size", "6"]
    config = parse_config("custom", command(tiny, tmp_path, *words)[2:])
    with open_devices(0, "fp32") as devices:
        job = prepare(config, devices)
        right, wrong = 0, 0
        for batch in training_batches(job):
            # a network that names the class of the clip before it was mixed
            answer = F.one_hot(batch.labels, 3).float()
            hook = job.net.register_forward_hook(lambda *args, answer=answer: 0 * args[2] + answer)
            torch.manual_seed(hash((config.random_seed, job.step, 0)) % 2**63)
            _, targets = mixed(normalise(batch.clips), batch.labels, 3, config)
            heavier = targets.argmax(1) == batch.labels
            right, wrong = right + int(heavier.sum()), wrong + int((~heavier).sum())
            train_step(job, batch, SpeedMonitor(devices.device))
            job.step += 1
            hook.remove()
            assert job.meter.sums[1] == right
    assert right and wrong


def test_precise_batch_norm_is_not_counted_in_the_gates_rates(tiny, tmp_path):
    words = ["--workers", "0", "--network", "srtg_r3d_18", "--gates", "--precise-bn", "2"]
    config = parse_config("custom", [*command(tiny, tmp_path)[2:], *words])
    with open_devices(0, "fp32") as devices:
        job = prepare(config, devices)
        job.parallel_net.train()
        train_step(job, next(iter(training_batches(job))), SpeedMonitor(devices.device))
        rates = gate_rates(job.net)
        seen = [int(module.counts[1]) for module in job.net.modules() if hasattr(module, "counts")]
        means = job.net.layer1[0].conv1[1].running_mean.clone()
        network_to_validate(job)
        assert gate_rates(job.net) == rates
        after = [int(module.counts[1]) for module in job.net.modules() if hasattr(module, "counts")]
        assert after == seen and all(seen)
        assert not torch.equal(job.net.layer1[0].conv1[1].running_mean, means)


@pytest.mark.parametrize(
    ("batch", "clips", "world", "gpus", "number"),
    [
        (32, 8, 1, 0, 4),
        (33, 8, 1, 0, 5),
        (8, 8, 1, 0, 1),
        (32, 8, 1, 2, 2),  # DataParallel: so many clips on each of two
        (32, 8, 2, 1, 2),  # two ranks: sixteen clips each
        (34, 8, 2, 1, 3),
        (7, 1, 4, 1, 1),  # one rank has a single clip
        (3, 100, 1, 0, 1),
        (2, 1, 4, 1, 1),
    ],
)
def test_numbers_of_micro_batches_by_hand(batch, clips, world, gpus, number):
    job = SimpleNamespace(
        devices=SimpleNamespace(world=world, gpus=gpus), micro_batch_size=lambda frames, size: clips
    )
    assert number_of_micro_batches(job, StepPlan(1, 0, batch, 4, 32)) == number
    asked = []
    job.micro_batch_size = lambda *shape: asked.append(shape) or clips
    number_of_micro_batches(job, StepPlan(1, 0, batch, 4, 32))
    assert asked == [(4, 32)]
