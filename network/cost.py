"""Count a network's parameters and multiply-accumulates, without computing anything."""

from __future__ import annotations

import copy

import torch
from torch import nn


def count_parameters(net: nn.Module) -> int:
    """Count the parameters, trainable and frozen, without the buffers."""
    return sum(parameter.numel() for parameter in net.parameters())


def count_macs(net: nn.Module, frames: int, height: int, width: int) -> int:
    """Count the multiply-accumulates of one clip in convolutions, linear and recurrent layers.

    A copy of the network runs on torch's meta device, where tensors have a shape and no content.

    Args:
        net: the network.
        frames: length of the clip.
        height: of the clip, in pixels.
        width: of the clip, in pixels.
    """
    total = 0

    def add(module: nn.Module, inputs: tuple, output: torch.Tensor | tuple) -> None:
        nonlocal total
        if isinstance(module, nn.Conv3d):
            total += output[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += module.weight.numel()
        else:
            steps = inputs[0].shape[0]  # (T, B, C)
            matrices = [p for name, p in module.named_parameters() if name.startswith("weight")]
            total += steps * sum(p.numel() for p in matrices)

    meta = copy.deepcopy(net).to("meta").eval()
    for module in meta.modules():
        if isinstance(module, nn.Conv3d | nn.Linear | nn.RNNBase):
            module.register_forward_hook(add)
    with torch.no_grad():
        meta(torch.empty(1, 3, frames, height, width, device="meta"))
    return total
