"""Put SRTG blocks after the stages of any 3D CNN. Running it once finds the stages."""

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
    alpha: float | None = None,
    recurrent_init: str = "open",
    example_shape: tuple[int, int, int, int] = (3, 16, 224, 224),
) -> nn.Module:
    """Put an SRTG after each stage of `net`, in place.

    A stage is a part of the network in which all features have the same height and width. It must
    contain an addition or a concatenation, where paths join. In torchvision's r3d_18, mc3_18 and
    r2plus1d_18 these are the residual stages, in s3d the inception stages. Modules keep their names
    and weights, so that pretrained weights can be loaded before or after.

    Args:
        net: a network that takes (B, C, T, H, W). A copy of it runs once, on the meta device.
        gates: see `network.srtg.SRTG`.
        where: names of submodules to put an SRTG after, instead of after the stages.
        alpha: see `network.srtg.SRTG`. With 0 the network computes the same as before, bit for bit,
            until it is trained.
        recurrent_init: see `network.recurrent.initialise_recurrent`.
        example_shape: (C, T, H, W), the shape of a clip that the network takes.

    Returns:
        `net` itself.

    Raises:
        NetworkError: there is no stage, or `where` has a name that is not that of a submodule with
            output (B, C, T, H, W).

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
                f"{name!r} is not a submodule whose output is (B, C, T, H, W); there are "
                f"{', '.join(list(outputs)[:6])}, ..."
            )
        reference = next(modules[name].parameters(), next(net.parameters()))
        srtg = SRTG(outputs[name][1], gates=gates, alpha=alpha)
        initialise_recurrent(srtg, recurrent_init)
        _append(modules[name], srtg.to(reference.device, reference.dtype).train(net.training))
    return net


def _append(module: nn.Module, srtg: SRTG) -> None:
    """Apply the SRTG to the output of `module`, whose submodules keep their names."""
    if isinstance(module, nn.Sequential):
        module.append(srtg)
    else:
        module.add_module("srtg", srtg)
        module.register_forward_hook(_apply_srtg)


def _apply_srtg(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
    return module.srtg(output)


def _stage_ends(outputs: dict[str, torch.Size], joined: set[torch.Size]) -> list[str]:
    """Return the name of the last module of each stage, the outermost one if modules are nested."""
    last = {shape[3:]: name for name, shape in outputs.items()}
    resolutions = {shape[3:] for shape in joined}
    return [name for resolution, name in last.items() if resolution in resolutions]


class _Joins(TorchFunctionMode):
    """Records the shape of every sum and concatenation of features."""

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
    """Run a copy of `net` once.

    Returns:
        The shape of each module's 5-dimensional output, in the order in which the modules finish,
        and the shapes of all sums and concatenations.
    """
    outputs: dict[str, torch.Size] = {}

    def note(name: str):
        def hook(module: nn.Module, inputs: tuple, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 5:
                outputs.pop(name, None)  # a module that is called again finishes later
                outputs[name] = output.shape

        return hook

    dtype = next(net.parameters()).dtype
    watched = copy.deepcopy(net).to("meta").eval()  # tensors have shapes only, nothing is computed
    for name, module in watched.named_modules():
        module.register_forward_hook(note(name))
    with torch.no_grad(), _Joins() as joins:
        watched(torch.zeros(1, *shape, device="meta", dtype=dtype))
    return outputs, joins.shapes
