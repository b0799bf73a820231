"""Score a checkpoint on a validation split: top-1, top-5, loss, each class, confusion matrix.

`python -m run.evaluate --checkpoint best.pth --dataset FOLDER [--order all]` takes the network and
the clip shape from the checkpoint. `--order` also scores the same clips with their frames reversed
or shuffled: the accuracy that remains then does not come from motion.
"""

from __future__ import annotations

import sys
from pathlib import Path

from data.annotations.video_folders import frames_root
from run.command_line import Parser, boolean, check_checkpoint, command
from train.config import Config, bounds_of
from train.option_bounds import Bounds, within

ORDERS = ("forward", "reversed", "shuffled")
VIEWS = Bounds(1, 1000)


def build_parser() -> Parser:
    """Return the parser of the command's options."""
    parser = Parser(prog="python -m run.evaluate", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE")
    parser.add_argument("--dataset", required=True, help="the folder that holds jpg/")
    parser.add_argument("--labels", help="folder of label csvs, or the train csv")
    parser.add_argument(
        "--split", type=within(bounds_of("split")), help="default: the checkpoint's"
    )
    parser.add_argument(
        "--views",
        type=within(VIEWS),
        default=1,
        help="clips of a video that are averaged (default 1)",
    )
    for name in ("clip_length", "clip_size"):
        flag, type_ = f"--{name.replace('_', '-')}", within(bounds_of(name))
        parser.add_argument(flag, type=type_, help="default: the checkpoint's")
    parser.add_argument(
        "--clip-fps",
        type=within(bounds_of("clip_fps"), float),
        help="frames per second of a clip, instead of the checkpoint's frame rate or interval",
    )
    parser.add_argument("--batch-size", type=within(bounds_of("batch_size")), default=16)
    parser.add_argument("--workers", type=within(bounds_of("workers")), default=1)
    parser.add_argument(
        "--batch-timeout",
        type=within(bounds_of("batch_timeout"), float),
        default=Config.batch_timeout,
        help="seconds to wait for a batch (0: without limit; default %(default)g)",
    )
    parser.add_argument("--order", choices=(*ORDERS, "all"), default="forward")
    parser.add_argument(
        "--skip-bad", type=boolean, nargs="?", const=True, default=False, metavar="True|False",
        help="go on without rows and videos that cannot be used; count and list them",
    )  # fmt: skip
    parser.add_argument(
        "--gpus",
        type=within(bounds_of("gpus")),
        help="0 is the CPU (default: one GPU if there is one)",
    )
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    parser.add_argument("--out", type=Path, help="folder for confusion.png and classes.csv "
                        "(default: the checkpoint's)")  # fmt: skip
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
