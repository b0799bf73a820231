"""Every network by its exact name: a dict from lower-case name to the function that builds it."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from torch import nn

from network import mtnet, resnet3d
from network.network_error import NetworkError

_BUILDERS: dict[str, Callable[..., nn.Module]] = {}


def register(name: str, builder: Callable[..., nn.Module]) -> None:
    """Make `builder(num_classes=..., **options)` known as `name`.

    Raises:
        NetworkError: the name is taken already.
    """
    if name.lower() in _BUILDERS:
        raise NetworkError(f"two networks are called {name!r}: rename one of them")
    _BUILDERS[name.lower()] = builder


def list_networks() -> list[str]:
    """The names that `build_network` knows, in the order of their registration."""
    return list(_BUILDERS)


def find_builder(name: str) -> Callable[..., nn.Module]:
    """The builder registered under exactly this name, upper and lower case being one.

    Raises:
        NetworkError: there is none; the message names the three nearest.
    """
    try:
        return _BUILDERS[name.lower()]
    except KeyError:
        near = difflib.get_close_matches(name.lower(), _BUILDERS, n=3, cutoff=0.0)
        raise NetworkError(
            f"unknown network {name!r}; the nearest are {', '.join(near)} "
            "(python -m run.networks lists all)"
        ) from None


for _builders in (resnet3d.BUILDERS, mtnet.BUILDERS):
    for _name, _builder in _builders.items():
        register(_name, _builder)
