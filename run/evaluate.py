"""Score a checkpoint on validation videos: accuracy, F1, each class, confusion matrix, mistakes.

    python -m run.evaluate --checkpoint best.pth --dataset FOLDER --views 10 --crops 3 --order all

takes the network and the clip shape from the checkpoint, and writes into a folder that is named
after the protocol:

card.md, card.json   what was scored, how, on which data, and the scores with 95 % intervals
predictions.csv      label, likeliest classes and their probabilities of every video
classes.csv          accuracy with its interval, precision and F1 of every class
confusion.png        the confusion matrix
mistakes.png         the most confidently wrong predictions as film strips
views.csv, .png      the accuracy with fewer views and crops (with --views or --crops)
time_probe.csv, .png the accuracy without the order of the frames (with --order all)
logits.npz           the logits of every clip (with --save-logits)

The time probe also scores the clips with their frames reversed, shuffled, replaced by one of them,
and as a clip of a single frame: the accuracy that is left then does not come from motion.
"""

from __future__ import annotations

import sys
from pathlib import Path

from data.annotations.video_folders import frames_root
from run.command_line import HelpFormatter, Parser
from run.exit_codes import command
from run.shared_options import (
    add_clip_shape,
    add_dataset_to_score,
    add_trained_network,
    check_checkpoint,
)
from train.config import bounds_of
from train.option_bounds import Bounds, within

ORDERS = ("forward", "reversed", "shuffled", "first", "centre", "single")
VIEWS = Bounds(1, 1000)


def build_parser() -> Parser:
    """Return the parser of the command's options."""
    parser = Parser(
        prog="python -m run.evaluate", description=__doc__, formatter_class=HelpFormatter
    )
    add_dataset_to_score(parser)
    parser.add_argument(
        "--views",
        type=within(VIEWS),
        default=1,
        help="clips of each video, spread over it; their probabilities are averaged",
    )
    parser.add_argument(
        "--crops",
        type=int,
        choices=(1, 3),
        default=1,
        help="crops of each clip: 1, in the centre, or 3 along the longer side of the frames",
    )
    add_clip_shape(parser)
    parser.add_argument(
        "--crop-share",
        type=within(bounds_of("crop_share"), float),
        help="side of a crop relative to the frame's short side; 1 shows all of it (default: as in "
        "training)",
    )
    parser.add_argument(
        "--order",
        choices=(*ORDERS, "all"),
        default="forward",
        help="order of the frames in a clip; first and centre repeat one frame, single is a clip "
        "of one frame; all: frames in order, and the time probe",
    )
    parser.add_argument(
        "--save-logits", action="store_true", help="write the logits of every clip to logits.npz"
    )
    add_trained_network(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="where to make the folder of the protocol (default: evaluation/ beside the "
        "checkpoint)",
    )
    return parser


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    """Score, print, write and draw. Returns the scores for each order of the frames.

    Raises:
        TrainError, NetworkError: the checkpoint cannot be used.
        DataError: the dataset cannot be used.
    """
    words = sys.argv[1:] if argv is None else argv
    args = build_parser().parse_args(words)
    check_checkpoint(args.checkpoint)
    frames_root(Path(args.dataset))
    from run.evaluation.evaluation import evaluate_checkpoint  # imports torch

    return evaluate_checkpoint(args, ORDERS if args.order == "all" else (args.order,), words)


if __name__ == "__main__":
    sys.exit(command(main))
