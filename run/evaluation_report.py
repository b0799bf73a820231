"""Score a trained network on a validation split, print the scores and draw the confusion matrix."""

from __future__ import annotations

import argparse
import csv
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.clips.loader import Batch
from run.command_line import folder_beside
from run.dataset_clips import open_dataset_clips, with_class_names
from run.trained_network import Trained, open_checkpoint
from run.worker_pool import printable
from train.devices import open_devices
from train.evaluation import evaluate

log = logging.getLogger(__name__)

LABELLED = 40  # classes up to which the confusion matrix names them


def reordered(batches: Iterable[Batch], order: str, seed: int = 0) -> Iterator[Batch]:
    """Yield the batches with the frames of each clip in `order`: forward, reversed or shuffled.

    The random order of a shuffled clip depends on (seed, index of its video).
    """
    for batch in batches:
        frames = batch.clips.shape[2]
        if order == "reversed":
            batch = batch._replace(clips=batch.clips.flip(2))
        elif order == "shuffled":
            orders = [
                np.random.default_rng((seed, index)).permutation(frames)
                for index in batch.indices.tolist()
            ]
            shuffled = [clip[:, at] for clip, at in zip(batch.clips, orders, strict=True)]
            batch = batch._replace(clips=torch.stack(shuffled))
        yield batch


def confusion_matrix(predicted: Tensor, labels: Tensor, n_classes: int) -> np.ndarray:
    """Count the clips by label (row) and predicted class (column): int64 (classes, classes)."""
    cells = torch.bincount(labels * n_classes + predicted, minlength=n_classes**2)
    return cells.reshape(n_classes, n_classes).numpy()


def draw_confusion(matrix: np.ndarray, classes: tuple[str, ...], title: str, path: Path) -> None:
    """Draw the confusion matrix, each row divided by its sum, into the picture file `path`."""
    from matplotlib.figure import Figure

    side = min(14.0, 3.5 + 0.45 * len(classes))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axis = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the clips of the class", shrink=0.8)
    axis.set(title=title, xlabel="predicted", ylabel="label")
    if len(classes) <= LABELLED:
        names = [printable(name) for name in classes]
        axis.set_xticks(range(len(names)), names, rotation=60, ha="right", parse_math=False)
        axis.set_yticks(range(len(names)), names, parse_math=False)
        for row, column in np.argwhere(matrix > 0):
            colour = "white" if shares[row, column] > 0.5 else "black"
            count = str(matrix[row, column])
            axis.text(column, row, count, ha="center", va="center", color=colour, fontsize=8)
    figure.savefig(path, dpi=110)


def evaluate_checkpoint(
    args: argparse.Namespace, orders: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Score the checkpoint for each order of the frames; draw the first order's confusion matrix.

    Args:
        args: the options of `run.evaluate`.
        orders: orders of the frames, of `run.evaluate.ORDERS`.

    Returns:
        By order: top1 and top5 in percent, mean loss, number of clips.
    """
    with open_devices(args.gpus, args.precision, most=1) as devices:
        trained = with_class_names(open_checkpoint(args.checkpoint, devices), args)
        # the --skip-bad in the checkpoint was about the videos of its training
        config = replace(
            trained.with_shape(args.clip_length, args.clip_size, args.clip_fps),
            skip_bad=args.skip_bad,
        )
        clips, loader = open_dataset_clips(args, config, "val", classes=trained.classes)
        videos = clips.videos
        results = {}
        for order in orders:
            results[order], labels, predicted, *_ = evaluate(
                trained.net, reordered(loader, order), devices, videos, title=order
            )
            if order == orders[0]:
                matrix = confusion_matrix(predicted, labels, len(trained.classes))
                _write(args.out or folder_beside(args.checkpoint), trained, matrix, results[order])
    print(f"{len(videos)} videos, {len(trained.classes)} classes, {args.checkpoint}")
    for order, scores in results.items():
        if scores["clips"] < len(videos):
            print(f"only {scores['clips']:.0f} of the videos can be read and are scored")
        print(
            f"{order:9} top1 {scores['top1']:6.2f} %  top5 {scores['top5']:6.2f} %  "
            f"loss {scores['loss']:.4f}"
        )
    return results


def _write(folder: Path, trained: Trained, matrix: np.ndarray, scores: dict[str, float]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    title = f"{trained.config.network}: top-1 {scores['top1']:.1f} %"
    draw_confusion(matrix, trained.classes, title, folder / "confusion.png")
    path = folder / "classes.csv"
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("Class", "Clips", "Top1"))
        for name, row, hits in zip(trained.classes, matrix, matrix.diagonal(), strict=True):
            clips = row.sum()
            writer.writerow((name, clips, f"{100 * hits / clips:.2f}" if clips else ""))
    log.info("confusion.png and classes.csv are in %s", folder)
