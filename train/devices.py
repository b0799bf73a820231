"""Which devices a run computes on, and in which number format."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from train.rank_failures import joined
from train.train_errors import TrainError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Devices:
    """The devices of this process, and its rank in the run."""

    device: torch.device
    gpus: int  # GPUs that this process computes on; 0 is the CPU
    precision: str  # fp32, bf16 or fp16
    rank: int = 0
    world_size: int = 1
    local_world_size: int = 1  # ranks of the run on this machine, this one included

    @property
    def is_first(self) -> bool:
        """Whether this process writes the log and the files."""
        return self.rank == 0

    @property
    def device_count(self) -> int:
        """How many devices share a step's batch, over all ranks."""
        return self.world_size * max(1, self.gpus)

    @property
    def pin_memory(self) -> bool:
        """Whether batches are read into page-locked memory, from which GPUs copy faster."""
        return self.on_gpu

    @property
    def on_gpu(self) -> bool:
        """Whether this process computes on a GPU."""
        return self.device.type == "cuda"

    @property
    def all(self) -> list[torch.device]:
        """The devices of this process; clips and weights are stored on the first one."""
        if not self.on_gpu:
            return [self.device] * max(1, self.gpus)
        return [torch.device("cuda", self.device.index + i) for i in range(self.gpus)]

    def autocast(self) -> torch.autocast:
        """Return the context of a forward pass: mixed precision, or nothing for fp32."""
        return torch.autocast(
            self.device.type, DTYPES[self.precision], enabled=self.precision != "fp32"
        )

    def grad_scaler(self) -> torch.amp.GradScaler:
        """Return the loss scaler of fp16; for other formats one that is switched off."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def to_device(self, tensor: Tensor) -> Tensor:
        """Copy a tensor to the device; does not wait where the tensor is in page-locked memory."""
        return tensor.to(self.device, non_blocking=self.pin_memory)

    def parallelise(self, net: nn.Module) -> nn.Module:
        """Wrap `net`, which is on `self.device`, for mixed precision and all devices of the run.

        With several ranks this is DistributedDataParallel, with several GPUs in one process
        DataParallel.
        """
        if self.world_size > 1:
            ids = [self.device.index] if self.gpus else None
            return nn.parallel.DistributedDataParallel(MixedPrecision(net, self), device_ids=ids)
        return self.replicate(net)

    def replicate(self, net: nn.Module) -> nn.Module:
        """Wrap `net` for mixed precision and for the devices of this process.

        The replicas enter autocast themselves: DataParallel's threads do not inherit its dtype.
        """
        net = MixedPrecision(net, self)
        return nn.DataParallel(net, list(range(self.gpus))) if self.gpus > 1 else net

    def start_copy_to_host(self, numbers: Tensor) -> Callable[[], list[float]]:
        """Start to copy `numbers` to the host; call the returned function to wait for them."""
        host = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=self.pin_memory)
        host.copy_(numbers, non_blocking=True)
        copied = self.record_event()

        def wait() -> list[float]:
            if copied:
                copied.synchronize()
            return host.tolist()

        return wait

    def record_event(self) -> torch.cuda.Event | None:
        """Return an event that marks the end of the work queued so far; None on the CPU."""
        return torch.cuda.current_stream(self.device).record_event() if self.on_gpu else None

    def describe(self) -> str:
        """Return device, number of processes and number format as text for the log."""
        what = torch.cuda.get_device_name(self.device) if self.gpus else "CPU"
        count = f"{self.gpus} x " if self.gpus > 1 else ""
        processes = f", {self.world_size} processes" if self.world_size > 1 else ""
        return f"{count}{what}{processes}, {self.precision}"


class MixedPrecision(nn.Module):
    """A network whose forward pass enters autocast by itself, in the precision of `devices`."""

    def __init__(self, net: nn.Module, devices: Devices):
        super().__init__()
        self.net = net
        self.autocast = devices.autocast

    def forward(self, clips: Tensor) -> Tensor:
        """Call the wrapped network: (B, 3, T, H, W) -> (B, classes)."""
        with self.autocast():
            return self.net(clips)


@contextlib.contextmanager
def open_devices(
    gpus: int | None, precision: str, *, most: int | None = None, deterministic: bool = False
) -> Iterator[Devices]:
    """Yield the devices asked for; under torchrun also join the process group for the context.

    Args:
        gpus: number of GPUs, 0 for the CPU, None for all. Under torchrun each process uses 0 or 1.
        precision: auto, fp32, bf16 or fp16; auto is mixed precision on GPUs, fp32 on the CPU.
        most: the largest number of GPUs to use where `gpus` is None.
        deterministic: whether GPUs give the same bits each time (see `determinism`).

    Raises:
        TrainError: there are fewer GPUs than asked for, or another rank has failed.
    """
    available = torch.cuda.device_count()
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    asked = gpus
    if gpus is None:
        asked = available if most is None else min(available, most)
    if not 0 <= asked <= available:
        raise TrainError(f"--gpus {asked}: this machine has {available}")
    if world_size > 1:
        asked = min(asked, 1)
    local = int(os.environ.get("LOCAL_RANK", 0))
    if asked and local >= available:
        raise TrainError(f"process {local} has no GPU: this machine has {available}; lower nproc")
    device = torch.device("cuda", local) if asked else torch.device("cpu")
    if asked:
        torch.cuda.set_device(device)
    if precision == "auto":
        native = asked and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bf16" if native else "fp16" if asked else "fp32"
    local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    backend = "nccl" if asked else "gloo"
    with (
        joined(backend, rank, world_size) if world_size > 1 else contextlib.nullcontext(),
        determinism(deterministic),
    ):
        yield Devices(device, asked, precision, rank, world_size, local_world_size)


@contextlib.contextmanager
def determinism(wanted: bool) -> Iterator[None]:
    """Within the context, let torch use only algorithms that give the same bits each time.

    On the CPU it does so anyway, for a given number of threads. On GPUs some sums depend on the
    order in which threads finish, cuDNN may choose another algorithm each time, and cuBLAS needs a
    workspace of a fixed size. An operation without a deterministic algorithm raises RuntimeError.
    TF32 stays as torch sets it (on in convolutions): it rounds more, but always in the same way.
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
