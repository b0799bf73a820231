"""Where a run computes and in which number format. No other module names a device."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from train.errors import TrainError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Devices:
    """The devices of this process, and its place among the processes of the run."""

    device: torch.device
    gpus: int  # that this process computes on; 0 is the CPU
    precision: str  # fp32, bf16 or fp16
    rank: int = 0
    world: int = 1
    neighbours: int = 1  # processes of the run on this machine, this one included

    @property
    def is_first(self) -> bool:
        """Whether this process writes the log and the files."""
        return self.rank == 0

    @property
    def shares(self) -> int:
        """Over how many devices a step's batch is spread, all processes together."""
        return self.world * max(1, self.gpus)

    @property
    def pin_memory(self) -> bool:
        """Whether batches are to be read into page-locked memory."""
        return self.gpus > 0

    def autocast(self) -> torch.autocast:
        """The context of forward passes: mixed precision, or nothing for fp32."""
        return torch.autocast(
            self.device.type, DTYPES[self.precision], enabled=self.precision != "fp32"
        )

    def grad_scaler(self) -> torch.amp.GradScaler:
        """Loss scaling for fp16; for the other formats one that does nothing."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def to_device(self, tensor: Tensor) -> Tensor:
        """Copy a tensor there, beside computation where its memory is page-locked."""
        return tensor.to(self.device, non_blocking=self.pin_memory)

    def spread(self, net: nn.Module) -> nn.Module:
        """Wrap `net`, which is on `self.device`, for all devices: DDP, DataParallel or as it is."""
        if self.world > 1:
            ids = [self.device.index] if self.gpus else None
            return nn.parallel.DistributedDataParallel(net, device_ids=ids)
        return nn.DataParallel(net, list(range(self.gpus))) if self.gpus > 1 else net

    def gathering(self, net: nn.Module, last: bool) -> contextlib.AbstractContextManager[None]:
        """The context of one of a step's passes: DDP adds gradients up in the last one only."""
        return net.no_sync() if self.world > 1 and not last else contextlib.nullcontext()

    def sum(self, values: Tensor) -> Tensor:
        """The sum of `values` over the processes, in each of them."""
        return self._reduce(values, dist.ReduceOp.SUM)

    def largest(self, values: list[float]) -> list[float]:
        """For each value the largest over the processes, in each of them."""
        if self.world == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        return self._reduce(tensor, dist.ReduceOp.MAX).tolist()

    def share_first(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the first one's `tensors`, in place."""
        for tensor in tensors if self.world > 1 else ():
            dist.broadcast(tensor, 0)

    def broadcast_object(self, value: Any) -> Any:
        """The first rank's `value`, in every rank. It is pickled, so it should hold no tensors."""
        values = [value]
        if self.world > 1:
            dist.broadcast_object_list(values, src=0, device=self.device)
        return values[0]

    def gather_objects(self, value: Any) -> list[Any]:
        """Every rank's `value`, in every rank, by rank. It is pickled and should be small."""
        values = [value]
        if self.world > 1:
            values = [None] * self.world
            dist.all_gather_object(values, value)
        return values

    def _reduce(self, values: Tensor, how: dist.ReduceOp) -> Tensor:
        if self.world == 1:
            return values
        total = values.clone()
        dist.all_reduce(total, how)
        return total

    def describe(self) -> str:
        """One line for the log."""
        what = torch.cuda.get_device_name(self.device) if self.gpus else "CPU"
        count = f"{self.gpus} x " if self.gpus > 1 else ""
        processes = f", {self.world} processes" if self.world > 1 else ""
        return f"{count}{what}{processes}, {self.precision}"


def usable_cores() -> int:
    """How many cores this process may use, where the system says so; else how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@contextlib.contextmanager
def open_devices(gpus: int | None, precision: str) -> Iterator[Devices]:
    """The devices asked for; under torchrun, one process each, joined for the time of the context.

    Args:
        gpus: how many, 0 for the CPU, None for all there are. Under torchrun: 0, or one a process.
        precision: auto, fp32, bf16 or fp16; auto is mixed precision on GPUs, fp32 on the CPU.

    Raises:
        TrainError: there are fewer GPUs than asked for.
    """
    there = torch.cuda.device_count()
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    asked = there if gpus is None else gpus
    if not 0 <= asked <= there:
        raise TrainError(f"--gpus {asked}: this machine has {there}")
    if world > 1:
        asked = min(asked, 1)
    local = int(os.environ.get("LOCAL_RANK", 0))
    if asked and local >= there:
        raise TrainError(f"process {local} has no GPU: this machine has {there}; lower nproc")
    device = torch.device("cuda", local) if asked else torch.device("cpu")
    if asked:
        torch.cuda.set_device(device)
    if precision == "auto":
        native = asked and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bf16" if native else "fp16" if asked else "fp32"
    if world > 1:
        dist.init_process_group("nccl" if asked else "gloo")
    try:
        neighbours = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        yield Devices(device, asked, precision, rank, world, neighbours)
    finally:
        if world > 1:
            dist.destroy_process_group()


class Stopwatch:
    """Seconds of device work, added up over `with` blocks: CUDA events on a GPU, else the clock."""

    def __init__(self, device: torch.device):
        self._on_gpu = device.type == "cuda"
        self._seconds = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Time the block. On a GPU: when its work was done there, not when it was asked for."""
        if self._on_gpu:
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            yield
            last.record()
            self._events.append((first, last))
        else:
            since = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - since

    def seconds(self) -> float:
        """What has been added up; waits for a GPU to finish what was timed."""
        for first, last in self._events:
            last.synchronize()
            self._seconds += first.elapsed_time(last) / 1000
        self._events.clear()
        return self._seconds
