"""The recurrent layers: the framework's, quick where there is one frame, and how they start."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.layers import no_autocast
from network.network_error import NetworkError

RECURRENT_INITS = ("open", "default")


def own_precision(forward: Callable) -> Callable:
    """Run a layer's `forward(x)` in the dtype of its weights, autocast or not.

    The recursion is a sliver of the arithmetic, its errors add up over time, and oneDNN has no
    half-precision LSTM for CPUs without the instructions.
    """

    @functools.wraps(forward)
    def run(layer: nn.RNNBase, x: Tensor) -> tuple[Tensor, object]:
        with no_autocast(x.device.type):
            return forward(layer, x.to(layer.weight_ih_l0.dtype))

    return run


class LSTM(nn.LSTM):
    """Two layers over (T, B, C) from a zero state -> ((T, B, C), state or None).

    Deep stages of clips of up to 16 frames have one frame. There nothing recurs, the recurrent
    weights meet zeros, and leaving them out saves most of the time. The result is the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, num_layers=2)

    @own_precision
    def forward(self, x: Tensor) -> tuple[Tensor, object]:
        if x.shape[0] > 1:
            return super().forward(x)
        h = x[0]  # (B, C)
        for w_ih, w_hh, b_ih, b_hh in self.all_weights:
            i, _, c, o = F.linear(h, w_ih, b_ih + b_hh + _unused(w_hh)).chunk(4, dim=1)
            h = o.sigmoid() * (i.sigmoid() * c.tanh()).tanh()
        return h[None], None


class GRU(nn.GRU):
    """As `LSTM`, with gated recurrent units."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, num_layers=2)

    @own_precision
    def forward(self, x: Tensor) -> tuple[Tensor, object]:
        if x.shape[0] > 1:
            return super().forward(x)
        h = x[0]  # (B, C)
        for w_ih, w_hh, b_ih, b_hh in self.all_weights:
            r, z, n = F.linear(h, w_ih, b_ih + _unused(w_hh)).chunk(3, dim=1)
            b_r, b_z, b_n = b_hh.chunk(3)
            n = torch.tanh(n + (r + b_r).sigmoid() * b_n)
            h = n - (z + b_z).sigmoid() * n
        return h[None], None


def _unused(weight: Tensor) -> Tensor:
    """Zero, with a zero gradient for all of `weight`: an optimiser still sees the tensor."""
    return weight[:0].sum()


def initialise_recurrent(net: nn.Module, how: str) -> None:
    """Set every LSTM and GRU inside `net` to one of `RECURRENT_INITS`.

    `default` leaves the framework's own start, under which the output is near 0: features, skip
    paths included, are multiplied away block by block, and training stays at chance for long.
    `open` keeps the framework's weights and moves only biases: all to 0, then some of the last
    layer's. An SRTG's LSTM multiplies the skip path too, so its output must start near 1: +2 for
    its input, cell and output gates. An MTNet's GRU multiplies the residual branch alone, where
    a third learns faster than 1 and than 0 do: +0.5 for its candidate. No shape changes:
    checkpoints are unaffected.

    Raises:
        NetworkError: `how` is neither.
    """
    if how not in RECURRENT_INITS:
        raise NetworkError(f"recurrent_init is {how!r}: it must be one of {RECURRENT_INITS}")
    if how == "default":
        return
    for module in net.modules():
        if isinstance(module, nn.LSTM):
            _set_biases(module, {"input": 2.0, "forget": 0.0, "cell": 2.0, "output": 2.0})
        elif isinstance(module, nn.GRU):
            _set_biases(module, {"reset": 0.0, "update": 0.0, "candidate": 0.5})


@torch.no_grad()
def _set_biases(layer: nn.LSTM | nn.GRU, gates: dict[str, float]) -> None:
    """Zero all biases; then the last layer's by gate, in the framework's order of gates."""
    for name, parameter in layer.named_parameters():
        if name.startswith("bias_"):
            parameter.zero_()
    last = getattr(layer, f"bias_ih_l{layer.num_layers - 1}")
    last.copy_(torch.tensor(list(gates.values())).repeat_interleave(layer.hidden_size))
