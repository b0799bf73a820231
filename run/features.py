"""Write a layer's features of each video of a dataset, and find the videos nearest to one.

    python -m run.features --checkpoint best.pth --dataset FOLDER --neighbours v_Archery_g01_c01

writes into one folder:

features.npz       features float32 (clips, C), ids, labels, classes, start and end in seconds
neighbours_*.png   film strips of a video and of the videos nearest to it
neighbours.json    the same as text

features.npz opens with numpy.load and needs no pickle. Views of a video are rows of their own.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from data.annotations.video_folders import frames_root
from run.command_line import Parser
from run.exit_codes import command
from run.shared_options import (
    add_dataset_to_score,
    add_trained_network,
    check_checkpoint,
    folder_beside,
)
from train.option_bounds import Bounds, within

if TYPE_CHECKING:
    import numpy as np


def build_parser() -> Parser:
    """Return the parser of the command's options."""
    parser = Parser(prog="python -m run.features", description=__doc__)
    add_dataset_to_score(parser)
    parser.add_argument(
        "--part", choices=("train", "val"), default="val", help="training or validation videos"
    )
    parser.add_argument(
        "--layer",
        metavar="NAME",
        help="any layer, such as layer3; its output is averaged over space and time (default: what "
        "the classifier gets)",
    )
    parser.add_argument(
        "--neighbours",
        nargs="+",
        default=[],
        metavar="VIDEO",
        help="ids of videos of the dataset, video files or frame stores: draw the videos nearest "
        "to them",
    )
    parser.add_argument(
        "--count",
        type=within(Bounds(1, 50)),
        default=5,
        help="neighbours of each video",
    )
    parser.add_argument(
        "--views",
        type=within(Bounds(1, 1000)),
        default=1,
        help="clips of each video, spread over it; a single one is in its centre",
    )
    add_trained_network(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="where to write (default: features/<name of the dataset> beside the checkpoint)",
    )
    return parser


def main(argv: list[str] | None = None) -> dict[str, np.ndarray]:
    """Compute and write the features, return the arrays of features.npz.

    Raises:
        TrainError, NetworkError: the checkpoint cannot be used, or there is no such layer.
        DataError: the dataset cannot be used, or there is no such video.
    """
    args = build_parser().parse_args(argv)
    check_checkpoint(args.checkpoint)
    frames_root(Path(args.dataset))
    if args.out is None:
        args.out = folder_beside(args.checkpoint) / "features" / Path(args.dataset).absolute().name
    from run.feature_files import write_features  # imports torch

    return write_features(args)


if __name__ == "__main__":
    sys.exit(command(main))
