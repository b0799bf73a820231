"""Find the largest micro-batch that fits into the memory of a device."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import psutil
import torch
from torch import nn

from data.clips.loader import StepPlan
from train.devices import Devices
from train.distributed import all_reduce_max
from train.rank_agreement import run_in_all_ranks
from train.train_errors import TrainError

log = logging.getLogger(__name__)

SHARE = 0.5  # of the free memory for saved activations; the peak is up to 1.7 times as high
MEASURED_SHARE = 0.9  # where the peak itself is measured; the rest is for fragmentation
#: Copies of the parameters that are allocated later: two moments, averaged weights, DDP's buckets.
COPIES = 4
#: Messages of cuDNN and cuBLAS when they cannot allocate memory.
LACK_OF_MEMORY = (
    "out of memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR",
    "CUDNN_STATUS_NOT_SUPPORTED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "unable to find an engine",
)


def micro_batch_sizes(
    net: nn.Module, devices: Devices, option: str, shapes: Sequence[StepPlan]
) -> Callable[[int, int], int]:
    """Return a function (frames, size) -> number of clips in a micro-batch, per device.

    Args:
        net: the network, on its device, not wrapped. It is not changed.
        devices: the devices that it computes on.
        option: "auto", or a number of clips. On a GPU, auto runs forward and backward passes over
            the largest batch of each shape, halved until it fits. A CPU would swap and not fail:
            there, auto divides half of the free memory by the bytes saved per clip of the shape.
        shapes: each shape of the run with its largest batch, most pixels first.

    Raises:
        TrainError: `option` is neither of these, or not even one clip fits.
    """
    if option != "auto":
        if not option.isdecimal() or int(option) < 1:
            raise TrainError(f"--micro-batch {option}: give auto or a number of clips from 1 on")
        return lambda frames, size: int(option)
    free, fitting = run_in_all_ranks(devices, lambda: _fitting_clips(net, devices, shapes))
    # the smallest number over the ranks: all must divide a step into as many micro-batches
    fitting = [-int(most) for most in all_reduce_max(devices, [-float(clips) for clips in fitting])]
    for shape, clips in zip(shapes, fitting, strict=True):
        if not clips:
            raise TrainError(
                f"one clip of {shape.frames}x{shape.size}x{shape.size} does not fit into the "
                f"{free / 2**30:.1f} GiB that are free for it: lower --clip-size or --clip-length"
            )
    clips_of: dict[tuple[int, int], int] = {}
    for shape, clips in zip(shapes, fitting, strict=True):
        clips_of[shape.frames, shape.size] = clips
        if clips * devices.device_count < shape.batch:
            log.info(
                "batches of %d clips of %dx%dx%d: %d clips fit into a micro-batch on one device",
                shape.batch, shape.frames, shape.size, shape.size, clips,
            )  # fmt: skip
    return lambda frames, size: clips_of[frames, size]


def _fitting_clips(
    net: nn.Module, devices: Devices, shapes: Sequence[StepPlan]
) -> tuple[int, list[int]]:
    """Return the bytes that a micro-batch may take, and the clips of each shape that fit."""
    free = free_bytes(devices)
    with restored(net, devices):
        if not devices.gpus:
            net.eval()  # batch norm in training mode treats one clip differently from two
            free = int(SHARE * max(0, free))
            return free, estimated_clips(net, devices, shapes, free)
        net.train()
        free = int(MEASURED_SHARE * free) - COPIES * parameter_bytes(net)
        # wrapped: DataParallel gathers outputs on the first GPU, which takes memory there
        replicated = devices.replicate(net)
        fitting = [
            most_clips(
                lambda clips, shape=shape: peak_bytes(replicated, devices, shape, clips),
                -(-shape.batch // devices.device_count),
                free,
            )
            for shape in shapes
        ]
        torch.accelerator.empty_cache()
        return free, fitting


def most_clips(peak: Callable[[int], int], clips: int, free: int) -> int:
    """Return `clips`, halved until `peak(clips)` bytes fit into `free`; 0 if one clip does not fit.

    A `peak` that runs out of memory counts as too large.

    Raises:
        RuntimeError: `peak` failed for another reason.
    """
    while clips:
        try:
            if peak(clips) <= free:
                break
        except RuntimeError as error:
            if not may_be_lack_of_memory(error, clips):
                raise
        clips //= 2
    return clips


def may_be_lack_of_memory(error: RuntimeError, clips: int) -> bool:
    """Return whether `error`, raised for `clips` clips, may mean that there was too little memory.

    cuDNN and cuBLAS allocate memory themselves. Some of the messages with which they fail can have
    other causes: those count as lack of memory only where fewer clips could help.
    """
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return clips > 1 and any(words in str(error) for words in LACK_OF_MEMORY)


def peak_bytes(net: nn.Module, devices: Devices, shape: StepPlan, clips: int) -> int:
    """Return the bytes that the fullest GPU needs at its peak for `clips` clips per GPU.

    `net` is wrapped as in a training step. The first GPU also holds the clips of the whole step,
    as uint8 and as float, and those of the next step.
    """
    torch.accelerator.empty_cache()  # the memory that a larger trial freed is fragmented
    before = []
    for device in devices.all:
        torch.accelerator.reset_peak_memory_stats(device)
        before.append(torch.accelerator.memory_allocated(device))
    whole = empty_clips(devices, shape, -(-shape.batch // devices.world_size))
    read = torch.empty(2, *whole.shape, dtype=torch.uint8, device=devices.device)
    forward_and_backward(net, devices, whole[: clips * len(devices.all)])
    del read
    return max(
        torch.accelerator.max_memory_allocated(device) - start
        for device, start in zip(devices.all, before, strict=True)
    )


def forward_and_backward(net: nn.Module, devices: Devices, clips: torch.Tensor) -> None:
    """Run one forward and one backward pass, and delete the gradients."""
    try:
        with devices.autocast():
            loss = net(clips).float().sum()
        loss.backward()
    finally:
        net.zero_grad(set_to_none=True)


def estimated_clips(
    net: nn.Module, devices: Devices, shapes: Sequence[StepPlan], free: int
) -> list[int]:
    """Return how many clips of each shape fit, from the activations that one clip saves.

    Some of the saved bytes are copies of weights, which do not grow with the number of clips. They
    are twice the bytes of one clip minus the bytes of two clips.
    """
    smallest = min(shapes, key=lambda shape: shape.frames * shape.size**2)
    one, two = (saved_bytes(net, devices, smallest, clips) for clips in (1, 2))
    copies = max(0, 2 * one - two)
    each = [max(1, saved_bytes(net, devices, shape, 1) - copies) for shape in shapes]
    return [max(0, free - copies) // needed for needed in each]


def saved_bytes(net: nn.Module, devices: Devices, shape: StepPlan, clips: int) -> int:
    """Return the bytes saved for the backward pass of `clips` clips; shared storage counts once."""
    storages: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    empty = empty_clips(devices, shape, clips)
    with devices.autocast(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        # kept alive: storages that are freed may be reused under the same address
        kept = net(empty)
    return sum(storages.values()) if kept is not None else 0


def empty_clips(devices: Devices, shape: StepPlan, clips: int) -> torch.Tensor:
    """Return zeros, float (clips, 3, T, H, W), on the device."""
    return torch.zeros(clips, 3, shape.frames, shape.size, shape.size, device=devices.device)


@contextlib.contextmanager
def restored(net: nn.Module, devices: Devices) -> Iterator[None]:
    """Restore buffers (batch norm statistics), training mode and random state after the block."""
    buffers, training = [buffer.clone() for buffer in net.buffers()], net.training
    gpus = [devices.device] if devices.gpus else []
    with torch.random.fork_rng(devices=gpus, device_type=devices.device.type):
        try:
            yield
        finally:
            net.train(training)
            with torch.no_grad():
                for buffer, before in zip(net.buffers(), buffers, strict=True):
                    buffer.copy_(before)


def parameter_bytes(net: nn.Module) -> int:
    """Return the size of the parameters in bytes."""
    return sum(parameter.nbytes for parameter in net.parameters())


def free_bytes(devices: Devices) -> int:
    """Return the free bytes of the fullest GPU; on the CPU, this process's share of free memory."""
    if not devices.gpus:
        free = [psutil.virtual_memory().available, *cgroup_free_bytes()]
        return min(free) // devices.local_world_size
    return min(torch.accelerator.get_memory_info(device)[0] for device in devices.all)


def cgroup_free_bytes(
    groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
) -> Iterable[int]:
    """Yield the free bytes of each control group of this process that limits its memory.

    Containers and schedulers set such limits (cgroups version 1 or 2) below the memory of the
    machine. Cached files count as used there, although the system frees them when needed.
    """
    for line in groups.read_text().splitlines() if groups.exists() else ():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = mounted / "memory" if controllers else mounted
        limit, used, cached = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            if controllers
            else ("memory.max", "memory.current", "inactive_file")
        )
        inner = root / path.strip("/")
        for folder in (inner, *inner.parents):
            # in a container, its own group can be mounted as the root, whatever the path says
            if folder.is_relative_to(root) and (folder / limit).is_file():
                most = (folder / limit).read_text().strip()
                if most != "max":
                    stat = dict(map(str.split, (folder / "memory.stat").read_text().splitlines()))
                    yield int(most) - int((folder / used).read_text()) + int(stat.get(cached, 0))
