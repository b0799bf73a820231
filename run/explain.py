"""Show where a network looks in a clip: heat maps, the frames that matter, and a control.

    python -m run.explain --checkpoint best.pth clip.mp4

writes into one folder:

explanation.mp4   the clip beside Grad-CAM, Saliency Tubes and the control
film_strip.png    the same as a picture
occlusion.png     how much the class's score falls without each frame
gates.png         what each SRTG block multiplies each moment by (srtg_ networks)
explanation.json  all of it in numbers

The control is Grad-CAM of the same network with random weights. If a heat map looks like the
control, it does not show what the network has learnt.
"""

from __future__ import annotations

import sys
from pathlib import Path

from run.command_line import Parser
from run.exit_codes import command
from run.shared_options import (
    add_checkpoint,
    add_gpus,
    add_video_file,
    check_checkpoint,
    folder_beside,
)
from train.option_bounds import Bounds, within


def build_parser() -> Parser:
    """Return the parser of the command's options."""
    parser = Parser(prog="python -m run.explain", description=__doc__)
    parser.add_argument("video", type=Path, help="a video file or a frame store's folder")
    add_checkpoint(parser)
    parser.add_argument(
        "--class", dest="class_name", metavar="NAME", help="explain this class (default: the "
        "likeliest one)",
    )  # fmt: skip
    parser.add_argument(
        "--layer",
        metavar="NAME",
        help="layer for Grad-CAM, such as layer3 or layer4.0.conv1 (default: the last residual "
        "stage with at least 2 frames and 3 x 3 positions, in other networks the last layer with "
        "positions)",
    )
    parser.add_argument(
        "--random-networks",
        type=within(Bounds(1, 1000)),
        default=5,
        metavar="N",
        help="networks with random weights for the control",
    )
    parser.add_argument(
        "--start",
        type=within(Bounds(0, 1_000_000), float),
        metavar="SECONDS",
        help="where in the video the clip starts (default: the clip is in the centre)",
    )
    add_video_file(parser)
    add_gpus(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="where to write (default: explained/<name of the video> beside the checkpoint)",
    )
    return parser


def main(argv: list[str] | None = None) -> dict[str, object]:
    """Explain one clip, write the files, return the values of the json.

    Raises:
        TrainError, NetworkError: the checkpoint cannot be used, or there is no such layer or class.
        DataError: the video cannot be used.
    """
    args = build_parser().parse_args(argv)
    check_checkpoint(args.checkpoint)
    if args.out is None:
        args.out = folder_beside(args.checkpoint) / "explained" / args.video.absolute().stem
    from run.explaining.explanation import explain_video  # imports torch

    return explain_video(args)


if __name__ == "__main__":
    sys.exit(command(main))
