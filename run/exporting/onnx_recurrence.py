"""Recurrent layers as the operators LSTM and GRU of ONNX, which take any number of frames."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

#: For each kind of layer, the order of ONNX's gates in terms of torch's.
GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}


class OnnxRecurrence(nn.Module):
    """A recurrent layer of this project as operators of ONNX: (T, B, C) -> ((T, B, C), None).

    torch.export would unroll the layer over its frames, whose number would then be fixed. This
    module can only be exported: called in any other way it returns zeros.
    """

    def __init__(self, layer: nn.LSTM | nn.GRU) -> None:
        super().__init__()
        self.kind, self.channels, self.layers = layer.mode, layer.hidden_size, layer.num_layers
        for number, weights in enumerate(layer.all_weights):
            w_ih, w_hh, b_ih, b_hh = (self._reordered(value.detach()) for value in weights)
            self.register_buffer(f"w{number}", w_ih[None])
            self.register_buffer(f"r{number}", w_hh[None])
            self.register_buffer(f"b{number}", torch.cat([b_ih, b_hh])[None])

    def _reordered(self, value: Tensor) -> Tensor:
        parts = value.chunk(len(GATES[self.kind]))
        return torch.cat([parts[gate] for gate in GATES[self.kind]])

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        frames, clips, channels = x.shape
        attributes = {"hidden_size": self.channels}
        if self.kind == "GRU":
            attributes["linear_before_reset"] = 1  # as torch does
        for number in range(self.layers):
            weights = (getattr(self, f"{letter}{number}") for letter in "wrb")
            y = torch.onnx.ops.symbolic(
                self.kind, (x, *weights), attributes,
                dtype=x.dtype, shape=(frames, 1, clips, channels),
            )  # fmt: skip
            x = y.squeeze(1)
        return x, None


def with_onnx_recurrence(net: nn.Module) -> nn.Module:
    """Return a copy of a network whose recurrent layers are `OnnxRecurrence`."""
    net = copy.deepcopy(net)
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.LSTM | nn.GRU):
            net.set_submodule(name, OnnxRecurrence(module))
    return net
