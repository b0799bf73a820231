"""How many clips fit into one forward and backward pass."""

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

SHARE = 0.5  # of the free memory that a pass may keep; at its peak it takes up to 1.7 times that
MEASURED_SHARE = 0.9  # where gradients and workspaces were measured too; the rest is fragmentation
#: Copies of the parameters that come after the probe: two moments, averaged weights, DDP's buckets.
COPIES = 4
#: What cuDNN and cuBLAS say when they cannot allocate.
LACK_OF_MEMORY = (
    "out of memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR",
    "CUDNN_STATUS_NOT_SUPPORTED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "unable to find an engine",
)


def clips_per_pass(
    net: nn.Module, devices: Devices, option: str, shapes: Sequence[StepPlan]
) -> Callable[[int, int], int]:
    """The function (frames, size) -> clips of one pass on one device.

    Args:
        net: the network, on its device, not yet wrapped. It is left as it was.
        devices: where it computes.
        option: "auto", or a number of clips. auto measures, on a GPU: passes over the largest
            batch of each shape, halved until they fit. On the CPU, which would swap, not fail, it
            divides the free memory by what a clip of the shape keeps for the backward pass.
        shapes: each shape of the run with its largest batch, the one with most pixels first.

    Raises:
        TrainError: `option` is neither, or not even one clip fits.
    """
    if option != "auto":
        if not option.isdecimal() or int(option) < 1:
            raise TrainError(f"--micro-batch {option}: give auto or a number of clips from 1 on")
        return lambda frames, size: int(option)
    free, fitting = run_in_all_ranks(devices, lambda: _fitting_clips(net, devices, shapes))
    # the smallest number over the processes: all of them divide a step into as many passes
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
                "batches of %d clips of %dx%dx%d: %d clips fit into one pass on a device",
                shape.batch, shape.frames, shape.size, shape.size, clips,
            )  # fmt: skip
    return lambda frames, size: clips_of[frames, size]


def _fitting_clips(
    net: nn.Module, devices: Devices, shapes: Sequence[StepPlan]
) -> tuple[int, list[int]]:
    """The bytes that a pass may take here, and how many clips of each shape fit into them."""
    free = free_bytes(devices)
    with left_as_it_was(net, devices):
        if not devices.gpus:
            net.eval()  # or batch norm would take one clip otherwise than two; little else differs
            free = int(SHARE * max(0, free))
            return free, estimated_clips(net, devices, shapes, free)
        net.train()
        free = int(MEASURED_SHARE * free) - COPIES * parameter_bytes(net)
        spread = devices.replicate(net)  # or the gathering on the first GPU would not be counted
        fitting = [
            most_clips(
                lambda clips, shape=shape: peak_bytes(spread, devices, shape, clips),
                -(-shape.batch // devices.device_count),
                free,
            )
            for shape in shapes
        ]
        torch.accelerator.empty_cache()
        return free, fitting


def most_clips(peak: Callable[[int], int], clips: int, free: int) -> int:
    """`clips`, halved until `peak(clips)` bytes fit into `free`; 0 where one clip does not.

    A `peak` that runs out of memory does not fit.

    Raises:
        RuntimeError: `peak` fails for another reason.
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
    """Whether a pass over `clips` clips may have failed because there was too little memory.

    cuDNN and cuBLAS allocate by themselves, and report a failure in words of their own, some of
    which have other causes too. Those are lack of memory only where fewer clips could help.
    """
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return clips > 1 and any(words in str(error) for words in LACK_OF_MEMORY)


def peak_bytes(spread: nn.Module, devices: Devices, shape: StepPlan, clips: int) -> int:
    """Bytes that a pass over `clips` clips on each GPU takes at its highest, on the fullest GPU.

    `spread` is the network as the step uses it. On the first GPU, the clips of the whole step lie
    there in any case, as they were read too, and so do those of the next step.
    """
    torch.accelerator.empty_cache()  # what a larger trial left behind is in pieces
    before = []
    for device in devices.all:
        torch.accelerator.reset_peak_memory_stats(device)
        before.append(torch.accelerator.memory_allocated(device))
    whole = empty_clips(devices, shape, -(-shape.batch // devices.world))
    read = torch.empty(2, *whole.shape, dtype=torch.uint8, device=devices.device)
    training_pass(spread, devices, whole[: clips * len(devices.all)])
    del read
    return max(
        torch.accelerator.max_memory_allocated(device) - start
        for device, start in zip(devices.all, before, strict=True)
    )


def training_pass(net: nn.Module, devices: Devices, clips: torch.Tensor) -> None:
    """One forward and backward pass that leaves no gradients."""
    try:
        with devices.autocast():
            loss = net(clips).float().sum()
        loss.backward()
    finally:
        net.zero_grad(set_to_none=True)


def estimated_clips(
    net: nn.Module, devices: Devices, shapes: Sequence[StepPlan], free: int
) -> list[int]:
    """How many clips of each shape fit, by what one of them keeps for the backward pass.

    Part of that is copies of weights, the same for any clips: twice one clip's less two clips'.
    """
    smallest = min(shapes, key=lambda shape: shape.frames * shape.size**2)
    one, two = (saved_bytes(net, devices, smallest, clips) for clips in (1, 2))
    copies = max(0, 2 * one - two)
    each = [max(1, saved_bytes(net, devices, shape, 1) - copies) for shape in shapes]
    return [max(0, free - copies) // needed for needed in each]


def saved_bytes(net: nn.Module, devices: Devices, shape: StepPlan, clips: int) -> int:
    """Bytes that the backward pass over `clips` clips of a shape keeps, each storage once."""
    storages: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    empty = empty_clips(devices, shape, clips)
    with devices.autocast(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = net(empty)  # held, or the storages would be freed and their addresses used again
    return sum(storages.values()) if kept is not None else 0


def empty_clips(devices: Devices, shape: StepPlan, clips: int) -> torch.Tensor:
    """Zeros, float (clips, 3, T, H, W), on the device."""
    return torch.zeros(clips, 3, shape.frames, shape.size, shape.size, device=devices.device)


@contextlib.contextmanager
def left_as_it_was(net: nn.Module, devices: Devices) -> Iterator[None]:
    """Put buffers (batch norm's statistics), mode and random numbers back after a trial."""
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
    """Bytes of the parameters."""
    return sum(parameter.nbytes for parameter in net.parameters())


def free_bytes(devices: Devices) -> int:
    """Of the fullest device of this process; of the machine's memory, its share."""
    if not devices.gpus:
        free = [psutil.virtual_memory().available, *cgroup_free_bytes()]
        return min(free) // devices.local_world_size
    return min(torch.accelerator.get_memory_info(device)[0] for device in devices.all)


def cgroup_free_bytes(
    groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
) -> Iterable[int]:
    """What each control group around this process leaves it, where one limits its memory.

    Containers and schedulers set such limits, of version 1 or 2; the machine may have more. Cached
    files count as used there, but are given up when memory runs out.
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
            # in a container, its own group can be the root, whatever the path says
            if folder.is_relative_to(root) and (folder / limit).is_file():
                most = (folder / limit).read_text().strip()
                if most != "max":
                    stat = dict(map(str.split, (folder / "memory.stat").read_text().splitlines()))
                    yield int(most) - int((folder / used).read_text()) + int(stat.get(cached, 0))
