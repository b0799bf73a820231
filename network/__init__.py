"""Networks for video action recognition: build them by name, load any of their checkpoints."""

from network.build import build_network
from network.insert import insert_srtg
from network.network_error import NetworkError
from network.registry import list_networks
from network.srtg import gate_rates
from network.weights import load_weights

__all__ = [
    "NetworkError",
    "build_network",
    "gate_rates",
    "insert_srtg",
    "list_networks",
    "load_weights",
]
