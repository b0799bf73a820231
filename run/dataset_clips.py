"""The clips of a dataset on which a command runs a trained network."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from data.annotations.label_csv import load_labels
from data.annotations.splits import find_csv, open_split
from data.clips.clip_dataset import ClipDataset
from data.clips.loader import Batch, validation_loader
from data.data_error import DataError
from data.dataset_defaults import dataset_spec
from run.trained_network import Trained
from train.config import Config
from train.setup import clip_options, with_usable_rate

log = logging.getLogger(__name__)


def with_class_names(trained: Trained, args: argparse.Namespace) -> Trained:
    """Return the network with the names of its classes.

    If its weights do not name them, they are the classes of the training labels, in their order.

    Raises:
        DataError: the training labels cannot be used, or have another number of classes.
    """
    if trained.names_classes:
        return trained
    config = trained.config
    spec = dataset_spec(config.benchmark, config.variant)
    path = find_csv(
        spec,
        Path(args.dataset),
        "train",
        labels=args.labels,
        split=args.split or config.split,
        other_names=True,
    )
    classes = load_labels(path).classes
    number = len(trained.classes)
    if len(classes) != number:
        raise DataError(
            f"{path}: has {len(classes)} classes, but {args.checkpoint} has {number}, without "
            "their names: give the training labels of its own classes by --labels"
        )
    log.info(
        "%s does not name its classes: they are those of %s, in this order", args.checkpoint, path
    )
    return replace(trained, classes=classes, names_classes=True)


def open_dataset_clips(
    args: argparse.Namespace,
    config: Config,
    part: str,
    *,
    classes: tuple[str, ...] | None = None,
    crops: int = 1,
) -> tuple[ClipDataset, Iterable[Batch]]:
    """Return the clips of one part of a dataset, and the loader of their batches.

    Args:
        args: the options of `run.command_line.add_dataset_to_score`, and `views`.
        config: of the trained network, with the clip shape and `skip_bad` of this command.
        part: "train" or "val".
        classes: the classes that the labels must be of; by default those of the label csv.
        crops: of each view.

    Raises:
        DataError: the dataset cannot be used.
    """
    spec = dataset_spec(config.benchmark, config.variant)
    videos = open_split(
        spec,
        args.dataset,
        part,
        labels=args.labels,
        split=args.split or config.split,
        classes=classes,
        skip_bad=config.skip_bad,
        other_names=True,
    )
    config = with_usable_rate(config, videos)
    options = clip_options(config, spec, training=False)
    clips = ClipDataset(videos, options, training=False, seed=config.random_seed)
    loader = validation_loader(
        clips,
        args.batch_size,
        config.clip_length,
        config.clip_size,
        workers=args.workers,
        timeout=args.batch_timeout,
        views=args.views,
        crops=crops,
    )
    return clips, loader
