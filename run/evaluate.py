"""Score a checkpoint on validation videos: top-1, top-5, loss, each class, confusion matrix.

`python -m run.evaluate --checkpoint best.pth --dataset FOLDER [--order all]` takes the network and
the clip shape from the checkpoint. `--order all` also scores the same clips with their frames
reversed and shuffled: the accuracy that is left then does not come from motion.
"""

from __future__ import annotations

import sys
from pathlib import Path

from data.annotations.video_folders import frames_root
from run.command_line import (
    HelpFormatter,
    Parser,
    add_dataset_to_score,
    add_trained_network,
    check_checkpoint,
    command,
)
from train.config import bounds_of
from train.option_bounds import Bounds, within

ORDERS = ("forward", "reversed", "shuffled")
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
        help="clips of each video; their predictions are averaged",
    )
    for name, what in (("clip_length", "frames"), ("clip_size", "height and width")):
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=within(bounds_of(name)),
            help=f"{what} of a clip (default: as in training)",
        )
    parser.add_argument(
        "--order", choices=(*ORDERS, "all"), default="forward", help="order of the frames in a clip"
    )
    add_trained_network(parser)
    parser.add_argument("--out", type=Path, help="folder for confusion.png and "
                        "classes.csv (default: the folder of the checkpoint)")  # fmt: skip
    return parser


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    """Score, print and draw. Returns the scores for each order of the frames.

    Raises:
        TrainError, NetworkError: the checkpoint cannot be used.
        DataError: the dataset cannot be used.
    """
    args = build_parser().parse_args(argv)
    check_checkpoint(args.checkpoint)
    frames_root(Path(args.dataset))
    from run.evaluation_report import evaluate_checkpoint  # imports torch

    return evaluate_checkpoint(args, ORDERS if args.order == "all" else (args.order,))


if __name__ == "__main__":
    sys.exit(command(main))
