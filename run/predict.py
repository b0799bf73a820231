"""Predict the actions in videos: `python -m run.predict --checkpoint best.pth clip.mp4 ...`.

Videos are video files, frame stores or folders of both. Clips are taken from them as in validation.
"""

from __future__ import annotations

import sys
from pathlib import Path

from run.command_line import HelpFormatter, Parser, add_trained_network, check_checkpoint, command
from train.config import bounds_of
from train.option_bounds import Bounds, within


def build_parser() -> Parser:
    """Return the parser of the command's options."""
    parser = Parser(
        prog="python -m run.predict",
        description=__doc__,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "videos", nargs="+", type=Path, help="video files, frame stores, or folders"
    )
    parser.add_argument(
        "--views",
        type=within(Bounds(1, 1000)),
        default=3,
        help="clips of each video; their predictions are averaged",
    )
    parser.add_argument(
        "--clip-fps",
        type=within(bounds_of("clip_fps"), float),
        help="frames per second of a clip, instead of the checkpoint's frame rate or interval",
    )
    parser.add_argument(
        "--top",
        type=within(Bounds(1, 100_000)),
        default=5,
        help="number of classes to print for each video",
    )
    parser.add_argument(
        "--short-side",
        type=within(Bounds(16, 4096)),
        default=256,
        help="short side to which the frames of video files are resized, in pixels",
    )
    add_trained_network(parser)
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the probabilities of all classes to FILE"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Print the most likely classes of each video, or an error for it.

    Raises:
        TrainError, NetworkError: the checkpoint cannot be used.
        DataError: a video could not be predicted. All others are predicted first.
    """
    args = build_parser().parse_args(argv)
    check_checkpoint(args.checkpoint)
    from run.prediction import predict_videos  # imports torch

    predict_videos(args)


if __name__ == "__main__":
    sys.exit(command(main))
