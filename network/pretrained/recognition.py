"""Find out which network the tensors of a file belong to, by their names and shapes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from network.build import build_network
from network.classifier import classifier_name
from network.network_error import NetworkError
from network.pretrained.layouts import LAYOUTS, Layout
from network.variants import MTNET_DEPTHS, TORCHVISION_TRANSFORMERS, VARIANTS

#: A tensor that tells that a file is of a network of torchvision, and the networks it can be of.
TORCHVISION_MARKS = {
    "features.0.0.0.weight": ("s3d",),
    "pos_encoding.class_token": [name for name in TORCHVISION_TRANSFORMERS if "mvit" in name],
    "patch_embed.proj.weight": [name for name in TORCHVISION_TRANSFORMERS if "swin" in name],
}
SHOWN = 3  # names in a message


class Recognised(NamedTuple):
    """A network with its options, and the tensors of a file under the names of that network."""

    network: str
    options: dict[str, Any]
    layout: str
    tensors: dict[str, Tensor]


def recognise(raw: Mapping[str, Tensor]) -> Recognised:
    """Return the network that `raw` belongs to.

    The names in `raw` may be those of any project of `network.pretrained.layouts`, without the
    prefixes of whole networks.

    Raises:
        NetworkError: there is no such network; the message names tensors that do not fit the most
            similar one.
    """
    layout = next((one for one in LAYOUTS if one.matches(raw)), None)
    tensors = renamed(raw, layout)
    nearest: tuple[int, str] | None = None
    for network, options in _candidates(tensors, layout):
        wrong = differences(network, options, tensors)
        if not wrong:
            return Recognised(network, options, layout.name if layout else "", tensors)
        if nearest is None or len(wrong) < nearest[0]:
            nearest = len(wrong), f"the nearest is {network}, but {said(wrong)}"
    why = nearest[1] if nearest else f"there are {', '.join(list(raw)[:SHOWN])}, ..."
    raise NetworkError(f"its tensors are of no network that is known: {why}")


def renamed(raw: Mapping[str, Tensor], layout: Layout | None) -> dict[str, Tensor]:
    """Return the tensors by our names.

    Raises:
        NetworkError: two tensors get the same name.
    """
    tensors: dict[str, Tensor] = {}
    for theirs, value in raw.items():
        ours = layout.rename(theirs) if layout else theirs
        if ours in tensors:
            raise NetworkError(f"two of its tensors would be {ours}, one of them is {theirs}")
        tensors[ours] = value
    return tensors


def _candidates(
    tensors: Mapping[str, Tensor], layout: Layout | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield networks, with their options, whose depths and kinds of layers are those of a file."""
    for mark, names in TORCHVISION_MARKS.items():
        if mark in tensors:
            yield from ((f"torchvision:{name}", {}) for name in names)
    depths = _depths(tensors)
    srtg = any(".sar." in name for name in tensors)
    block = "bottleneck" if "layer1.0.conv3.0.weight" in tensors else "basic"
    factored = "stem.4.weight" in tensors
    if "layer1.0.conv1_1.conv_short.weight" in tensors:
        sizes = [size for size, blocks in MTNET_DEPTHS.items() if blocks == depths]
        yield from ((f"mtnet_{size}{suffix}", {}) for size in sizes for suffix in ("", "_g8"))
    elif layout is None and not factored and "stem.0.weight" in tensors and not srtg:
        yield "torchvision:mc3_18", {}
    for name, variant in VARIANTS.items():
        if layout and name not in layout.networks:
            continue
        kind = (variant.depths, variant.block, variant.conv == "factored")
        if kind != (depths, block, factored):
            continue
        network = f"srtg_{name}" if srtg else name
        if layout:
            yield network, dict(layout.options)
            continue
        yield network, {}
        if block == "bottleneck":
            yield network, {"expansion": 4}


def _depths(tensors: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Return the number of blocks of each of the stages layer1 to layer4."""
    blocks = {
        (int(found[1]), int(found[2]))
        for name in tensors
        if (found := re.match(r"layer([1-4])\.(\d{1,3})\.", name))
    }
    stages = sorted({stage for stage, _ in blocks})
    return tuple(sum(stage == one for stage, _ in blocks) for one in stages)


def differences(
    network: str, options: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> list[str]:
    """Return how tensors differ from those of a network, apart from the shape of its classifier.

    Batch norm's counters of batches may be missing.
    """
    with torch.device("meta"):
        net = build_network(network, 2, **options)
    own = net.state_dict()
    head = f"{classifier_name(net)}."
    wrong = []
    for name, value in tensors.items():
        if name not in own:
            wrong.append(f"{name} is not in the network")
        elif value.shape != own[name].shape and not name.startswith(head):
            wrong.append(f"{name} has shape {tuple(value.shape)}, not {tuple(own[name].shape)}")
    wrong += [
        f"{name} is missing"
        for name in own
        if name not in tensors
        and not name.startswith(head)
        and not name.endswith((".num_batches_tracked", ".alpha"))
    ]
    return wrong


def said(wrong: list[str]) -> str:
    """Return the first of some differences as one text, with the number of the others."""
    more = f" (and {len(wrong) - SHOWN} more)" if len(wrong) > SHOWN else ""
    return "; ".join(wrong[:SHOWN]) + more
