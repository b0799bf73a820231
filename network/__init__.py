"""Networks for video action recognition: build them by name, load weights from any checkpoint.

- `build`, `build_options`: build a network from its name, its number of classes and its options
- `registry`: the networks' names, and the function that builds each of them
- `variants`: depths, widths and kinds of convolution of every network, without torch
- `resnet3d`: 3D ResNets, (2+1)D, ResNeXt, wide and channel-separated networks, plain and with SRTG
- `mtnet`: multi-temporal networks (MTConv)
- `layers`: the convolutions, stems and small tensor functions that the networks are made of
- `srtg`, `gates`, `recurrent`: the SRTG block, its cycle-consistency gate, LSTM and GRU
- `insert`: put SRTG blocks into any other 3D CNN
- `torchvision_networks`: torchvision's own networks, and which clips they take
- `pretrained/`: weights of other projects by name or file, and the networks that they are for
- `input_profile`: how clips must look for given weights
- `classifier`: the name of a network's last layer
- `weights`, `checkpoint_file`: load weights into a network, read checkpoint files safely
- `cost`, `figures`: parameters and multiply-accumulates, computed or from a stored table
- `network_error`: the error for a network or a checkpoint that cannot be used

What the package exports is imported when it is first used, so that importing one of its light
modules (`network_error`, `registry`, `figures`) does not import torch.
"""

from __future__ import annotations

import importlib

_MODULES = {
    "InputProfile": "network.input_profile",
    "NetworkError": "network.network_error",
    "build_network": "network.build",
    "gate_rates": "network.srtg",
    "insert_srtg": "network.insert",
    "list_networks": "network.registry",
    "list_pretrained": "network.pretrained.sources",
    "load_pretrained": "network.pretrained.loading",
    "load_weights": "network.weights",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> object:
    """Import what the package exports when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
