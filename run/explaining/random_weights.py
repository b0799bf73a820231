"""The control of a heat map: the same map from networks whose weights are random.

A method whose map hardly changes when the weights are random shows edges and motion of the clip and
not what the network has learnt (Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018,
arXiv 1810.03292).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from network.layers import initialise
from network.recurrent import initialise_recurrent

SEED = 1_000_003  # far from the seeds of training runs, which also begin by drawing weights


@torch.no_grad()
def randomised(net: nn.Module, seed: int) -> nn.Module:
    """Return a copy of the network, on its device, with all weights drawn anew.

    Weights are drawn as for training from scratch, running statistics of norms start again, and
    parameters of other layers, such as a class token, are shuffled.
    """
    device = next(net.parameters()).device
    drawn = copy.deepcopy(net).cpu()
    with torch.random.fork_rng():
        torch.manual_seed(SEED + seed)
        for module in drawn.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
                continue
            for parameter in module.parameters(recurse=False):
                shuffled = parameter.flatten()[torch.randperm(parameter.numel())]
                parameter.copy_(shuffled.view_as(parameter))
        initialise(drawn)
        initialise_recurrent(drawn, "open")
    return drawn.to(device)


def rank_correlation(one: Tensor, other: Tensor) -> float | None:
    """Return Spearman's rank correlation of two maps of one shape, None if one is constant."""
    from scipy.stats import spearmanr  # takes a second to import

    a, b = (each.flatten().double().cpu().numpy() for each in (one, other))
    if a.min() == a.max() or b.min() == b.max():
        return None
    return float(spearmanr(a, b).statistic)
