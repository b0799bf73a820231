"""The clips of a dataset on which a command runs a trained network."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from data.annotations.splits import open_split
from data.clips.clip_dataset import ClipDataset
from data.clips.loader import Batch, validation_loader
from data.dataset_defaults import dataset_spec
from train.config import Config
from train.setup import check_rate, clip_options


def open_dataset_clips(
    args: argparse.Namespace,
    config: Config,
    part: str,
    *,
    classes: tuple[str, ...] | None = None,
) -> tuple[ClipDataset, Iterable[Batch]]:
    """Return the clips of one part of a dataset, and the loader of their batches.

    Args:
        args: the options of `run.command_line.add_dataset_to_score`, and `views`.
        config: of the trained network, with the clip shape and `skip_bad` of this command.
        part: "train" or "val".
        classes: the classes that the labels must be of; by default those of the label csv.

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
    if config.clip_fps:
        check_rate(videos)
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
    )
    return clips, loader
