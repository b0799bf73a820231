"""One training step: a step that is not finite leaves nothing behind, and nothing waits."""

import math
from random import Random

import pytest
import torch
from runs import same_bits
from small_runs import small_run, take
from torch.utils._python_dispatch import TorchDispatchMode

from train import divergence
from train.devices import Devices
from train.divergence import check_last_step
from train.epoch_end import finish_epoch, save_last
from train.train_errors import DivergedError

ALL = ("--mixup", "0.2", "--ema", "0.9", "--clip-grad", "1", "--label-smoothing", "0.1")


@pytest.fixture
def new_run(tiny, tmp_path, monkeypatch):
    """Makes a small run with options of its own."""

    def make(*options, precision="fp32"):
        devices = Devices(torch.device("cpu"), 0, precision)
        return small_run(monkeypatch, tiny, tmp_path, *options, devices=devices)

    return make


def spoil(run, what):
    """Make the loss NaN, or only the gradients infinite. Returns what undoes it."""
    if what == "loss":
        return run.net.register_forward_hook(lambda module, inputs, output: output * math.nan)
    parameter = next(run.net.parameters())
    return parameter.register_hook(lambda gradient: gradient * math.inf)


def lasting(run):
    """What a step that is left out must not change."""
    state = {
        k: v
        for k, v in run.state_dict().items()
        if k not in ("step", "skipped_steps", "scaler", "clock")
    }
    return torch.utils._pytree.tree_map(
        lambda value: value.clone() if torch.is_tensor(value) else value, state
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
@pytest.mark.parametrize("what", ["loss", "gradients"])
def test_a_step_that_is_not_finite_leaves_nothing_behind(new_run, what, optimiser, precision):
    """Not even in the optimiser's first step, nor in the steps that follow."""
    options = ("--optimiser", optimiser, "--on-nan", "skip:5", *ALL)
    run, other = (new_run(*options, precision=precision) for _ in range(2))
    before = lasting(run)
    spoiled = spoil(run, what)
    take(run)
    spoiled.remove()
    check_last_step(run)
    after = lasting(run)
    if what == "gradients" and precision == "fp16":  # its loss was finite: its clips are scored
        assert after.pop("meter")[0] == len(run.batches[0].labels)
        assert (after.pop("losses")[0] >= 0).sum() == len(run.batches[0].labels)
        del before["meter"], before["losses"]
        assert run.skipped_steps == 0  # the loss scale was too large, no more
    else:
        assert run.skipped_steps == 1
    for name in before:
        if name == "optimizer" and not before[name]["state"]:  # AdamW makes its state, of zeros
            assert not any(v.any() for s in after[name]["state"].values() for v in s.values())
        else:
            assert same_bits(before[name], after[name]), name
    take(run, 2)
    other.step = 1
    if precision == "fp16":
        other.scaler.load_state_dict(run.scaler.state_dict())  # was halved
        assert run.scaler.get_scale() == 2.0**15
    take(other, 2)
    assert same_bits(lasting(run)["state_dict"], lasting(other)["state_dict"])
    assert same_bits(lasting(run)["optimizer"], lasting(other)["optimizer"])
    assert same_bits(lasting(run)["ema"], lasting(other)["ema"])


class Waits(TorchDispatchMode):
    """Notes what would make the host wait for a GPU: reading a number, copying one from Python."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().removeprefix("aten::")
        if name in ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "lift_fresh"):
            self.seen.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_a_step_does_not_wait_for_the_device(new_run, optimiser, precision):
    options = ("--optimiser", optimiser, "--ema", "0.9", "--clip-grad", "1", "--bn-clips", "2")
    run = new_run(*options, "--on-nan", "skip:1", precision=precision)
    take(run)
    with Waits() as waits:
        take(run)
    assert waits.seen == []


def test_divergence_is_noticed_a_step_late_and_names_the_right_step(new_run):
    run = new_run()
    take(run)
    spoiled = spoil(run, "loss")
    take(run)
    spoiled.remove()
    names = [run.train_clips.videos.folder(i).name for i in run.batches[1].indices.tolist()]
    with pytest.raises(DivergedError, match=rf"step 1, .*clips {', '.join(names)};"):
        take(run)


def test_nothing_is_saved_of_a_step_that_diverged(new_run):
    for save in (save_last, lambda run: finish_epoch(run, None, None)):
        run = new_run()
        run.folder.mkdir(parents=True, exist_ok=True)
        last = run.folder / "last.pth"
        take(run)
        save_last(run)
        good = last.read_bytes()
        spoil(run, "gradients")
        take(run)
        diverged = r"its gradients are not finite\) at .*last\.pth"
        with pytest.raises(DivergedError, match=diverged) as caught:
            save(run)
        assert "bf16" not in str(caught.value)
        assert last.read_bytes() == good


def test_fp16_goes_on_after_a_step_left_out_with_clipped_gradients(new_run):
    run = new_run("--clip-grad", "1", "--on-nan", "skip:2", precision="fp16")
    spoiled = spoil(run, "loss")
    take(run, 2)
    spoiled.remove()
    before = lasting(run)["state_dict"]
    take(run, 2)
    check_last_step(run)
    assert (run.skipped_steps, run.overflows) == (2, 0)
    assert not same_bits(before, run.net.state_dict())
    assert run.scaler.get_scale() == 2.0**14


@pytest.mark.parametrize("sign", ["the scale collapses", "many steps in a row"])
def test_fp16_gradients_that_are_never_finite_are_divergence(new_run, monkeypatch, sign):
    run = new_run(precision="fp16")
    before = lasting(run)["state_dict"]
    spoil(run, "gradients")
    if sign == "the scale collapses":
        run.scaler.load_state_dict(run.scaler.state_dict() | {"scale": 2.0**-7})
    else:
        monkeypatch.setattr(divergence, "MOST_OVERFLOWS", 3)
    with pytest.raises(DivergedError, match=r"4 steps in a row without an update; .*bf16"):
        take(run, 10)
    assert same_bits(before, run.net.state_dict())


def take_some(run, steps, bad: dict[int, str]):
    """Take `steps`; those in `bad` have a loss or gradients that are not finite."""
    for step in steps:
        run.step = step
        spoiled = spoil(run, bad[step]) if step in bad else None
        take(run)
        if spoiled:
            spoiled.remove()
    check_last_step(run)


def drawn(random) -> tuple[str, ...]:
    """Options of a run."""
    options = ["--optimiser", random.choice(["sgd", "adamw"]), "--on-nan", "skip:20"]
    for words in (["--ema", "0.9"], ["--clip-grad", "1"], ["--mixup", "0.3"], ["--bn-clips", "2"]):
        options += words if random.random() < 0.5 else []
    return (*options, "--micro-batch", random.choice("124"))


@pytest.mark.fault
def test_steps_left_out_are_as_if_they_had_not_been_taken(new_run, trials):
    trial = trials("a step that is not finite changes nothing", "infinite losses and gradients")
    for number in range(trial.number(4, 300)):
        random = Random(number)
        options = drawn(random)
        bad = {step: random.choice(["loss", "gradients"]) for step in random.sample(range(6), 3)}
        run, other = new_run(*options), new_run(*options)
        take_some(run, range(6), bad)
        take_some(other, [step for step in range(6) if step not in bad], {})
        ends = [lasting(run), lasting(other)]
        for end in ends:  # without the learning rate of the step taken last
            end["optimizer"] = end["optimizer"]["state"]
        trial.add(same_bits(*ends), (options, bad))


@pytest.mark.fault
def test_a_run_with_steps_left_out_goes_on_from_any_of_them(new_run, trials):
    trial = trials("a resumed run has the bits of the uninterrupted one", "steps left out")
    for number in range(trial.number(4, 300)):
        random = Random(number)
        options, precision = drawn(random), random.choice(["fp32", "fp16"])
        bad = {step: random.choice(["loss", "gradients"]) for step in random.sample(range(6), 3)}
        whole, first, second = (new_run(*options, precision=precision) for _ in range(3))
        take_some(whole, range(6), bad)
        stop = random.randrange(1, 6)
        take_some(first, range(stop), bad)
        first.folder.mkdir(parents=True, exist_ok=True)
        save_last(first)
        second.load_state_dict(torch.load(first.folder / "last.pth", weights_only=True))
        take_some(second, range(second.step, 6), bad)
        equal = same_bits(*({**run.state_dict(), "clock": None} for run in (whole, second)))
        trial.add(equal, (options, precision, bad, stop))
