"""Build and restore the optimiser; its parameter groups and their learning rates."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from network.checkpoint_file import tensor_problem
from network.classifier import classifier_name
from network.srtg import SRTG
from train.config import Config
from train.train_errors import TrainError

CLASSIFIER = "classifier"
OPTIMISER = "optimizer"  # the part of a checkpoint that holds the optimiser's state


def parameter_groups(net: nn.Module, config: Config) -> list[dict]:
    """Group the parameters that learn by the kind of their module and by their weight decay.

    Kinds: `recurrent` (LSTM, GRU, the weights of SRTGs), `classifier` (the last layer),
    `convolution` (all else, with their norms). Every group has `name` and `lr_scale`, which
    `set_learning_rate` reads.

    Args:
        net: the network; parameters that take no gradients are left out.
        config: with `fine_tune`, the scales are `backbone_lr`, `recurrent_lr` and 1, otherwise all
            are 1. Without `decay_norms`, norms and biases (parameters of one dimension) have no
            weight decay.
    """
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    head = classifier_name(net)
    for name, module in net.named_modules():
        kind = CLASSIFIER if head and name == head else _kind(module)
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad:
                decayed = config.decay_norms or parameter.ndim > 1
                groups.setdefault((kind, decayed), []).append(parameter)
    scales = dict.fromkeys(("convolution", "recurrent", CLASSIFIER), 1.0)
    if config.fine_tune:
        scales |= {"convolution": config.backbone_lr, "recurrent": config.recurrent_lr}
    return [
        {
            "params": parameters,
            "name": kind if decayed else f"{kind}, not decayed",
            "lr_scale": scales[kind],
            **({} if decayed else {"weight_decay": 0.0}),
        }
        for (kind, decayed), parameters in sorted(groups.items())
    ]


def _kind(module: nn.Module) -> str:
    return "recurrent" if isinstance(module, nn.RNNBase | SRTG) else "convolution"


def build_optimiser(net: nn.Module, config: Config) -> torch.optim.Optimizer:
    """Build SGD with Nesterov momentum (as in the original) or AdamW over `parameter_groups`."""
    groups = parameter_groups(net, config)
    if config.optimiser == "adamw":
        return torch.optim.AdamW(
            groups, lr=config.lr_base, weight_decay=config.weight_decay, fused=True
        )
    optimiser = torch.optim.SGD(
        groups,
        lr=config.lr_base,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
        weight_decay=config.weight_decay,
        fused=True,
    )
    if config.momentum:
        # torch's fused SGD allocates these in the first step and leaves them uninitialised where
        # that step is not applied (`found_inf`)
        for parameter in net.parameters():
            if parameter.requires_grad:
                optimiser.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimiser


def restore_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load an optimiser's state (momentum, averages of gradients) from a saved state dict.

    Of the parameter groups only the learning rates are loaded; the other options follow from the
    configuration. Each step sets its own learning rate. The loaded rates matter only if a resumed
    run is saved before its first step: its checkpoint must then equal that of a run without
    interruption.

    torch's fused updates on CPUs read parameter, gradient and state in the order of memory. They do
    not check shapes: a tensor that is too small is read and written past its end. They ignore
    strides: channels-last momentum would be applied to the wrong elements of a contiguous weight.
    So shapes are checked here, and the state gets its parameter's memory format.

    Raises:
        TrainError: the state does not fit; the optimiser is not changed.
    """
    problem = optimiser_problem(optimiser, state)
    if problem:
        raise TrainError(f"the optimiser's state cannot be used: {problem}")
    for group, saved in zip(optimiser.param_groups, state["param_groups"], strict=True):
        group["lr"] = saved["lr"]
    if not state["state"]:  # saved before the first step, or SGD without momentum
        return
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state["state"], "param_groups": groups})
    for parameter, values in optimiser.state.items():
        for name, value in values.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter).copy_(value)


def optimiser_problem(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> str:
    """Return why a saved state dict does not fit the optimiser, or an empty string."""
    own = optimiser.state_dict()["param_groups"]
    if saved_groups(state) != saved_groups({"param_groups": own}):
        return "its parameter groups are not those of this run"
    for group in state["param_groups"]:
        lr = group.get("lr")
        if not isinstance(lr, float) or not 0 <= lr < math.inf:
            return f"the learning rate of group {group['name']!r} is {lr!r}"
    values = state.get("state")
    if not isinstance(values, dict):
        return "it has no state of the parameters"
    if not values:  # no step was taken yet
        return ""
    parameters = {
        number: parameter
        for names, group in zip(own, optimiser.param_groups, strict=True)
        for number, parameter in zip(names["params"], group["params"], strict=True)
        if parameter.requires_grad
    }
    if values.keys() != parameters.keys():
        return f"it is of {len(values)} parameters, and there are {len(parameters)} to be learnt"
    step = torch.zeros(())
    for number, parameter in parameters.items():
        wanted = _state_names(optimiser)
        if not isinstance(values[number], dict) or values[number].keys() != wanted:
            return f"parameter {number} has not just {' and '.join(sorted(wanted))}"
        for name, value in values[number].items():
            like = step if name == "step" else parameter.detach().cpu()
            problem = tensor_problem(name, value, like)
            if not problem and value.shape != like.shape:
                problem = f"has shape {tuple(value.shape)}, not {tuple(like.shape)}"
            if problem:
                return f"{name} of parameter {number} {problem}"
    return ""


def saved_groups(state: dict[str, Any]) -> list[tuple[str, list[int]]] | None:
    """Return each group's name and parameter numbers in a saved state dict; None if damaged."""
    groups = state.get("param_groups")
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        return None
    found = [(group.get("name"), group.get("params")) for group in groups]
    broken = any(
        type(name) is not str
        or not isinstance(numbers, list)
        or any(type(number) is not int for number in numbers)
        for name, numbers in found
    )
    return None if broken else found


def _state_names(optimiser: torch.optim.Optimizer) -> set[str]:
    """Return the names of the tensors that the optimiser keeps for each parameter."""
    if isinstance(optimiser, torch.optim.AdamW):
        return {"step", "exp_avg", "exp_avg_sq"}
    return {"momentum_buffer"} if optimiser.param_groups[0]["momentum"] else set()


def set_learning_rate(
    optimiser: torch.optim.Optimizer, lr: float, *, classifier_alone: bool = False
) -> None:
    """Set the learning rate of every group: `lr` times the group's `lr_scale`.

    With `classifier_alone` it is 0 in the groups of all other layers (`--head-epochs`).
    """
    for group in optimiser.param_groups:
        waits = classifier_alone and not group["name"].startswith(CLASSIFIER)
        group["lr"] = 0.0 if waits else lr * group["lr_scale"]


def groups_table(optimiser: torch.optim.Optimizer) -> str:
    """Return the groups as a table: name, tensors, parameters, relative learning rate, decay."""
    lines = [f"{'group':<26}{'tensors':>8}{'parameters':>12}{'lr x':>6}{'decay':>8}"]
    lines += [
        f"{group['name']:<26}{len(group['params']):>8}{_count(group['params']):>12}"
        f"{group['lr_scale']:>6g}{group['weight_decay']:>8g}"
        for group in optimiser.param_groups
    ]
    return "\n".join(lines)


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)
