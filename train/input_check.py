"""Check that everything that the options name exists, before torch is imported."""

from __future__ import annotations

from pathlib import Path

from data.annotations.splits import find_csv
from data.annotations.video_folders import frames_root
from data.augment.presets import check_pipeline
from data.dataset_defaults import dataset_spec
from network.pretrained.sources import check_source_name, is_source_name
from network.registry import find_builder
from train.config import Config
from train.train_errors import TrainError


def check_inputs(config: Config) -> None:
    """Check the names that the options give, the dataset's folder and its label csvs.

    Nothing is read: opening the dataset can take minutes.

    Raises:
        TrainError, DataError, NetworkError: something does not exist.
    """
    check_names(config)
    frames_root(Path(config.dataset))
    spec = dataset_spec(config.benchmark, config.variant)
    for part in ("train", "val"):
        find_csv(spec, Path(config.dataset), part, labels=config.labels, split=config.split)


def check_names(config: Config, *, reads_weights: bool = True) -> None:
    """Check the augmentation, the network and, if this process reads it, the weights file.

    Raises:
        TrainError, DataError, NetworkError: something does not exist.
    """
    check_pipeline(config.augmentation)
    find_builder(config.network)
    if config.pretrained_3d and reads_weights:
        check_weights(config.pretrained_3d)


def check_weights(source: str) -> None:
    """Check that `--pretrained-3d` names a file or one of the sources of pretrained weights.

    Raises:
        TrainError, NetworkError: it does not.
    """
    if Path(source).is_file():
        return
    if not is_source_name(source):
        raise TrainError(
            f"--pretrained-3d {source}: there is no such file (python -m run.networks --pretrained "
            "lists the weights that can be given by name)"
        )
    check_source_name(source)
