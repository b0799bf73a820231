"""One optimiser step: what it changes, and that one whose loss is not finite changes nothing."""

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from runs import command, same_bits

from data.clips.loader import StepPlan
from network import gate_rates
from run.command_line import parse_config
from train.devices import open_devices
from train.divergence import check_last_step
from train.evaluation import network_to_validate
from train.input_normalisation import normalised
from train.loaders import training_batches
from train.mixing import mixed
from train.prefetch import prefetched
from train.setup import prepare
from train.speed_monitor import SpeedMonitor
from train.step import accumulate_gradients, number_of_micro_batches, train_step


@pytest.fixture
def run(tiny, tmp_path):
    """A run, one good step into its training, that may leave out steps."""
    words = ["--workers", "0", "--on-nan", "skip:9", "--ema", "0.9"]
    config = parse_config("custom", command(tiny, tmp_path, *words)[2:])
    with open_devices(0, "fp32") as devices:
        run = prepare(config, devices)
        run.batches = prefetched(training_batches(run), devices)
        run.parallel_net.train()
        take_step(run)
        yield run


def take_step(run):
    train_step(run, next(run.batches), SpeedMonitor(run.devices.device))
    check_last_step(run)
    run.step += 1


def state(run):
    """Everything that a step changes."""
    momentum = run.optimiser.state_dict()["state"]
    parts = (run.net.state_dict(), run.ema.state_dict(), momentum, run.meter.sums)
    return copy.deepcopy(parts)


def fill_classifier(run):
    """Finite weights whose products overflow: the loss is not finite."""
    with torch.no_grad():
        run.net.fc.weight.fill_(3e38)


def break_gradient(run):
    """The loss stays finite, one value of one gradient does not."""
    run.net.stem[0].weight.register_hook(
        lambda gradient: gradient.index_fill(0, torch.tensor(0), torch.inf)
    )


@pytest.mark.parametrize("fault", [fill_classifier, break_gradient])
def test_a_step_that_is_not_finite_changes_nothing(run, fault):
    fault(run)
    before = state(run)
    take_step(run)
    assert all(same_bits(a, b) for a, b in zip(before, state(run), strict=True))
    assert run.skipped_steps == 1


def test_a_step_changes_weights_average_momentum_and_scores(run):
    before = state(run)
    take_step(run)
    assert not any(same_bits(a, b) for a, b in zip(before, state(run), strict=True))
    assert run.skipped_steps == 0


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_gradients_are_those_of_the_mean_loss_over_all_clips(run, micro_batch):
    run.micro_batch_size = lambda frames, size: micro_batch
    torch.manual_seed(0)
    for module in run.net.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    run.net.eval()  # batch norm in training mode depends on the micro-batch
    plan = run.schedule.plan(run.step)
    clips = torch.rand(plan.batch, 3, plan.frames, plan.size, plan.size)
    targets = F.one_hot(torch.arange(plan.batch) % 3, 3).float()
    monitor = SpeedMonitor(run.devices.device)
    logits, loss_sum = accumulate_gradients(run, clips, targets, plan, monitor)
    gradients = [parameter.grad.clone() for parameter in run.net.parameters()]
    expected = F.cross_entropy(run.net(clips), targets)
    wanted = torch.autograd.grad(expected, list(run.net.parameters()))
    torch.testing.assert_close(gradients, list(wanted), rtol=1e-3, atol=1e-5)
    assert float(loss_sum) == pytest.approx(plan.batch * float(expected.detach()), rel=1e-5)
    assert logits.shape == (plan.batch, 3)


@pytest.mark.parametrize("micro_batch", [1, 2, 100])
def test_batch_norm_is_arranged_for_the_size_of_the_micro_batches(run, monkeypatch, micro_batch):
    """On several GPUs `arrange` decides which ranks share their statistics."""
    run.micro_batch_size = lambda frames, size: micro_batch
    sizes = []
    monkeypatch.setattr(run.norms, "arrange", sizes.append)
    batch = run.schedule.plan(run.step).batch
    take_step(run)
    assert sizes == [min(batch, micro_batch)]


def test_training_accuracy_under_mixup_counts_the_heavier_class(tiny, tmp_path):
    words = ["--workers", "0", "--mixup", "1", "--multigrid", "off", "--batch-size", "6"]
    config = parse_config("custom", command(tiny, tmp_path, *words)[2:])
    with open_devices(0, "fp32") as devices:
        run = prepare(config, devices)
        right, wrong = 0, 0
        for batch in training_batches(run):
            # a network that names the class of the clip before it was mixed
            answer = F.one_hot(batch.labels, 3).float()
            hook = run.net.register_forward_hook(lambda *args, answer=answer: 0 * args[2] + answer)
            torch.manual_seed(hash((config.random_seed, run.step, 0)) % 2**63)
            _, targets = mixed(normalised(run.net, batch.clips), batch.labels, 3, config)
            heavier = targets.argmax(1) == batch.labels
            right, wrong = right + int(heavier.sum()), wrong + int((~heavier).sum())
            train_step(run, batch, SpeedMonitor(devices.device))
            run.step += 1
            hook.remove()
            assert run.meter.sums[1] == right
    assert right and wrong


def test_precise_batch_norm_is_not_counted_in_the_gates_rates(tiny, tmp_path):
    words = ["--workers", "0", "--network", "srtg_r3d_18", "--gates", "--precise-bn", "2"]
    config = parse_config("custom", [*command(tiny, tmp_path)[2:], *words])
    with open_devices(0, "fp32") as devices:
        run = prepare(config, devices)
        run.parallel_net.train()
        train_step(run, next(iter(training_batches(run))), SpeedMonitor(devices.device))
        rates = gate_rates(run.net)
        seen = [int(module.counts[1]) for module in run.net.modules() if hasattr(module, "counts")]
        means = run.net.layer1[0].conv1[1].running_mean.clone()
        network_to_validate(run)
        assert gate_rates(run.net) == rates
        after = [int(module.counts[1]) for module in run.net.modules() if hasattr(module, "counts")]
        assert after == seen and all(seen)
        assert not torch.equal(run.net.layer1[0].conv1[1].running_mean, means)


@pytest.mark.parametrize(
    ("batch", "clips", "world_size", "gpus", "number"),
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
def test_numbers_of_micro_batches_by_hand(batch, clips, world_size, gpus, number):
    run = SimpleNamespace(
        devices=SimpleNamespace(world_size=world_size, gpus=gpus),
        micro_batch_size=lambda frames, size: clips,
    )
    assert number_of_micro_batches(run, StepPlan(1, 0, batch, 4, 32)) == number
    asked = []
    run.micro_batch_size = lambda *shape: asked.append(shape) or clips
    number_of_micro_batches(run, StepPlan(1, 0, batch, 4, 32))
    assert asked == [(4, 32)]
