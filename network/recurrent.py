"""How recurrent layers whose output multiplies features start: open, or as the framework has it."""

from __future__ import annotations

import torch
from torch import nn

from network.errors import NetworkError

RECURRENT_INITS = ("open", "default")


def initialise_recurrent(net: nn.Module, how: str) -> None:
    """Set every LSTM and GRU inside `net` to one of `RECURRENT_INITS`.

    `default` leaves the framework's own start, under which the output is near 0: features, skip
    paths included, are multiplied away block by block, and training stays at chance for long.
    `open` keeps the framework's weights and moves only biases, so that the last layer's output
    starts near 1: all biases 0, then +2 for an LSTM's input, cell and output gates; for a GRU, -4
    for the update gate and +2 for the candidate. No shape changes: checkpoints are unaffected.

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
            _set_biases(module, {"reset": 0.0, "update": -4.0, "candidate": 2.0})


@torch.no_grad()
def _set_biases(layer: nn.LSTM | nn.GRU, gates: dict[str, float]) -> None:
    """Zero all biases; then the last layer's by gate, in the framework's order of gates."""
    for name, parameter in layer.named_parameters():
        if name.startswith("bias_"):
            parameter.zero_()
    last = getattr(layer, f"bias_ih_l{layer.num_layers - 1}")
    last.copy_(torch.tensor(list(gates.values())).repeat_interleave(layer.hidden_size))
