"""How many clips fit into one forward and backward pass."""

from __future__ import annotations

import logging
from collections.abc import Callable

import psutil
import torch
from torch import nn

from train.devices import Devices
from train.errors import TrainError

log = logging.getLogger(__name__)

SHARE = 0.6  # of the free memory that activations may take; the rest is gradients and workspaces


def saved_bytes(net: nn.Module, clip: torch.Tensor) -> int:
    """Bytes that the backward pass of `net` on (B, 3, T, H, W) `clip` keeps, each storage once."""
    storages: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = net(clip)  # held, or the storages would be freed and their addresses used again
    return sum(storages.values()) if kept is not None else 0


def clips_per_pass(
    net: nn.Module, devices: Devices, option: str, *, frames: int, size: int
) -> Callable[[int, int], int]:
    """The function (frames, size) -> clips of one pass on one device.

    Args:
        net: the network, on its device, not yet wrapped.
        devices: where it computes.
        option: "auto", which measures what one clip of the full shape takes and divides the free
            memory by that, or a number of clips.
        frames, size: the full shape.

    Raises:
        TrainError: `option` is neither, or not even one clip fits.
    """
    if option != "auto":
        if not option.isdecimal() or int(option) < 1:
            raise TrainError(f"--micro-batch {option}: give auto or a number of clips from 1 on")
        return lambda frames, size: int(option)
    training = net.training
    net.eval()  # batch norm's running statistics stay as they are; what is kept hardly differs
    with devices.autocast():
        clip = torch.zeros(1, 3, frames, size, size, device=devices.device)
        needed = saved_bytes(net, clip)
    net.train(training)
    free = _free_bytes(devices)
    if needed > SHARE * free:
        raise TrainError(
            f"one clip of {frames}x{size}x{size} needs {needed / 2**30:.1f} GiB, "
            f"{free / 2**30:.1f} GiB are free: lower --clip-size or --clip-length"
        )
    voxels = SHARE * free / needed * (frames * size * size)
    voxels = -devices.largest([-voxels])[0]  # equally many passes in every process
    return lambda frames, size: max(1, int(voxels / (frames * size * size)))


def _free_bytes(devices: Devices) -> int:
    """Of the fullest device of this process; of the machine's memory, its share."""
    if not devices.gpus:
        return psutil.virtual_memory().available // devices.neighbours
    first = devices.device.index
    return min(torch.cuda.mem_get_info(first + i)[0] for i in range(devices.gpus))
