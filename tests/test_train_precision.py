"""Mixed precision on several devices: each replica computes in the dtype that was asked for."""

import contextlib
import copy
import os
import threading

import pytest
import torch
from runs import same_bits
from small_runs import small_network, small_run, take
from torch import nn
from torch.nn.parallel import parallel_apply

from train.devices import Devices, open_devices
from train.divergence import check_last_step

CPU = torch.device("cpu")


class OnOneCPU(nn.Module):
    """Stands in for DataParallel: replicas that share their parameters, run by torch's own threads.

    DataParallel itself needs accelerators.
    """

    def __init__(self, module, device_ids):
        super().__init__()
        self.module, self.ids = module, device_ids

    def forward(self, clips):
        values = (*self.module.parameters(), *self.module.buffers())
        replicas = [
            copy.deepcopy(self.module, {id(value): value for value in values}) for _ in self.ids
        ]
        parts = [(part,) for part in clips.tensor_split(len(self.ids))]
        return torch.cat(parallel_apply(replicas, parts, devices=self.ids))


@pytest.fixture
def two_accelerators(monkeypatch):
    """The CPU stands in for accelerators."""
    for name, value in {
        "is_available": lambda: True,
        "current_accelerator": lambda: CPU,
        "current_stream": lambda device=None: contextlib.nullcontext(),
        "device_index": lambda device: contextlib.nullcontext(),
    }.items():
        monkeypatch.setattr(torch.accelerator, name, value)
    monkeypatch.setattr(nn, "DataParallel", OnOneCPU)


def dtypes_of(net) -> list:
    """The dtypes in which the convolution of `net` computes from now on."""
    seen = []
    convolution = next(module for module in net.modules() if isinstance(module, nn.Conv3d))
    convolution.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    return seen


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.half)])
def test_a_fresh_thread_computes_in_the_asked_dtype(precision, dtype):
    net = small_network()
    seen, spread = dtypes_of(net), Devices(CPU, 0, precision).parallelise(net)
    thread = threading.Thread(target=lambda: spread(torch.rand(2, 3, 2, 8, 8)))
    thread.start()
    thread.join()
    assert seen == [dtype]
    assert list(net.state_dict()) == list(small_network().state_dict())  # of checkpoints


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.half)])
def test_each_replica_computes_in_the_asked_dtype(two_accelerators, precision, dtype):
    net = small_network()
    seen = dtypes_of(net)
    spread = Devices(CPU, 2, precision).parallelise(net)
    assert isinstance(spread, OnOneCPU)
    assert spread(torch.rand(4, 3, 2, 8, 8)).shape == (4, 3)
    assert seen == [dtype, dtype]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_step_on_two_devices_is_that_on_one(
    two_accelerators, tiny, tmp_path, monkeypatch, precision
):
    runs, losses, seen = [], [], []
    for gpus in (0, 2):
        torch.manual_seed(1)
        devices = Devices(CPU, gpus, precision)
        run = small_run(monkeypatch, tiny, tmp_path, "--log-interval", "1", devices=devices)
        run.parallel_net.eval()  # batch norm over half of a batch is another function
        seen.append(dtypes_of(run.net))
        take(run)
        losses.append(run.unchecked_step.loss)
        check_last_step(run)
        runs.append(run)
    one, two = runs
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.half}[precision]
    assert seen == [[dtype], [dtype, dtype]]
    for a, b in zip(one.net.parameters(), two.net.parameters(), strict=True):
        gradients = [run.optimiser.state[p]["momentum_buffer"] for run, p in ((one, a), (two, b))]
        assert gradients[0].norm() > 0
        assert (gradients[0] - gradients[1]).norm() < 0.02 * gradients[0].norm()


def test_deterministic_sets_what_torch_needs_and_puts_it_back(tiny, tmp_path, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    weights = []
    for wanted in (True, False):
        with open_devices(0, "fp32", deterministic=wanted) as devices:
            assert torch.are_deterministic_algorithms_enabled() is wanted
            assert torch.backends.cudnn.deterministic is wanted
            assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) or not wanted
            torch.manual_seed(1)
            run = small_run(monkeypatch, tiny, tmp_path, "--ema", "0.9", devices=devices)
            take(run, 2)
            weights.append(run.net.state_dict())
        assert not torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.deterministic
    assert same_bits(*weights)  # the CPU gives the same bits anyway
