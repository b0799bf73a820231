"""The outputs of a network's layers: watch them, find a layer by name, read them as maps."""

from __future__ import annotations

import contextlib
import difflib
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from network.network_error import NetworkError

Shapes = dict[str, list[torch.Size]]


def tensors_of(output: object) -> list[Tensor]:
    """Return the floating-point tensors in a layer's output; an MTConv block gives two."""
    parts = output if isinstance(output, tuple | list) else [output]
    return [part for part in parts if isinstance(part, Tensor) and part.is_floating_point()]


@contextlib.contextmanager
def watched(layers: dict[str, nn.Module], note: Callable[[str, object], object]) -> Iterator[None]:
    """Within the context, call `note(name, output)` whenever one of the layers has finished.

    If it returns something other than None, that is the layer's output from there on.
    """

    def hook(name: str) -> Callable:
        return lambda module, inputs, output: note(name, output)

    handles = [layer.register_forward_hook(hook(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def output_shapes(net: nn.Module, clips: Tensor) -> Shapes:
    """Return the shapes of each layer's output for `clips`, in the order in which layers finish.

    Args:
        net: the network.
        clips: normalised (B, 3, T, H, W).
    """
    shapes: Shapes = {}

    def note(name: str, output: object) -> None:
        shapes.pop(name, None)  # a layer that is called again finishes later
        if found := tensors_of(output):
            shapes[name] = [part.shape for part in found]

    with watched({name: layer for name, layer in net.named_modules() if name}, note):
        net(clips)
    return shapes


def find_name(name: str, names: list[str], what: str) -> str:
    """Return `name` if it is one of `names`.

    Raises:
        NetworkError: it is none. The message names the three most similar ones.
    """
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.0)
    raise NetworkError(f"there is no {what} {name!r}; did you mean {', '.join(near)}?")


def as_maps(part: Tensor, token_frames: int) -> Tensor | None:
    """Return a layer's output for square clips as (B, C, T, H, W), None if it has no positions.

    CNNs give (B, C, T, H, W), Swin transformers (B, T, H, W, C), which the equal height and width
    of square clips tell apart. MViT gives (B, N, C): one token for each position, with or without
    a class token before them.

    Args:
        part: the output.
        token_frames: T of tokens; see `token_frames`.
    """
    shape = part.shape
    if part.ndim == 5 and shape[3] == shape[4]:
        return part
    if part.ndim == 5 and shape[2] == shape[3]:
        return part.permute(0, 4, 1, 2, 3)
    if part.ndim == 3 and token_frames:
        for class_tokens in (1, 0):
            side = math.isqrt(max(0, shape[1] - class_tokens) // token_frames)
            if side and side * side * token_frames == shape[1] - class_tokens:
                tokens = part[:, class_tokens:].unflatten(1, (token_frames, side, side))
                return tokens.permute(0, 4, 1, 2, 3)
    return None


def token_frames(shapes: Shapes) -> int:
    """Return how many frames the tokens of a transformer stand for; 0 if there are no features.

    It is the T of the last features of shape (B, C, T, H, W): those that become tokens.
    """
    frames = [
        shape[2] for parts in shapes.values() for shape in parts
        if len(shape) == 5 and shape[3] == shape[4]
    ]  # fmt: skip
    return frames[-1] if frames else 0


def grid_of(shapes: Shapes, name: str) -> tuple[int, int, int] | None:
    """Return (T, H, W) of a layer's maps, of the largest if it gives several; None without maps."""
    frames = token_frames(shapes)
    parts = [torch.empty(shape, device="meta") for shape in shapes[name]]
    grids = [maps.shape[2:] for part in parts if (maps := as_maps(part, frames)) is not None]
    return max((tuple(grid) for grid in grids), key=math.prod) if grids else None
