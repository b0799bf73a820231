"""Compare the initialisations of the recurrent layers (--recurrent-init) in short trainings.

srtg_r3d_18 (gates off and on) and mtnet_s are trained from scratch with both initialisations, and
r3d_18, which has no recurrent layers, for comparison. They learn the actions of the demo's rendered
videos. All trainings have the same clips in the same order and the same number of steps, and are
repeated with several seeds. The picture shows training loss and validation accuracy by epoch: a
line for the mean over the seeds, a band for their range.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from data.synthetic import ACTIONS, render
from network import build_network
from train.input_normalisation import normalised

#: Label of a curve in the picture -> (name of the network, options of `build_network`).
CURVES: dict[str, tuple[str, dict]] = {
    "r3d_18": ("r3d_18", {}),
    "srtg_r3d_18 open": ("srtg_r3d_18", {"recurrent_init": "open"}),
    "srtg_r3d_18 default": ("srtg_r3d_18", {"recurrent_init": "default"}),
    "srtg_r3d_18 open, gates": ("srtg_r3d_18", {"recurrent_init": "open", "gates": True}),
    "srtg_r3d_18 default, gates": ("srtg_r3d_18", {"recurrent_init": "default", "gates": True}),
    "mtnet_s open": ("mtnet_s", {"recurrent_init": "open"}),
    "mtnet_s default": ("mtnet_s", {"recurrent_init": "default"}),
}
WARM_UP = 30  # steps in which the learning rate rises to --lr


def measure(args: argparse.Namespace) -> list[dict]:
    """Return a row for each curve, seed and epoch: curve, seed, epoch, loss, top1_percent.

    loss is the mean of the training loss over the steps of the epoch, top1_percent the accuracy on
    the validation clips.
    """
    training = render_clips(args.clips, args, seed=1)
    validation = render_clips(args.validation, args, seed=2)
    rows = []
    for seed in range(args.seeds):
        for curve in args.curves or CURVES:
            rows += train(curve, seed, training, validation, args)
            draw(rows, args.plot)
    return rows


def render_clips(
    count: int, args: argparse.Namespace, *, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Render clips, as many of each action: uint8 (count, 3, frames, size, size), int64 (count,).

    The second tensor has their labels.
    """
    clips, actions = [], list(ACTIONS)
    for number in tqdm(range(count), desc="rendering", unit="clip", disable=None):
        frames = render(actions[number % len(actions)], (seed, number))  # (T, H, W, 3)
        picked = frames[np.linspace(0, len(frames) - 1, args.frames).round().astype(int)]
        sized = [
            cv2.resize(f, (args.size, args.size), interpolation=cv2.INTER_AREA) for f in picked
        ]
        clips.append(np.stack(sized).transpose(3, 0, 1, 2))
    labels = torch.arange(count) % len(actions)
    return torch.from_numpy(np.stack(clips)), labels


def train(
    curve: str, seed: int, training: tuple, validation: tuple, args: argparse.Namespace
) -> list[dict]:
    """Train the network of one curve with one seed; return a row for each epoch."""
    name, options = CURVES[curve]
    torch.manual_seed(seed)
    net = build_network(name, len(ACTIONS), **options)
    epochs, rows = range(1, args.epochs + 1), []
    losses = train_epochs(net, training, epochs, seed, args)
    progress = tqdm(
        losses, desc=f"{curve}, seed {seed}", total=len(epochs), unit="epoch", disable=None
    )
    for epoch, loss in zip(epochs, progress, strict=True):
        top1 = accuracy(net, *validation, args.batch)
        rows.append(
            {"curve": curve, "seed": seed, "epoch": epoch, "loss": loss, "top1_percent": top1}
        )
        progress.set_postfix(loss=f"{loss:.2f}", top1=f"{top1:.0f}%")
    return rows


def train_epochs(
    net: torch.nn.Module, training: tuple, epochs: range, seed: int, args: argparse.Namespace
) -> Iterator[float]:
    """Train with AdamW, a warm-up and a cosine; yield the mean training loss after each epoch."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=args.lr, weight_decay=0.02, fused=True)
    clips, labels = training
    each = len(clips) // args.batch  # steps of an epoch
    for number, epoch in enumerate(epochs):
        losses = []
        order = torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(len(clips)))
        for step, batch in enumerate(order.split(args.batch)[:each], number * each):
            for group in optimiser.param_groups:
                factor = min(1, (step + 1) / WARM_UP) * cosine(step / (each * len(epochs)))
                group["lr"] = args.lr * factor
            loss = F.cross_entropy(net(normalised(net, clips[batch])), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        yield float(np.mean(losses))


def cosine(done: float) -> float:
    """Return the learning rate's factor after a share `done` of the steps: from 1 down to 0."""
    return (1 + math.cos(math.pi * done)) / 2


@torch.no_grad()
def accuracy(net: torch.nn.Module, clips: torch.Tensor, labels: torch.Tensor, batch: int) -> float:
    """Return the percentage of clips whose class is predicted; leave `net` in training mode."""
    net.eval()
    parts = [net(normalised(net, part)).argmax(1) for part in clips.split(batch)]
    net.train()
    return 100 * (torch.cat(parts) == labels).float().mean().item()


def draw(rows: list[dict], path: Path) -> None:
    """Draw loss and accuracy by epoch: a line for the mean over the seeds, a band for the range."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, key in zip(figure.subplots(1, 2), ("loss", "top1_percent"), strict=True):
        for curve in dict.fromkeys(row["curve"] for row in rows):
            own = [row for row in rows if row["curve"] == curve]
            epochs = sorted({row["epoch"] for row in own})
            values = [[row[key] for row in own if row["epoch"] == epoch] for epoch in epochs]
            (line,) = axes.plot(epochs, [np.mean(v) for v in values], marker=".", label=curve)
            low, high = [min(v) for v in values], [max(v) for v in values]
            axes.fill_between(epochs, low, high, alpha=0.15, color=line.get_color())
        axes.set(xlabel="epoch", xticks=epochs, ylabel=key.replace("_percent", ", %"))
        axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
