"""How many clips a pass takes: measured or estimated, within all limits, and without a trace."""

import contextlib
import copy
import itertools
import subprocess
import sys

import pytest
import torch
from runs import ROOT, environment
from small_runs import small_run

from data.clips.loader import StepPlan
from network import build_network
from train import memory
from train.batchnorm import split_batch_norm
from train.devices import Devices
from train.loaders import unaugmented_batches, validation_batches
from train.memory import (
    cgroup_free_bytes,
    empty_clips,
    estimated_clips,
    forward_and_backward,
    free_bytes,
    micro_batch_sizes,
    most_clips,
    restored,
    saved_bytes,
)
from train.train_errors import TrainError

CPU = Devices(torch.device("cpu"), 0, "fp32")
SHAPES = [StepPlan(1, 0, 8, 4, 32), StepPlan(1, 0, 32, 2, 24)]


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(1)
    net = build_network("ir_csn_50", 3)
    split_batch_norm(net, 8)
    net(torch.rand(2, 3, 2, 16, 16))  # statistics that are not those of a new network
    return net


def state(net):
    return copy.deepcopy([net.state_dict(), net.training, torch.get_rng_state()])


def same(one, other) -> bool:
    return (
        one[1] == other[1]
        and torch.equal(one[2], other[2])
        and all(torch.equal(value, other[0][name]) for name, value in one[0].items())
    )


@pytest.mark.parametrize("training", [True, False])
def test_a_trial_leaves_the_network_and_the_random_numbers_as_they_were(net, training):
    net.train(training)
    before = state(net)
    with restored(net, CPU):
        net.train()
        forward_and_backward(net, CPU, torch.rand(3, 3, 2, 16, 16))
        assert not same(state(net), before)
    micro_batch_sizes(net, CPU, "auto", SHAPES)
    assert same(state(net), before)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_trial_that_fails_leaves_no_trace_either(net):
    before = state(net)
    with pytest.raises(RuntimeError), restored(net, CPU):
        forward_and_backward(net, CPU, torch.rand(3, 3, 2, 16, 16))
        forward_and_backward(
            net, CPU, torch.rand(3, 5, 2, 16, 16)
        )  # no network takes five channels
    assert same(state(net), before)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_halves_until_it_fits(net):
    tried = []

    def peak(clips: int) -> int:
        """Stands in for a GPU's: runs the pass, and runs out of memory with more than ten clips."""
        tried.append(clips)
        if clips > 10:
            raise torch.OutOfMemoryError
        forward_and_backward(net, CPU, empty_clips(CPU, SHAPES[0], clips))
        return saved_bytes(net, CPU, SHAPES[0], clips)

    with restored(net, CPU):
        needed = saved_bytes(net, CPU, SHAPES[0], 3)
        assert most_clips(peak, 12, needed) == 3
        assert tried == [12, 6, 3]
        assert most_clips(peak, 1, 1) == 0


@pytest.mark.parametrize(
    "words",
    ["cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when ..."],
)
def test_libraries_that_cannot_allocate_have_run_out_of_memory(words):
    def peak(clips: int) -> int:
        if clips > limit:
            raise RuntimeError(words)
        return 1

    limit = 3
    assert most_clips(peak, 8, 1) == 2
    limit = 0  # not even one clip: it may be another fault, which must be seen
    with pytest.raises(RuntimeError, match=words[:20]):
        most_clips(peak, 8, 1)


def test_other_failures_of_a_pass_are_seen():
    def peak(clips: int) -> int:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        most_clips(peak, 8, 1)


class CountedGPUs:
    """Stands in for torch.accelerator: counts the clips that each GPU has seen as its memory."""

    def __init__(self, monkeypatch, *names: str):
        self.peak = dict.fromkeys(names, 0)
        for name, value in {
            "empty_cache": lambda: None,
            "reset_peak_memory_stats": lambda device: self.peak.update({device: 0}),
            "memory_allocated": lambda device: 0,
            "max_memory_allocated": lambda device: self.peak[device],
            "get_memory_info": lambda device: (1000, 1000),
        }.items():
            monkeypatch.setattr(torch.accelerator, name, value)


def test_the_fullest_gpu_of_data_parallel_bounds_a_pass(monkeypatch):
    """The first GPU gathers what the others computed: there, each clip costs more."""
    names = ("first", "second")
    gpus = CountedGPUs(monkeypatch, *names)

    class Spread(torch.nn.Conv3d):
        def forward(self, clips):
            gpus.peak["first"] += 30 * len(clips)  # of both halves
            gpus.peak["second"] += 20 * len(clips) // 2
            return super().forward(clips)

    net = Spread(3, 1, 1)
    monkeypatch.setattr(Devices, "replicate", lambda devices, net: net)
    monkeypatch.setattr(Devices, "all", names)
    monkeypatch.setattr(memory, "COPIES", 0)
    monkeypatch.setattr(torch.random, "fork_rng", lambda **_: contextlib.nullcontext())
    devices = Devices(CPU.device, 2, "fp32")
    per_pass = micro_batch_sizes(net, devices, "auto", [StepPlan(1, 0, 64, 2, 8)])
    assert per_pass(2, 8) == 8  # of 64: 2 x 8 clips take 480 of 900 bytes, 2 x 16 take 960


def test_batches_that_score_are_no_larger_than_training_has_room_for(tiny, tmp_path, monkeypatch):
    """Validation and precise batch norm, with DataParallel and with averaged weights on one GPU."""
    for options, gpus, validation in (((), 0, 2), ((), 2, 4), (("--ema", "0.9"), 2, 2)):
        devices = Devices(CPU.device, gpus, "fp32")
        words = ("--micro-batch", "2", "--batch-size", "6", *options)
        run = small_run(monkeypatch, tiny, tmp_path, *words, devices=devices)
        assert {len(batch.labels) for batch in validation_batches(run)} <= {validation, 2}
        assert len(next(iter(validation_batches(run))).labels) == validation
        plain = [len(batch.labels) for batch in unaugmented_batches(run, 1)]
        assert plain == [2, 2, 2]  # as many clips as in a batch


def test_the_full_shape_is_tried_even_where_no_step_has_it(tiny, tmp_path, monkeypatch):
    devices = Devices(CPU.device, 0, "fp32")
    words = ("--micro-batch", "auto", "--multigrid", "paper", "--batch-size", "8")
    run = small_run(monkeypatch, tiny, tmp_path, *words, devices=devices)
    full = (run.config.clip_length, run.config.clip_size)
    assert full not in {(shape.frames, shape.size) for shape in run.schedule.largest_shapes()}
    assert next(iter(validation_batches(run))).clips.shape[2:4] == full


def test_the_estimate_is_what_fits_but_for_a_clip(net):
    net.eval()
    with restored(net, CPU):
        for i, shape in enumerate(SHAPES):
            kept = [saved_bytes(net, CPU, shape, clips) for clips in range(1, 9)]
            for clips, (enough, too_much) in enumerate(itertools.pairwise(kept), start=1):
                free = (enough + too_much) // 2
                assert abs(estimated_clips(net, CPU, SHAPES, free)[i] - clips) <= 1


def test_free_memory_bounds_the_passes(net, monkeypatch):
    net.eval()
    with restored(net, CPU):
        one, six = (saved_bytes(net, CPU, SHAPES[0], clips) for clips in (1, 6))
    monkeypatch.setattr(memory, "free_bytes", lambda devices: 1.01 * six / memory.SHARE)
    per_pass = micro_batch_sizes(net, CPU, "auto", SHAPES)
    assert 5 <= per_pass(4, 32) <= 7 < per_pass(2, 24)
    monkeypatch.setattr(memory, "free_bytes", lambda devices: one)
    with pytest.raises(TrainError, match=r"one clip of 4x32x32 .* --clip-size"):
        micro_batch_sizes(net, CPU, "auto", SHAPES)


@pytest.mark.slow
def test_estimates_are_near_what_a_pass_really_takes():
    """In a process of its own, whose largest resident set the system keeps."""
    script = """
import resource
from test_train_memory import *
torch.set_num_threads(1)
net, shape = build_network("r3d_18", 3), StepPlan(1, 0, 1, 8, 112)
def peak(clips):
    forward_and_backward(net, CPU, torch.zeros(clips, 3, 8, 112, 112))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
one, nine = (saved_bytes(net, CPU, shape, clips) for clips in (1, 9))
before = peak(1)
print((peak(9) - before) / (nine - one))
"""
    answer = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=environment() | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )
    assert answer.returncode == 0, answer.stderr
    print(f"a pass takes {float(answer.stdout):.2f} times what it keeps")
    assert 0.7 < float(answer.stdout) < 1 / memory.SHARE


@pytest.mark.parametrize("option", ["0", "many", "-1", "1.5"])
def test_nonsense_is_refused(net, option):
    with pytest.raises(TrainError, match=f"--micro-batch {option}"):
        micro_batch_sizes(net, CPU, option, SHAPES)


def test_a_number_is_taken_as_it_is(net):
    assert micro_batch_sizes(net, CPU, "3", SHAPES)(4, 32) == 3


def group(folder, limit: str, used: int, cached: int, *, version: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = (
        ("memory.max", "memory.current", "inactive_file")
        if version == 2
        else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    )
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{names[2]} {cached}\n")


def test_limits_of_control_groups_of_version_2(tmp_path):
    (tmp_path / "cgroup").write_text("0::/slurm/job7/step\n")
    group(tmp_path / "fs/slurm/job7/step", "max", 10, 0)
    group(tmp_path / "fs/slurm/job7", "1000", 300, 100)
    group(tmp_path / "fs/slurm", "5000", 4900, 0)
    assert list(cgroup_free_bytes(tmp_path / "cgroup", tmp_path / "fs")) == [800, 100]


def test_limits_of_control_groups_of_version_1(tmp_path):
    (tmp_path / "cgroup").write_text("5:cpu,cpuacct:/x\n4:memory:/docker/0a1b\n0::/\n")
    group(tmp_path / "fs/memory", "1000", 300, 200, version=1)  # a container sees its own as /
    assert list(cgroup_free_bytes(tmp_path / "cgroup", tmp_path / "fs")) == [900]


def test_without_control_groups_there_are_no_limits(tmp_path):
    assert list(cgroup_free_bytes(tmp_path / "none", tmp_path)) == []


def test_the_smaller_limit_counts_and_neighbours_share_it(monkeypatch):
    monkeypatch.setattr(memory, "cgroup_free_bytes", lambda: [2**20])
    assert free_bytes(CPU) == 2**20
    assert free_bytes(Devices(CPU.device, 0, "fp32", world_size=4, local_world_size=2)) == 2**19
