"""The names of the networks, and the function that builds each of them. Needs no torch.

The modules of the networks, and torch with them, are imported when a network is built.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from network.network_error import NetworkError
from network.variants import MTNET_DEPTHS, TORCHVISION_CNNS, TORCHVISION_TRANSFORMERS, VARIANTS

if TYPE_CHECKING:
    from torch import nn

_BUILDERS: dict[str, Callable[..., nn.Module]] = {}
_TORCHVISION: dict[str, Callable[..., nn.Module]] = {}


def register(name: str, builder: Callable[..., nn.Module]) -> None:
    """Have `build_network(name, num_classes, **options)` call a builder.

    Args:
        name: the network's name.
        builder: called as `builder(num_classes, options=options)` with a
            `network.build_options.BuildOptions`.

    Raises:
        NetworkError: another network has this name.
    """
    if name.lower() in _BUILDERS:
        raise NetworkError(f"two networks are called {name!r}: rename one of them")
    _BUILDERS[name.lower()] = builder


def list_networks() -> list[str]:
    """Return the names of this project's networks, in the order in which they were registered."""
    return list(_BUILDERS)


def list_torchvision_networks() -> list[str]:
    """Return the names, `torchvision:<name>`, of torchvision's networks that can be built too."""
    return [name for name in _TORCHVISION if not name.startswith("srtg_")]


def find_builder(name: str) -> Callable[..., nn.Module]:
    """Return the function that builds the network of exactly this name, in upper or lower case.

    Raises:
        NetworkError: there is no such network; the message names the three most similar ones.
    """
    builders = _BUILDERS | _TORCHVISION
    try:
        return builders[name.lower()]
    except KeyError:
        near = difflib.get_close_matches(name.lower(), builders, n=3, cutoff=0.0)
        raise NetworkError(
            f"unknown network {name!r}; the nearest are {', '.join(near)} "
            "(python -m run.networks lists all)"
        ) from None


def _build_resnet3d(num_classes: int, **options) -> nn.Module:
    from network.resnet3d import build_resnet3d

    return build_resnet3d(num_classes, **options)


def _build_mtnet(num_classes: int, **options) -> nn.Module:
    from network.mtnet import build_mtnet

    return build_mtnet(num_classes, **options)


def _build_torchvision(num_classes: int, **options) -> nn.Module:
    from network.torchvision_networks import build_torchvision

    return build_torchvision(num_classes, **options)


for _name in (*TORCHVISION_CNNS, *TORCHVISION_TRANSFORMERS):
    _TORCHVISION[f"torchvision:{_name}"] = partial(_build_torchvision, name=_name, srtg=False)
for _name in TORCHVISION_CNNS:
    _TORCHVISION[f"srtg_torchvision:{_name}"] = partial(_build_torchvision, name=_name, srtg=True)
for _prefix in ("", "srtg_"):
    for _name, _variant in VARIANTS.items():
        register(_prefix + _name, partial(_build_resnet3d, variant=_variant, srtg=bool(_prefix)))
for _suffix, _groups in (("", 1), ("_g8", 8)):
    for _size, _depths in MTNET_DEPTHS.items():
        register(f"mtnet_{_size}{_suffix}", partial(_build_mtnet, depths=_depths, groups=_groups))
