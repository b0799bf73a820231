"""The stored table of every network's parameters and multiply-accumulates, `figures.json`.

Computing it takes minutes. After a network was added or changed, `python -m network.figures` must
write the file again; tests compare the file with the networks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).with_name("figures.json")

#: Shape of the clip, and number of classes, for which the figures are stored.
FRAMES, SIZE, CLASSES = 16, 224, 400


class Figures(NamedTuple):
    """The parameters and multiply-accumulates of one network."""

    parameters: int
    macs: int  # multiply-accumulates of one clip in a forward pass


def read_figures() -> dict[str, Figures]:
    """Return the stored figures of all networks, by name, without importing torch."""
    return {name: Figures(**row) for name, row in json.loads(FILE.read_text()).items()}


def compute_figures(
    name: str, *, frames: int = FRAMES, size: int = SIZE, classes: int = CLASSES
) -> Figures:
    """Compute one network's figures, for clips of `frames` frames of `size` x `size` pixels.

    The network is built on torch's meta device, where tensors have a shape and no content: it needs
    no memory and no arithmetic.

    Raises:
        NetworkError: there is no such network.
    """
    import torch

    from network.build import build_network
    from network.cost import count_macs, count_parameters

    with torch.device("meta"):
        net = build_network(name, classes)
    return Figures(count_parameters(net), count_macs(net, frames, size, size))


def write_figures() -> None:
    """Compute the figures of all networks, which takes minutes, and write the file."""
    from network.registry import list_networks

    rows = [
        f"  {json.dumps(name)}: {json.dumps(compute_figures(name)._asdict())}"
        for name in list_networks()
    ]
    FILE.write_text("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    write_figures()
