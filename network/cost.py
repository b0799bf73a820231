"""What a network costs: parameters and multiply-accumulates, without running it."""

from __future__ import annotations

import copy

import torch
from torch import nn


def count_parameters(net: nn.Module) -> int:
    """Number of trainable and frozen parameters; buffers are not among them."""
    return sum(parameter.numel() for parameter in net.parameters())


def count_macs(net: nn.Module, frames: int, height: int, width: int) -> int:
    """Multiply-accumulates of one clip: convolutions, linear layers and recurrent products.

    Nothing is computed: a copy of the network runs on torch's meta device, where tensors have a
    shape and no content. A network built there costs no memory either.
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
