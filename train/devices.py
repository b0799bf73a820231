"""Where a run computes and in which number format. No other module names a device."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from data.clips.loader import Batch
from train.rank_failures import joined
from train.train_errors import TrainError

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
        return self._on_gpu

    @property
    def _on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def all(self) -> list[torch.device]:
        """The devices that this process computes on; clips and weights lie on the first."""
        if not self._on_gpu:
            return [self.device] * max(1, self.gpus)
        return [torch.device("cuda", self.device.index + i) for i in range(self.gpus)]

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
        """Wrap `net`, which is on `self.device`, for mixed precision and for all devices.

        Several processes make it DDP, several GPUs of one process DataParallel.
        """
        if self.world > 1:
            ids = [self.device.index] if self.gpus else None
            return nn.parallel.DistributedDataParallel(MixedPrecision(net, self), device_ids=ids)
        return self.replicated(net)

    def replicated(self, net: nn.Module) -> nn.Module:
        """Wrap `net` for mixed precision and for the devices of this process.

        What is replicated enters autocast itself: DataParallel's threads do not inherit its dtype.
        """
        net = MixedPrecision(net, self)
        return nn.DataParallel(net, list(range(self.gpus))) if self.gpus > 1 else net

    def all_reduce_after_last(
        self, net: nn.Module, last: bool
    ) -> contextlib.AbstractContextManager[None]:
        """The context of one micro-batch: DDP reduces gradients over the ranks in the last only."""
        return net.no_sync() if self.world > 1 and not last else contextlib.nullcontext()

    def in_all_ranks(self, flag: Tensor) -> Tensor:
        """Whether a bool `flag` on the device is true in all ranks; waits for nothing."""
        return self._reduce(flag.float(), dist.ReduceOp.MIN).bool()

    def fetch(self, numbers: Tensor) -> Callable[[], list[float]]:
        """Start to copy `numbers` to the host; call what is returned to wait for them."""
        host = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=self.pin_memory)
        host.copy_(numbers, non_blocking=True)
        copied = self._event()

        def wait() -> list[float]:
            if copied:
                copied.synchronize()
            return host.tolist()

        return wait

    def _event(self) -> torch.cuda.Event | None:
        """Recorded behind the work that the device has been given so far; None on the CPU."""
        return torch.cuda.current_stream(self.device).record_event() if self._on_gpu else None

    def ahead(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches, each with clips and labels on the device, in their order.

        The next batch is read, and its copy started, before the current one is handed out, so that
        it is copied while the device computes. An error in reading it is raised when it is asked
        for, after the current one has been used.
        """
        # on a stream of its own: on the computing one it would wait for what was queued before
        stream = torch.cuda.Stream(self.device) if self._on_gpu else None
        batches, following, failure = iter(batches), None, None
        while failure is None:
            current = following
            try:
                following = self._sent(next(batches), stream)
            except Exception as error:  # StopIteration at the end
                failure = error
            if current:
                yield self._arrived(*current)
        if not isinstance(failure, StopIteration):
            raise failure

    def _sent(
        self, batch: Batch, stream: torch.cuda.Stream | None
    ) -> tuple[Batch, torch.cuda.Event | None]:
        """Start to copy a batch to the device; also returns what tells that it is there."""
        with torch.cuda.stream(stream) if stream else contextlib.nullcontext():
            clips, labels = self.to_device(batch.clips), self.to_device(batch.labels)
            return batch._replace(clips=clips, labels=labels), self._event()

    def _arrived(self, batch: Batch, copy_is_done: torch.cuda.Event | None) -> Batch:
        """Make the work that is queued from now on wait for the copy; the host does not wait."""
        if copy_is_done:
            computing = torch.cuda.current_stream(self.device)
            computing.wait_event(copy_is_done)
            for tensor in (batch.clips, batch.labels):
                tensor.record_stream(computing)  # or its memory would be reused too early
        return batch

    def sum(self, values: Tensor) -> Tensor:
        """The sum of `values` over the processes, in each of them."""
        return self._reduce(values, dist.ReduceOp.SUM)

    def largest(self, values: list[float]) -> list[float]:
        """For each value the largest over the processes, in each of them."""
        return values if self.world == 1 else self.start_largest(values)()

    def start_largest(self, values: list[float]) -> Callable[[], list[float]]:
        """As `largest`, without waiting for the device: call what is returned to do so."""
        host = torch.tensor(values, dtype=torch.float64, pin_memory=self.pin_memory)
        return self.fetch(self._reduce(self.to_device(host), dist.ReduceOp.MAX))

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


class MixedPrecision(nn.Module):
    """A network whose forward pass enters autocast in the dtype of `devices` by itself."""

    def __init__(self, net: nn.Module, devices: Devices):
        super().__init__()
        self.net = net
        self.autocast = devices.autocast

    def forward(self, clips: Tensor) -> Tensor:
        """As of the network that it wraps."""
        with self.autocast():
            return self.net(clips)


def usable_cores() -> int:
    """How many cores this process may use, where the system says so; else how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@contextlib.contextmanager
def open_devices(
    gpus: int | None, precision: str, *, most: int | None = None, deterministic: bool = False
) -> Iterator[Devices]:
    """The devices asked for; under torchrun, one process each, joined for the time of the context.

    Args:
        gpus: how many, 0 for the CPU, None for all there are. Under torchrun: 0, or one a process.
        precision: auto, fp32, bf16 or fp16; auto is mixed precision on GPUs, fp32 on the CPU.
        most: how many GPUs to use at most where `gpus` is None.
        deterministic: whether GPUs are to give the same bits each time (see `determinism`).

    Raises:
        TrainError: there are fewer GPUs than asked for, or another process of the run has failed.
    """
    there = torch.cuda.device_count()
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    asked = gpus
    if gpus is None:
        asked = there if most is None else min(there, most)
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
    neighbours = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    backend = "nccl" if asked else "gloo"
    with (
        joined(backend, rank, world) if world > 1 else contextlib.nullcontext(),
        determinism(deterministic),
    ):
        yield Devices(device, asked, precision, rank, world, neighbours)


@contextlib.contextmanager
def determinism(wanted: bool) -> Iterator[None]:
    """Have torch use algorithms that give the same bits each time, for the time of the context.

    On the CPU it does so anyway, for a given number of threads. On GPUs some sums are added up in
    the order in which threads arrive, cuDNN may choose another algorithm each time, and cuBLAS
    needs a workspace of a fixed size. An operation that has no deterministic algorithm fails. TF32
    stays as torch has it (on in convolutions): it rounds more, but always alike.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        _, cudnn.deterministic, cudnn.benchmark = before


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
