"""Find the classifier of a network: the last layer with weights, which gives the logits."""

from __future__ import annotations

from torch import nn


def classifier_name(net: nn.Module) -> str:
    """Return the name of the last linear layer or convolution, in the order of registration.

    In this project's networks it is `fc`; in torchvision's it is `fc`, `head`, `head.1` or
    `classifier.1`, which is a convolution.
    """
    names = [
        name for name, module in net.named_modules() if isinstance(module, nn.Linear | nn.Conv3d)
    ]
    return names[-1] if names else ""
