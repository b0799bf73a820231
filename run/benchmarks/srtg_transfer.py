"""Train a pretrained network on new classes, with and without SRTG blocks added to it.

r3d_18 is trained on half of the rendered actions first. Then it is trained on the other half, with
several seeds: as it is, and with SRTG blocks whose weight alpha starts at 0, so that both start as
the same function. The rows are of the second training.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn

from data.synthetic import ACTIONS
from network import build_network, load_weights
from run.benchmarks.recurrent_start import accuracy, render_clips, train_epochs

#: Label of a row -> (network, options).
CONTENDERS: dict[str, tuple[str, dict]] = {
    "r3d_18": ("r3d_18", {}),
    "srtg_r3d_18, alpha 0": ("srtg_r3d_18", {"srtg_alpha": 0.0}),
}


def measure(args: argparse.Namespace) -> list[dict]:
    """Return a row for each contender and seed: accuracy before and after, alpha afterwards."""
    half = len(ACTIONS) // 2
    training, validation = (
        [select(render_clips(count, args, seed=seed), first, half) for first in (0, half)]
        for count, seed in ((args.clips, 1), (args.validation, 2))
    )
    torch.manual_seed(0)
    plain = build_network("r3d_18", half)
    for _ in train_epochs(plain, training[0], range(args.pretraining_epochs), 0, args):
        pass
    before = accuracy(plain, *validation[0], args.batch)
    rows = []
    for seed in range(args.seeds):
        for label, (name, options) in CONTENDERS.items():
            torch.manual_seed(seed)
            head = nn.Linear(plain.fc.in_features, half)
            net = build_network(name, half, **options)
            load_weights(net, plain.state_dict())
            net.fc.load_state_dict(head.state_dict())  # the same for all contenders
            *_, loss = train_epochs(net, training[1], range(args.epochs), seed, args)
            alphas = [value for key, value in net.state_dict().items() if key.endswith(".alpha")]
            rows.append(
                {
                    "network": label,
                    "seed": seed,
                    "pretraining_top1_percent": before,
                    "loss": loss,
                    "top1_percent": accuracy(net, *validation[1], args.batch),
                    "mean_abs_alpha": float(torch.stack(alphas).abs().mean()) if alphas else 0.0,
                }
            )
    return rows


def select(
    rendered: tuple[torch.Tensor, torch.Tensor], first: int, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the clips of `count` actions from the `first` on, with labels from 0."""
    clips, labels = rendered
    chosen = (labels >= first) & (labels < first + count)
    return clips[chosen], labels[chosen] - first
