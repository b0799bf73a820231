"""Optimiser groups, metrics, speeds, checkpoints and tables, each by itself."""

import multiprocessing
import os
import signal
import time
from copy import deepcopy
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from network import build_network
from train.checkpoint.opening import load_checkpoint
from train.checkpoint.saving import save_checkpoint
from train.config import Config
from train.devices import Devices
from train.metrics import Meter, top_k_hits
from train.mixing import heavier_labels, mixed, scoring_note
from train.optimiser import (
    build_optimiser,
    groups_table,
    parameter_groups,
    restore_optimiser,
    set_learning_rate,
)
from train.results.log_file import without_colours
from train.signals import caught_signals
from train.speed_monitor import (
    GREEN,
    RED,
    YELLOW,
    SpeedMonitor,
    SpeedReport,
    coloured,
)
from train.train_errors import TrainError

CPU = Devices(torch.device("cpu"), 0, "fp32")


def test_groups_follow_the_rule_and_hold_every_parameter_once():
    net = build_network("srtg_r3d_18", 4)
    groups = parameter_groups(net, Config(fine_tune=True, decay_norms=False))
    scales = {group["name"].split(",")[0]: group["lr_scale"] for group in groups}
    assert scales == {"convolution": 0.6, "recurrent": 0.5, "classifier": 1.0}
    held = [parameter for group in groups for parameter in group["params"]]
    assert len(held) == len({id(p) for p in held}) == len(list(net.parameters()))
    for group in groups:
        flat = {parameter.ndim == 1 for parameter in group["params"]}
        assert flat == {"weight_decay" in group}


def test_the_learning_rate_is_each_groups_share():
    net = nn.Sequential(nn.Conv3d(3, 4, 1), nn.Linear(4, 2))
    optimiser = build_optimiser(net, Config(lr_base=0.1, fine_tune=True))
    set_learning_rate(optimiser, 0.5)
    assert sorted(group["lr"] for group in optimiser.param_groups) == [0.3, 0.5]
    assert groups_table(optimiser).count("\n") == 2
    assert all(group["nesterov"] for group in optimiser.param_groups)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_a_state_of_another_memory_format_goes_to_its_own_elements(kind):
    torch.manual_seed(0)
    config = Config(optimiser=kind, lr_base=0.1)
    weight, gradients = torch.randn(4, 6, 3, 3, 3), torch.randn(2, 4, 6, 3, 3, 3)

    def layer(memory_format):
        net = nn.Conv3d(6, 4, 3, bias=False).to(memory_format=memory_format)
        with torch.no_grad():
            net.weight.copy_(weight)
        return net, build_optimiser(net, config)

    def step(net, optimiser, gradient):
        net.weight.grad = torch.empty_like(net.weight).copy_(gradient)
        optimiser.step()

    saved, optimiser = layer(torch.channels_last_3d)
    step(saved, optimiser, gradients[0])
    resumed, other = layer(torch.contiguous_format)
    resumed.load_state_dict(saved.state_dict())
    restore_optimiser(other, deepcopy(optimiser.state_dict()))
    step(saved, optimiser, gradients[1])
    step(resumed, other, gradients[1])
    torch.testing.assert_close(resumed.weight, saved.weight)


@given(st.integers(1, 12), st.integers(1, 20), st.integers(0, 9))
def test_top_k_agrees_with_sorting(classes, batch, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, generator=generator)
    labels = torch.randint(classes, (batch,), generator=generator)
    ranks = (logits > logits.gather(1, labels[:, None])).sum(1)
    assert top_k_hits(logits, labels).tolist() == [(ranks < k).sum().item() for k in (1, 5)]


def test_the_meter_is_exact_over_ragged_batches():
    meter = Meter(CPU.device)
    logits, labels = torch.eye(6)[[0, 1, 2, 3, 4]], torch.tensor([0, 1, 2, 0, 5])
    for part in (slice(0, 4), slice(4, 5)):
        meter.add(logits[part], labels[part], torch.tensor(2.0))
    scores = meter.scores(CPU)
    assert (scores["top1"], scores["loss"], scores["clips"]) == (60, 0.8, 5)


def test_the_meter_adds_up_in_double_precision_and_begins_with_nothing():
    meter = Meter(CPU.device)
    assert meter.scores(CPU) == {"top1": 0, "top5": 0, "loss": 0, "clips": 0}
    falling = -torch.arange(7.0)[None]
    meter.add(falling, torch.tensor([6]), torch.tensor(2**24))
    assert meter.scores(CPU) == {"top1": 0, "top5": 0, "loss": 2**24, "clips": 1}
    meter.add(falling.expand(3, 7), torch.tensor([0, 4, 0]), torch.tensor(1.0))
    scores = meter.scores(CPU)
    assert (scores["top1"], scores["top5"]) == (50, 75)
    assert scores["loss"] == (2**24 + 1) / 4  # float32 has no such number


@pytest.mark.parametrize(
    ("name", "speed", "colour"),
    [("r", 99.9, RED), ("r", 100, YELLOW), ("r", 2999, YELLOW), ("r", 3000, GREEN),
     ("f", 49.9, RED), ("f", 50, YELLOW), ("f", 299, YELLOW), ("f", 300, GREEN),
     ("b", 19.9, RED), ("b", 20, YELLOW), ("b", 199, YELLOW), ("b", 200, GREEN)],
)  # fmt: skip
def test_colours_begin_where_the_original_says(name, speed, colour):
    assert coloured(name, speed).startswith(colour)


def test_the_speeds_read_as_the_originals():
    report = SpeedReport(
        clips=153000, reading=1, forward=153000 / 98.4, backward=153000 / 17.8, wall=20000
    )
    assert without_colours(str(report)) == "Speed (r=1.53e+5 f=9.84e+1 b=1.78e+1) clip/sec"
    assert report.verdict(2) is None


def test_the_monitor_says_where_the_time_of_the_steps_since_the_last_report_went(monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("time.perf_counter", lambda: clock.now)
    monitor = SpeedMonitor(CPU.device)
    for clips in (4, 6):  # two steps, then the report; and all of it once more
        for waited, forward, backward in ((1, 2, 4), (0.5, 1, 2)):
            monitor.clips += clips
            for timing, seconds in (
                (monitor.reading(), waited),
                (monitor.timing("forward"), forward),
                (monitor.timing("backward"), backward),
            ):
                with timing:
                    clock.now += seconds
            clock.now += 0.75
        report = monitor.report()
        assert report.clips == 2 * clips and report.wall == 12
        assert report.seconds == {"r": 1.5, "f": 3, "b": 6}
        assert report.speeds == {"r": 2 * clips / 1.5, "f": 2 * clips / 3, "b": 2 * clips / 6}
        assert report.waiting == 0.125 and report.overhead == 0.125


def test_a_reader_bound_run_is_told_so():
    report = SpeedReport(clips=10, reading=61, forward=19, backward=19, wall=100)
    assert report.verdict(3) == ("reader-bound: 61% of the step waits for data; try --workers 6")
    assert report.overhead == pytest.approx(0.01)
    bound = SpeedReport(clips=10, reading=30, forward=19, backward=19, wall=100)
    assert bound.verdict(0) == "reader-bound: 30% of the step waits for data; try --workers 2"
    assert SpeedReport(clips=0, reading=0, forward=0, backward=0, wall=0).speeds["r"] == 0


def test_mixup_and_cutmix_mix_whole_clips():
    clips = torch.arange(4.0).view(4, 1, 1, 1, 1).expand(4, 3, 2, 8, 8)
    labels = torch.arange(4)
    for config in (Config(mixup=1.0), Config(cutmix=1.0)):
        torch.manual_seed(3)
        out, targets = mixed(clips, labels, 4, config)
        assert out.shape == clips.shape and type(out) is torch.Tensor
        assert torch.allclose(targets.sum(1), torch.ones(4))
        shares = out.mean((1, 2, 3, 4))  # of clip b: what its targets say of 0, 1, 2, 3
        assert torch.allclose(shares, targets @ torch.arange(4.0), atol=1e-4)
        assert torch.equal(out[:, :, 0], out[:, :, 1])  # the same in every frame
    same, wanted = mixed(clips, labels, 4, Config())
    assert same is clips and wanted is labels


def test_the_class_with_the_larger_share_is_the_one_that_is_scored():
    shares = torch.tensor([[0.7, 0.3, 0.0], [0.2, 0.0, 0.8], [0.0, 1.0, 0.0]])
    assert heavier_labels(shares).tolist() == [0, 2, 1]
    labels = torch.tensor([2, 0])
    assert heavier_labels(labels) is labels
    assert scoring_note(Config()) is None
    assert "larger share of a mixed clip" in scoring_note(Config(cutmix=1.0))


STATE = {
    "state_dict": {"w": torch.arange(2000.0)}, "ema": None, "optimizer": {}, "scaler": {},
    "meter": torch.zeros(4), "counts": {}, "epoch": 3, "step": 7, "best_top1": 0.0,
    "skipped_steps": 0, "classes": ["a", "b"], "fingerprint": "",
    "config": {"network": "r3d_18", "clip_length": 4, "clip_size": 32, "val_frame_interval": 1},
}  # fmt: skip


def test_damaged_and_foreign_files_are_one_sentence(tmp_path):
    path = tmp_path / "x.pth"
    save_checkpoint(path, STATE)
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"\x00\x00\x80\x3f")] ^= 1  # one bit of the weights
    path.write_bytes(whole)
    with pytest.raises(TrainError, match=r"is damaged .* checksum"):
        load_checkpoint(path)
    torch.save({"w": torch.ones(2)}, path)
    with pytest.raises(TrainError, match="--pretrained-3d"):
        load_checkpoint(path)
    with pytest.raises(TrainError, match="no such file"):
        load_checkpoint(tmp_path / "none.pth")


def save_forever(path):
    for step in count():
        save_checkpoint(path, {**STATE, "step": step})


def test_a_kill_while_saving_leaves_a_whole_checkpoint(tmp_path):
    path = tmp_path / "last.pth"
    for delay in (0.05, 0.11, 0.17, 0.23):
        process = multiprocessing.get_context("fork").Process(target=save_forever, args=(path,))
        process.start()
        while not path.exists():
            time.sleep(0.005)
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert torch.equal(load_checkpoint(path)["state_dict"]["w"], torch.arange(2000.0))


@pytest.fixture
def ctrl_c():
    """Ctrl-C as Python has it: what a shell starts in the background is told to ignore it."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


@pytest.mark.usefixtures("ctrl_c")
def test_the_first_signal_is_noted_and_a_second_ctrl_c_is_not():
    with pytest.raises(KeyboardInterrupt), caught_signals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        assert signals.number == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)


def test_a_launcher_may_repeat_its_sigterm():
    with caught_signals() as signals:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGTERM):
            os.kill(os.getpid(), number)
            time.sleep(0.01)
        assert signals.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
