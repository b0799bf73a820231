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
    add_trained_network,
    boolean,
    check_checkpoint,
    command,
)
from train.config import Config, bounds_of
from train.option_bounds import Bounds, within

ORDERS = ("forward", "reversed", "shuffled")
VIEWS = Bounds(1, 1000)


def build_parser() -> Parser:
    """Return the parser of the command's options."""
    parser = Parser(
        prog="python -m run.evaluate", description=__doc__, formatter_class=HelpFormatter
    )
    parser.add_argument("--dataset", required=True, help="the folder that holds jpg/")
    parser.add_argument("--labels", help="label csv of the training videos, or its folder")
    parser.add_argument(
        "--split",
        type=within(bounds_of("split")),
        help="number of the official split (default: the split of the training)",
    )
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
        "--clip-fps",
        type=within(bounds_of("clip_fps"), float),
        help="frames per second of a clip, instead of the checkpoint's frame rate or interval",
    )
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
        "--order", choices=(*ORDERS, "all"), default="forward", help="order of the frames in a clip"
    )
    parser.add_argument(
        "--skip-bad", type=boolean, nargs="?", const=True, default=False, metavar="True|False",
        help="leave out rows and videos that cannot be used, and list them",
    )  # fmt: skip
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
