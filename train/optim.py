"""The optimiser, and which parameters learn how fast."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from train.config import Config

#: Learning rates of fine-tuning, relative to the classifier's.
FINE_TUNE = {"convolution": 0.6, "recurrent": 0.5, "classifier": 1.0}


def parameter_groups(net: nn.Module, *, fine_tune: bool, decay_norms: bool) -> list[dict]:
    """Parameters by the kind of their module, and by whether weight decay applies to them.

    Kinds: `recurrent` (LSTM, GRU), `classifier` (linear layers), `convolution` (all else, with
    their norms). Every group has `name` and `lr_scale`, which `set_learning_rate` reads.

    Args:
        net: the network.
        fine_tune: scale the learning rates by `FINE_TUNE`; else all scales are 1.
        decay_norms: False leaves norms and biases (parameters of one dimension) undecayed.
    """
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for module in net.modules():
        kind = _kind(module)
        for parameter in module.parameters(recurse=False):
            decayed = decay_norms or parameter.ndim > 1
            groups.setdefault((kind, decayed), []).append(parameter)
    return [
        {
            "params": parameters,
            "name": kind if decayed else f"{kind}, not decayed",
            "lr_scale": FINE_TUNE[kind] if fine_tune else 1.0,
            **({} if decayed else {"weight_decay": 0.0}),
        }
        for (kind, decayed), parameters in sorted(groups.items())
    ]


def _kind(module: nn.Module) -> str:
    if isinstance(module, nn.RNNBase):
        return "recurrent"
    return "classifier" if isinstance(module, nn.Linear) else "convolution"


def build_optimiser(net: nn.Module, config: Config) -> torch.optim.Optimizer:
    """SGD with Nesterov's momentum, as the original, or AdamW, over `parameter_groups`."""
    groups = parameter_groups(net, fine_tune=config.fine_tune, decay_norms=config.decay_norms)
    if config.optimiser == "adamw":
        return torch.optim.AdamW(
            groups, lr=config.lr_base, weight_decay=config.weight_decay, fused=True
        )
    return torch.optim.SGD(
        groups,
        lr=config.lr_base,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
        weight_decay=config.weight_decay,
        fused=True,
    )


def restore_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """`optimiser.load_state_dict(state)`, whatever memory format the state was saved in.

    torch's fused updates on CPUs walk parameter, gradient and state side by side through memory
    and look at no strides: the momentum of a channels-last weight would go, without a word, to
    other elements of a contiguous one.
    """
    optimiser.load_state_dict(state)
    for parameter, values in optimiser.state.items():
        for name, value in values.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter).copy_(value)


def set_learning_rate(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its share of `lr`."""
    for group in optimiser.param_groups:
        group["lr"] = lr * group["lr_scale"]


def groups_table(optimiser: torch.optim.Optimizer) -> str:
    """The groups as lines of text: name, tensors, parameters, relative learning rate, decay."""
    lines = [f"{'group':<26}{'tensors':>8}{'parameters':>12}{'lr x':>6}{'decay':>8}"]
    lines += [
        f"{group['name']:<26}{len(group['params']):>8}{_count(group['params']):>12}"
        f"{group['lr_scale']:>6g}{group['weight_decay']:>8g}"
        for group in optimiser.param_groups
    ]
    return "\n".join(lines)


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)
