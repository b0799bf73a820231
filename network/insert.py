"""Put SRTG behind the stages of any 3D CNN, found by watching it run once."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from network.network_error import NetworkError
from network.recurrent import initialise_recurrent
from network.srtg import SRTG


def insert_srtg(
    net: nn.Module,
    gates: bool = False,
    *,
    where: Iterable[str] | None = None,
    recurrent_init: str = "open",
    example_shape: tuple[int, int, int, int] = (3, 16, 224, 224),
) -> nn.Module:
    """Put an SRTG behind each stage of `net`, in place; names and weights it has stay.

    A stage is a run of features of one height and width in which paths join, by an addition or a
    concatenation: the residual stages of torchvision's r3d_18, mc3_18 and r2plus1d_18, the
    inception stages of s3d. Load pretrained weights before or after: what was there keeps its name.

    Args:
        net: maps (B, C, T, H, W) to anything; a copy runs once, on the meta device.
        gates: see `network.srtg.SRTG`.
        where: names of the submodules to put one behind, instead of the stages found.
        recurrent_init: see `network.recurrent.initialise_recurrent`.
        example_shape: (C, T, H, W) of a clip that the network takes.

    Returns:
        `net` itself.

    Raises:
        NetworkError: no stage is found, or `where` names what is no submodule with features out.

    Example:
        >>> from torchvision.models.video import r3d_18
        >>> net = insert_srtg(r3d_18(), gates=True)
    """
    outputs, joined = _watch(net, example_shape)
    names = list(where) if where is not None else _stage_ends(outputs, joined)
    if not names:
        raise NetworkError("no stage found in the network: name the modules with where=[...]")
    modules = dict(net.named_modules())
    for name in names:
        if name not in outputs:
            raise NetworkError(
                f"{name!r} is no submodule whose output is (B, C, T, H, W); there are "
                f"{', '.join(list(outputs)[:6])}, ..."
            )
        reference = next(modules[name].parameters(), next(net.parameters()))
        srtg = SRTG(outputs[name][1], gates=gates)
        initialise_recurrent(srtg, recurrent_init)
        _append(modules[name], srtg.to(reference.device, reference.dtype).train(net.training))
    return net


def _append(module: nn.Module, srtg: SRTG) -> None:
    """Make `module` end with the SRTG, without renaming anything in it."""
    if isinstance(module, nn.Sequential):
        module.append(srtg)
    else:
        module.add_module("srtg", srtg)
        module.register_forward_hook(_apply_srtg)


def _apply_srtg(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
    return module.srtg(output)


def _stage_ends(outputs: dict[str, torch.Size], joined: set[torch.Size]) -> list[str]:
    """The last module of each resolution at which paths join, the outermost of those that end."""
    last = {shape[3:]: name for name, shape in outputs.items()}
    resolutions = {shape[3:] for shape in joined}
    return [name for resolution, name in last.items() if resolution in resolutions]


class _Joins(TorchFunctionMode):
    """Notes the shape of every sum and concatenation of features."""

    CALLS = frozenset(
        {torch.add, torch.cat, torch.concat, torch.concatenate}
        | {Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__iadd__, Tensor.__radd__}
    )

    def __init__(self) -> None:
        super().__init__()
        self.shapes: set[torch.Size] = set()

    def __torch_function__(self, call, types, args=(), kwargs=None):
        output = call(*args, **(kwargs or {}))
        if call in self.CALLS and isinstance(output, Tensor) and output.ndim == 5:
            self.shapes.add(output.shape)
        return output


def _watch(
    net: nn.Module, shape: tuple[int, int, int, int]
) -> tuple[dict[str, torch.Size], set[torch.Size]]:
    """Run a copy; give each module's 5-dimensional output shape, by the order in which they end."""
    outputs: dict[str, torch.Size] = {}

    def note(name: str):
        def hook(module: nn.Module, inputs: tuple, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 5:
                outputs.pop(name, None)  # called again: it ends later
                outputs[name] = output.shape

        return hook

    dtype = next(net.parameters()).dtype
    watched = copy.deepcopy(net).to("meta").eval()  # shapes without content: nothing is computed
    for name, module in watched.named_modules():
        module.register_forward_hook(note(name))
    with torch.no_grad(), _Joins() as joins:
        watched(torch.zeros(1, *shape, device="meta", dtype=dtype))
    return outputs, joins.shapes
