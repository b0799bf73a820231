"""Make sure that all ranks have the same options, dataset and weights, and fail together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from data.annotations.dataset_fingerprint import Fingerprint
from train.config import Config
from train.devices import Devices
from train.distributed import all_gather_object, broadcast_object, broadcast_tensors
from train.rank_failures import described
from train.train_errors import TrainError

Result = TypeVar("Result")

#: Options that may differ between the machines of a run: where files are, and how they are read.
PER_MACHINE = {
    "given", "dataset", "labels", "model_dir", "log_file", "pretrained_3d", "gpus", "workers"
}  # fmt: skip


def run_in_all_ranks(devices: Devices, work: Callable[[], Result]) -> Result:
    """Run `work` in every rank; if it fails in one rank, raise an error in all.

    Every rank must call it, for work in which the ranks do not communicate. Without it, the other
    ranks would wait in their next collective for a rank that has raised an exception.

    Raises:
        TrainError: another rank has failed; the message says which one and why.
        RuntimeError: another rank has failed because of a bug.
        Exception: whatever `work` raises in this rank.
    """
    if devices.world_size == 1:
        return work()
    result, own = None, None
    try:
        result = work()
    except Exception as error:  # whatever it is, the other ranks must be told
        own = error
    failures = all_gather_object(devices, None if own is None else described(own))
    if own is not None:
        raise own
    for rank, failure in enumerate(failures):
        if failure:
            kind = TrainError if failure.is_user_error else RuntimeError
            raise kind(f"rank {rank} failed: {failure.message}")
    return result


def check_same_run(devices: Devices, config: Config, dataset: Fingerprint) -> None:
    """Check that all ranks have the same options and dataset.

    Raises:
        TrainError: they differ; the message is the same in every rank and names the ranks.
    """
    options = {k: v for k, v in asdict(config).items() if k not in PER_MACHINE}
    everyone = all_gather_object(devices, {**options, "": str(dataset)})
    datasets = [Fingerprint.parse(facts.pop("")) for facts in everyone]
    for name, value in everyone[0].items():
        others = _different(everyone, name)
        if others:
            option = f"--{name.replace('_', '-')}"
            raise TrainError(
                f"{_ranks(others)} started with {option} {everyone[others[0]][name]}, rank 0 with "
                f"{option} {value}: start all of them with the same options"
            )
    others = [rank for rank, other in enumerate(datasets) if other.conflict(datasets[0])]
    if others:
        raise TrainError(
            f"{_ranks(others)} {datasets[others[0]].conflict(datasets[0])}, compared with rank 0: "
            "--dataset and --labels must lead to the same dataset on every machine"
        )


def check_same_state(devices: Devices, step: int, state: dict[str, Any]) -> None:
    """Check that all ranks have the same step and the same bits of `state` (weights, ...).

    Raises:
        TrainError: they differ; the message is the same in every rank and names the ranks.
    """
    if devices.world_size == 1:
        return
    everyone = all_gather_object(devices, {"step": step, "weights": digest(state)})
    for name, value in everyone[0].items():
        others = _different(everyone, name)
        if others:
            raise TrainError(
                f"{_ranks(others)} another {name} than rank 0 before the first step "
                f"({everyone[others[0]][name]!s:.12}, not {value!s:.12}): they would train "
                "different networks; start the run again, and report this if it persists"
            )


def _different(everyone: list[dict[str, Any]], name: str) -> list[int]:
    """Return the ranks whose value of `name` differs from that of rank 0."""
    return [rank for rank, facts in enumerate(everyone) if facts[name] != everyone[0][name]]


def _ranks(ranks: list[int]) -> str:
    names = ", ".join(map(str, ranks))
    return f"rank {names} has" if len(ranks) == 1 else f"ranks {names} have"


class Outline(NamedTuple):
    """Shape and dtype of a tensor, which it replaces in a state that is sent without tensors."""

    shape: torch.Size
    dtype: torch.dtype


def broadcast_state(devices: Devices, state: dict[str, Any] | None) -> dict[str, Any]:
    """Return rank 0's `state` in every rank: nested dicts, lists and tuples with tensors.

    Tensors are sent one at a time through the memory of the device; in the other ranks the
    returned tensors are on the CPU.
    """
    if devices.world_size == 1:
        return state
    tensors: list[Tensor] = []

    def take_out(tensor: Tensor) -> Outline:
        tensors.append(tensor)
        return Outline(tensor.shape, tensor.dtype)

    def receive(outline: Outline) -> Tensor:
        tensor = torch.empty(outline.shape, dtype=outline.dtype, device=devices.device)
        broadcast_tensors(devices, [tensor])
        return tensor.cpu()

    outlines = broadcast_object(devices, _replaced(state, Tensor, take_out))
    if not devices.is_first:
        return _replaced(outlines, Outline, receive)
    for tensor in tensors:
        broadcast_tensors(devices, [tensor.detach().to(devices.device).contiguous()])
    return state


def digest(state: dict[str, Any]) -> str:
    """Return a hash of nested dicts, lists and tuples with tensors; equal bits, equal hash."""
    hashed = hashlib.sha256()

    def add(tensor: Tensor) -> Outline:
        data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        hashed.update(data.numpy())
        return Outline(tensor.shape, tensor.dtype)

    hashed.update(repr(_replaced(state, Tensor, add)).encode())
    return hashed.hexdigest()


def _replaced(value: Any, kind: type, replace: Callable[[Any], Any]) -> Any:
    """Return a copy of `value` with `replace(item)` in place of each item of type `kind`."""
    if isinstance(value, kind):
        return replace(value)
    if isinstance(value, dict):
        return {name: _replaced(item, kind, replace) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_replaced(item, kind, replace) for item in value])
    return value
