"""Options that several commands have, and what is checked of them before torch is imported."""

from __future__ import annotations

import argparse
from pathlib import Path

from network.pretrained.sources import check_source_name, is_source_name
from run.command_line import BOOLEAN, Parser
from train.config import Config, bounds_of
from train.option_bounds import Bounds, within
from train.train_errors import TrainError


def add_clip_rate(parser: argparse.ArgumentParser) -> None:
    """Add the option of the frame rate at which a trained network sees a video."""
    parser.add_argument(
        "--clip-fps",
        type=within(bounds_of("clip_fps"), float),
        help="frames per second of a clip, instead of the checkpoint's frame rate or interval",
    )


def add_clip_shape(parser: argparse.ArgumentParser, *, where: str = "") -> None:
    """Add the options for another clip shape than that of the training.

    Args:
        parser: takes --clip-length and --clip-size.
        where: words for the help texts, in which case they have an effect.
    """
    for name, what in (("clip_length", "frames"), ("clip_size", "height and width")):
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=within(bounds_of(name)),
            help=f"{what} of a clip{where} (default: as in training)",
        )


def add_video_file(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that take clips from video files."""
    add_clip_rate(parser)
    parser.add_argument(
        "--short-side",
        type=within(Bounds(16, 4096)),
        default=256,
        help="short side to which the frames of video files are resized, in pixels",
    )


def add_gpus(parser: argparse.ArgumentParser) -> None:
    """Add the option that chooses between GPU and CPU."""
    parser.add_argument(
        "--gpus",
        type=within(bounds_of("gpus")),
        help="number of GPUs; 0: the CPU (default: one GPU if there is one)",
    )


def add_dataset_to_score(parser: argparse.ArgumentParser) -> None:
    """Add the options of the commands that run a trained network on a dataset."""
    parser.add_argument("--dataset", required=True, help="the folder that holds jpg/")
    parser.add_argument("--labels", help="label csv of the training videos, or its folder")
    parser.add_argument(
        "--split",
        type=within(bounds_of("split")),
        help="number of the official split (default: the split of the training)",
    )
    add_clip_rate(parser)
    parser.add_argument(
        "--batch-size", type=within(bounds_of("batch_size")), default=16, help="clips in a batch"
    )
    parser.add_argument(
        "--workers", type=within(bounds_of("workers")), default=1, help="processes that load clips"
    )
    parser.add_argument(
        "--batch-timeout",
        type=within(bounds_of("batch_timeout"), float),
        default=Config.batch_timeout,
        help="seconds to wait for a batch; 0: no limit",
    )
    parser.add_argument(
        "--skip-bad",
        **BOOLEAN,
        default=False,
        help="leave out rows and videos that cannot be used, and list them",
    )


def add_checkpoint(parser: Parser) -> None:
    """Add the option that names a trained network."""
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        metavar="FILE",
        help="checkpoint of the network; or pretrained weights: a file of another project, or a "
        "name that python -m run.networks --pretrained lists",
    )


def add_trained_network(parser: Parser) -> None:
    """Add the options of a command that opens a trained network."""
    add_checkpoint(parser)
    add_gpus(parser)
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16"),
        default="auto",
        help="number format; auto: mixed precision on a GPU, fp32 on the CPU",
    )


def check_checkpoint(checkpoint: Path) -> None:
    """Check that `--checkpoint` is a file or the name of pretrained weights.

    Raises:
        TrainError, NetworkError: it is neither.
    """
    if checkpoint.is_file():
        return
    if not is_source_name(str(checkpoint)):
        raise TrainError(f"{checkpoint}: there is no such file")
    check_source_name(str(checkpoint))


def folder_beside(checkpoint: Path) -> Path:
    """Return where files about a network are written by default: in the folder of its checkpoint.

    For pretrained weights that are given by name it is `results/pretrained/<name>`.
    """
    if is_source_name(str(checkpoint)) and not checkpoint.exists():
        return Path("results", "pretrained", str(checkpoint).replace(":", "_"))
    return checkpoint.parent
