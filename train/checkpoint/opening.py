"""Read a checkpoint of a training run, and check its content before it is used."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from network.build_options import BuildOptions
from network.checkpoint_file import read_checkpoint_file, tensor_problem
from network.input_profile import InputProfile
from network.network_error import NetworkError
from train.config import FROM_PROFILE, Config
from train.run_clock import PARTS as CLOCK_PARTS
from train.schedule.replanning import parts_problem
from train.train_errors import TrainError

#: The parts of every checkpoint, and their types.
PARTS = {
    "state_dict": dict,
    "ema": dict | None,
    "config": dict,
    "classes": list,
    "epoch": int,
    "step": int,
    "best_top1": float,
    "skipped_steps": int,
    "fingerprint": str,
}
#: The parts that only resuming needs; evaluation and fine-tuning work without them.
PARTS_TO_RESUME = {"scaler": dict, "meter": Tensor, "counts": dict}
#: Older epochs' checkpoints are saved without "optimizer", earlier versions' have no "history",
#: "clock" or "losses".
OPTIONAL_PARTS = {
    "optimizer": dict,
    "history": dict,
    "clock": dict,
    "losses": Tensor,
    "network_options": dict,
    "input_profile": dict,
}


def load_checkpoint(path: Path, *, to_resume: bool = True) -> dict[str, Any]:
    """Read a checkpoint of this project, tensors on the CPU; check its parts and their types.

    Whether its tensors fit the network is checked where they are used, by `check_tensors`,
    `train.optimiser.restore_optimiser` and `network.load_weights`.

    Args:
        path: the file.
        to_resume: whether to require the parts that only resuming needs.

    Raises:
        TrainError: the file is missing, damaged, or not such a checkpoint.
    """
    try:
        content = read_checkpoint_file(path)
    except NetworkError as error:
        raise TrainError(str(error)) from error
    return check_content(path, content, to_resume=to_resume)


def check_content(path: Path, content: object, *, to_resume: bool = True) -> dict[str, Any]:
    """Return the content of the checkpoint file `path` once its parts are checked.

    Arguments and errors are those of `load_checkpoint`.
    """
    if not isinstance(content, dict):
        raise TrainError(f"{path}: is not a checkpoint: it holds {type(content).__name__}, no dict")
    wanted = PARTS | PARTS_TO_RESUME if to_resume else PARTS
    missing = [name for name in wanted if name not in content]
    if missing:
        what = "resuming" if to_resume else "evaluating"
        raise TrainError(
            f"{path}: lacks what {what} needs ({', '.join(missing)}); "
            "its weights can be used by --pretrained-3d"
        )
    for name, kind in (PARTS | PARTS_TO_RESUME | OPTIONAL_PARTS).items():
        if name in content and not _is_a(content[name], kind):
            raise _unusable(path, f"its {name} is of type {type(content[name]).__name__}")
    _check_config(path, content["config"])
    _check_values(path, content)
    return content


def _unusable(path: Path, why: str) -> TrainError:
    return TrainError(f"{path}: cannot be used: {why}; use another checkpoint")


def _is_a(value: object, kind: Any) -> bool:
    """Return whether a value has the type of an annotation: `int`, `list[int] | None`, ..."""
    if isinstance(kind, types.UnionType):
        return any(_is_a(value, one) for one in typing.get_args(kind))
    if kind in (None, types.NoneType):
        return value is None
    if typing.get_origin(kind) is list:
        inner = typing.get_args(kind)[0]
        return isinstance(value, list | tuple) and all(_is_a(one, inner) for one in value)
    if kind is float:
        return type(value) in (int, float)
    return type(value) is kind if kind in (int, bool, str) else isinstance(value, kind)


def _check_config(path: Path, config: dict[str, Any]) -> None:
    """Check the options in a checkpoint; options that no longer exist are ignored."""
    hints = typing.get_type_hints(Config)
    for item in fields(Config):
        if item.name not in config:
            continue
        value, choices = config[item.name], item.metadata.get("choices")
        if not _is_a(value, hints[item.name]) or (choices and value not in choices):
            raise _unusable(path, f"its option {item.name} is {str(value)[:40]!r}")
    problem = parts_problem(config.get("schedule_parts", []))
    if problem:
        raise _unusable(path, f"its option schedule_parts is damaged: {problem}")
    for name, value in config.get("from_profile", {}).items():
        if name not in FROM_PROFILE or not _is_a(value, hints[name]):
            raise _unusable(path, f"its option {str(name)[:40]!r} has a damaged value")
    for name in ("network", "clip_length", "clip_size", "val_frame_interval"):
        if not config.get(name) or (name != "network" and config[name] < 1):
            raise _unusable(path, f"its option {name} is {config.get(name)!r}")


def _check_values(path: Path, content: dict[str, Any]) -> None:
    """Check the values that can be wrong although their type is right."""
    classes = content["classes"]
    if not classes or not _is_a(classes, list[str]) or len(set(classes)) < len(classes):
        raise _unusable(path, "its classes are not a list of different names")
    for name in ("epoch", "step", "skipped_steps"):
        if not 0 <= content[name] < 2**62:
            raise _unusable(path, f"its {name} is {content[name]}")
    if not math.isfinite(content["best_top1"]):
        raise _unusable(path, f"its best_top1 is {content['best_top1']}")
    try:
        if "network_options" in content:
            BuildOptions.of(content["network_options"])
        if "input_profile" in content:
            InputProfile.from_dict(content["input_profile"])
    except NetworkError as error:
        raise _unusable(path, str(error)) from error
    for name, value in content.get("clock", {}).items():
        if name not in ("spent", "epoch", *CLOCK_PARTS):
            raise _unusable(path, f"its clock has an unknown part {str(name)[:40]!r}")
        if not _is_a(value, float) or not 0 <= value < math.inf:
            raise _unusable(path, "its clock is not a number of seconds")
    for value in content.get("scaler", {}).values():
        if not _is_a(value, float) or not 0 <= value < math.inf:
            raise _unusable(path, "its loss scale is not a number")


def check_tensors(path: Path, part: str, given: Mapping, own: Mapping[str, Tensor]) -> None:
    """Check that a part of a checkpoint has exactly the tensors that this run has.

    Raises:
        TrainError: a name is missing or unknown, or a tensor has another shape or dtype, or
            values that are not finite.
    """
    for names, what in ((own.keys() - given.keys(), "lacks"), (given.keys() - own.keys(), "has")):
        if names:
            first = min(map(str, names))
            raise _unusable(path, f"its {part} {what} {first} ({len(names)} such tensors)")
    for name, tensor in own.items():
        problem = tensor_problem(name, given[name], tensor.cpu())
        if not problem and given[name].shape != tensor.shape:
            problem = f"has shape {tuple(given[name].shape)}, not {tuple(tensor.shape)}"
        if problem:
            raise _unusable(path, f"in its {part}, {name} {problem}")


def check_scaler(path: Path, given: dict[str, float], own: torch.amp.GradScaler) -> None:
    """Check that a checkpoint has the loss scale that fp16 needs, where this run uses fp16."""
    missing = own.state_dict().keys() - given.keys()
    if given and missing:
        raise _unusable(path, f"its loss scale lacks {min(missing)}")
