"""Choose the layer whose heat map `run.explain` shows."""

from __future__ import annotations

import math

from network.network_error import NetworkError
from run.layer_outputs import Shapes, find_name, grid_of

FRAMES, SIDE = 2, 3  # the smallest map that shows when and where
STAGES = ("layer4", "layer3", "layer2")  # layer1 has learnt little about classes


def last_layer(shapes: Shapes) -> str:
    """Return the last layer with positions: the last residual stage, if the network has stages.

    In a transformer whose answer is read from a class token (MViT), the other tokens of the last
    block are not used any more. It is then the first norm of that block.

    Raises:
        NetworkError: no layer has an extent in space.
    """
    if "layer4" in shapes and _extent(shapes, "layer4") > 1:
        return "layer4"
    norms = [name for name in shapes if name.startswith("blocks.") and name.endswith(".norm1")]
    names = norms or [name for name in shapes if _extent(shapes, name) > 1]
    if not names:
        raise NetworkError("no layer of this network has an extent in space for this clip")
    return names[-1]


def choose_layer(shapes: Shapes, asked: str | None) -> tuple[str, str]:
    """Return the layer to explain, and a sentence that says which it is and why.

    By default it is the last residual stage, or the last layer with positions. Where that leaves
    fewer than 2 frames or 3 x 3 positions, as for short or small clips, it is the last of the
    earlier stages that has so many.

    Args:
        shapes: see `output_shapes`.
        asked: the name that the user gave.

    Raises:
        NetworkError: there is no such layer, or it has no extent in space.
    """
    if asked is not None:
        name = find_name(asked, list(shapes), "layer")
        if _extent(shapes, name) < 2:
            raise NetworkError(
                f"the output of layer {name!r} has no extent in space for this clip, so it has no "
                f"heat map; choose an earlier layer, such as {last_layer(shapes)}"
            )
        return name, f"{name}: {_size(shapes, name)}"
    last = last_layer(shapes)
    fine = [name for name in STAGES if name in shapes and _is_fine(shapes, name)]
    if last not in STAGES or last in fine or not fine:
        return last, f"{last}, the last layer with positions: {_size(shapes, last)}"
    return fine[0], (
        f"{fine[0]}: {_size(shapes, fine[0])}; the last stage, {last}, has only "
        f"{_size(shapes, last)} (--layer {last} shows it all the same)"
    )


def _extent(shapes: Shapes, name: str) -> int:
    """Return the number of positions of a frame in a layer's maps; 0 without maps."""
    grid = grid_of(shapes, name)
    return math.prod(grid[1:]) if grid else 0


def _is_fine(shapes: Shapes, name: str) -> bool:
    frames, height, _ = grid_of(shapes, name) or (0, 0, 0)
    return frames >= FRAMES and height >= SIDE


def _size(shapes: Shapes, name: str) -> str:
    frames, height, width = grid_of(shapes, name)
    return f"{frames} frame{'s' if frames > 1 else ''} of {height} x {width} positions"
