"""A trained network that takes clips as they are decoded, and the facts that its file tells."""

from __future__ import annotations

import json

import torch
from torch import Tensor, nn

from run.trained_network import Trained
from run.worker_pool import printable
from train.config import Config

#: What the metadata of every file say about input and output.
INPUT = "clips: uint8 (N, T, H, W, 3), RGB"
OUTPUT = "logits: float32 (N, classes); their softmax is the probabilities"


class ExportedNetwork(nn.Module):
    """Normalise clips as the input profile says, then call the network.

    Maps uint8 (N, T, H, W, 3), RGB, to logits (N, classes).
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        profile = net.input_profile
        self.net = net
        self.register_buffer("profile_mean", 255 * torch.tensor(profile.mean))
        self.register_buffer(
            "profile_factor", torch.tensor([1 / (255 * one) for one in profile.std])
        )

    def forward(self, clips: Tensor) -> Tensor:
        normalised = (clips.to(torch.float32) - self.profile_mean) * self.profile_factor
        return self.net(normalised.permute(0, 4, 1, 2, 3))


def facts_of(trained: Trained, config: Config, checkpoint: object) -> dict[str, str]:
    """Return what a file tells about its network, as text; lists and mappings are json.

    Args:
        trained: the network.
        config: its options, with the clip shape of the export.
        checkpoint: its path or name.
    """
    net = trained.net
    profile = net.input_profile.as_dict()
    profile |= {"frames": config.clip_length, "crop": config.clip_size}
    return {
        "network": net.network_name,
        "options": json.dumps(net.build_options),
        "classes": json.dumps([printable(name) for name in trained.classes]),
        "profile": json.dumps(profile),
        "input": INPUT,
        "output": OUTPUT,
        "checkpoint": printable(checkpoint),
    }
