"""Collectives over the ranks of a run. With one rank each returns its argument at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from train.devices import Devices


def all_reduce_sum(devices: Devices, values: Tensor) -> Tensor:
    """Return the sum of `values` over the ranks, in every rank."""
    return _all_reduce(devices, values, dist.ReduceOp.SUM)


def all_reduce_elementwise_max(devices: Devices, values: Tensor) -> Tensor:
    """Return the largest of each of `values` over the ranks, in every rank."""
    return _all_reduce(devices, values, dist.ReduceOp.MAX)


def all_reduce_max(devices: Devices, values: list[float]) -> list[float]:
    """Return for each value the largest over the ranks, in every rank; waits for the device."""
    return values if devices.world_size == 1 else start_all_reduce_max(devices, values)()


def start_all_reduce_max(devices: Devices, values: list[float]) -> Callable[[], list[float]]:
    """Start `all_reduce_max` without waiting; call the returned function to wait for the result."""
    host = torch.tensor(values, dtype=torch.float64, pin_memory=devices.pin_memory)
    return devices.start_copy_to_host(all_reduce_elementwise_max(devices, devices.to_device(host)))


def true_in_all_ranks(devices: Devices, flag: Tensor) -> Tensor:
    """Return whether a bool `flag` on the device is true in all ranks; does not wait for it."""
    return _all_reduce(devices, flag.float(), dist.ReduceOp.MIN).bool()


def broadcast_tensors(devices: Devices, tensors: Iterable[Tensor]) -> None:
    """Overwrite `tensors` in every rank with those of rank 0."""
    for tensor in tensors if devices.world_size > 1 else ():
        dist.broadcast(tensor, 0)


def broadcast_object(devices: Devices, value: Any) -> Any:
    """Return rank 0's `value` in every rank. It is pickled, so it should hold no tensors."""
    values = [value]
    if devices.world_size > 1:
        dist.broadcast_object_list(values, src=0, device=devices.device)
    return values[0]


def all_gather_object(devices: Devices, value: Any) -> list[Any]:
    """Return the `value` of every rank, by rank, in every rank. It is pickled: keep it small."""
    values = [value]
    if devices.world_size > 1:
        values = [None] * devices.world_size
        dist.all_gather_object(values, value)
    return values


def no_sync(net: nn.Module, wanted: bool) -> contextlib.AbstractContextManager[None]:
    """Return DDP's `no_sync` context if it is `wanted` and `net` is DDP, else one without effect.

    In that context, gradients add up in this rank only and are not averaged over the ranks.
    """
    if wanted and isinstance(net, nn.parallel.DistributedDataParallel):
        return net.no_sync()
    return contextlib.nullcontext()


def _all_reduce(devices: Devices, values: Tensor, operation: dist.ReduceOp) -> Tensor:
    if devices.world_size == 1:
        return values
    reduced = values.clone()
    dist.all_reduce(reduced, operation)
    return reduced


class DelayedMaximum:
    """An all_reduce of the maximum whose result is read one call later, when it has long arrived.

    So no rank waits for its device. In a run of one rank the result is returned at once.
    """

    def __init__(self, devices: Devices):
        self._devices = devices
        self._earlier: Callable[[], list[float]] | None = None

    def all_reduce_max(self, values: list[float], *, wait: bool) -> list[float]:
        """Return for each value the largest over the ranks.

        Those are the values of the previous call, or with `wait` those of this call; zeros where
        there was no previous call. Every rank must call it, with the same `wait`.
        """
        if self._devices.world_size == 1:
            return values
        earlier, self._earlier = self._earlier, start_all_reduce_max(self._devices, values)
        if wait:
            earlier, self._earlier = self._earlier, None
        return earlier() if earlier else [0.0] * len(values)
