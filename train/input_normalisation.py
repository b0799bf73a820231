"""Normalise clips as the input profile of a network says."""

from __future__ import annotations

import torch
from torch import nn

from data.clips.clip_dataset import normalise
from network.input_profile import profile_of


def normalised(
    net: nn.Module, clips: torch.Tensor, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Normalise uint8 clips (B, 3, T, H, W) for `net`, which may be wrapped for several devices."""
    profile = profile_of(net)
    return normalise(clips, profile.mean, profile.std, dtype)
