"""Recurrent layers, faster than torch's for a single frame, and their initialisation."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.build_options import RECURRENT_INITS
from network.layers import no_autocast
from network.network_error import NetworkError


def own_precision(forward: Callable) -> Callable:
    """Make a layer's `forward(x)` run in the dtype of its weights, also under autocast.

    The recurrent layers are a small part of the arithmetic, their rounding errors add up over time,
    and on many CPUs there is no LSTM in half precision.
    """

    @functools.wraps(forward)
    def run(layer: nn.RNNBase, x: Tensor) -> tuple[Tensor, object]:
        with no_autocast(x.device.type):
            return forward(layer, x.to(layer.weight_ih_l0.dtype))

    return run


class _FromZeroState(nn.RNNBase):
    """A two-layer recurrent layer that starts from a zero state: (T, B, C) -> ((T, B, C), state).

    In the deep stages of clips of up to 16 frames, T is 1. The recurrent weights are then
    multiplied by zeros, and leaving them out saves most of the time. The result is the same; the
    state is None then.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, num_layers=2)

    @own_precision
    def forward(self, x: Tensor) -> tuple[Tensor, object]:
        if torch.compiler.is_exporting() or x.shape[0] > 1:  # exported: one path for every T
            return super().forward(x)
        h = x[0]  # (B, C)
        for weights in self.all_weights:
            h = self.single_step(h, *weights)
        return h[None], None


class LSTM(_FromZeroState, nn.LSTM):
    """A two-layer LSTM; see `_FromZeroState`."""

    def single_step(
        self, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
    ) -> Tensor:
        """Return the output of one layer after its first step: (B, C) -> (B, C)."""
        i, _, c, o = F.linear(x, w_ih, b_ih + b_hh + _unused(w_hh)).chunk(4, dim=1)
        return o.sigmoid() * (i.sigmoid() * c.tanh()).tanh()


class GRU(_FromZeroState, nn.GRU):
    """A two-layer GRU; see `_FromZeroState`."""

    def single_step(
        self, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
    ) -> Tensor:
        """Return the output of one layer after its first step: (B, C) -> (B, C)."""
        r, z, n = F.linear(x, w_ih, b_ih + _unused(w_hh)).chunk(3, dim=1)
        b_r, b_z, b_n = b_hh.chunk(3)
        n = torch.tanh(n + (r + b_r).sigmoid() * b_n)
        return n - (z + b_z).sigmoid() * n


def _unused(weight: Tensor) -> Tensor:
    """Return 0, computed from `weight`, so that its gradient is zeros and not None."""
    return weight[:0].sum()


def initialise_recurrent(net: nn.Module, how: str) -> None:
    """Initialise every LSTM and GRU in `net`.

    With "default" they keep torch's initialisation. Their outputs are then near 0, and since
    features are multiplied by them, skip paths included, features shrink from block to block and
    accuracy stays at chance for a long time.

    With "open" they keep torch's weights, and all biases are 0 except some of the last layer's. The
    LSTM of an SRTG multiplies the skip path too, so its output should start near 1: its input, cell
    and output gates get a bias of 2. The GRU of an MTNet multiplies only the residual branch, which
    learns faster from an output of about 1/3 than from 1 or 0: its candidate gets a bias of 0.5.

    Args:
        net: the network, changed in place.
        how: one of `RECURRENT_INITS`.

    Raises:
        NetworkError: `how` is neither "open" nor "default".
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
    """Set all biases to 0, then the last layer's by gate, given in torch's order of gates."""
    for name, parameter in layer.named_parameters():
        if name.startswith("bias_"):
            parameter.zero_()
    last = getattr(layer, f"bias_ih_l{layer.num_layers - 1}")
    last.copy_(torch.tensor(list(gates.values())).repeat_interleave(layer.hidden_size))
