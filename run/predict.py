"""Predict the actions in videos: `python -m run.predict --checkpoint best.pth clip.mp4 ...`.

Videos are video files, frame stores or folders of both. A short video gets one answer, the mean of
a few clips that are taken as in validation. A video of more than 30 seconds gets a timeline: a clip
every half second, and the segments in which the likeliest class stays the same.

    python -m run.predict --checkpoint best.pth match.mp4 --out predicted/

writes predicted/predictions.json with the answers to all videos, and for each long video

match/segments.csv, match/segments.srt   the segments, also as subtitles
match/timeline.png                       a picture of the scores over time
match/annotated.mp4                      the video with bars of the scores below it
match/scores.csv                         the scores of all classes over time

A video that cannot be used does not stop the others; the exit code is 2 then.

    python -m run.predict --checkpoint best.pth --live 0

prints what the first camera shows now, every half second, until Ctrl-C. Frames that the network has
no time for are dropped.
"""

from __future__ import annotations

import sys
from pathlib import Path

from data.data_error import DataError
from run.command_line import HelpFormatter, Parser, boolean
from run.exit_codes import command
from run.shared_options import add_trained_network, add_video_file, check_checkpoint
from train.option_bounds import Bounds, within


def build_parser() -> Parser:
    """Return the parser of the command's options."""
    parser = Parser(
        prog="python -m run.predict",
        description=__doc__,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "videos", nargs="*", type=Path, help="video files, frame stores, or folders"
    )
    parser.add_argument(
        "--live",
        metavar="SOURCE",
        help="instead of videos: number of a camera, address of a network stream (rtsp, http), or "
        "a file, which is read at the speed at which it would be shown",
    )
    parser.add_argument(
        "--seconds",
        type=within(Bounds(0.1, 1e9), float),
        metavar="SECONDS",
        help="end --live after this time of the stream (default: when it ends, or at Ctrl-C)",
    )
    parser.add_argument(
        "--views",
        type=within(Bounds(1, 1000)),
        default=3,
        help="clips of each video; their predictions are averaged",
    )
    add_video_file(parser)
    parser.add_argument(
        "--top",
        type=within(Bounds(1, 100_000)),
        default=5,
        help="number of classes to print for each video",
    )
    add_timeline(parser)
    add_trained_network(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write predictions.json and the files of long "
        "videos into FOLDER",
    )  # fmt: skip
    parser.add_argument(
        "--film",
        type=boolean,
        nargs="?",
        const=True,
        default=True,
        metavar="True|False",
        help="write annotated.mp4 for each long video",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the answers to FILE, as predictions.json"
    )
    return parser


def add_timeline(parser: Parser) -> None:
    """Add the options of timelines."""
    parser.add_argument(
        "--every",
        type=within(Bounds(0, 3600), float),
        metavar="SECONDS",
        help="make a timeline, with a clip every SECONDS, at most one for each frame; 0: none "
        "(default: 0.5 for videos of more than 30 seconds, none for others); with --live, the "
        "least time between two answers, by default 0.5",
    )
    parser.add_argument(
        "--smoothing",
        type=within(Bounds(0, 60), float),
        default=1.0,
        metavar="SECONDS",
        help="standard deviation of the Gaussian that smooths the scores of a timeline; 0: none",
    )
    parser.add_argument(
        "--threshold",
        type=within(Bounds(0, 1), float),
        default=0.5,
        help="segments in which no class reaches this score are unknown",
    )


def main(argv: list[str] | None = None) -> None:
    """Print the most likely classes of each video, or an error for it.

    Raises:
        TrainError, NetworkError: the checkpoint cannot be used.
        DataError: a video could not be predicted. All others are predicted first.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    if bool(args.videos) == (args.live is not None):
        parser.error("give either videos or --live SOURCE")
    if args.seconds and args.live is None:
        parser.error("--seconds needs --live")
    given = str(args.videos[0]) if len(args.videos) == 1 else ""
    if (":/" in given or given.isdecimal()) and not Path(given).exists():  # Path turns :// into :/
        parser.error(f"{given}: is no file; for a camera or network stream add --live")
    check_checkpoint(args.checkpoint)
    for folder in (args.out, args.json and args.json.absolute().parent):
        if folder and folder.exists() and not folder.is_dir():
            raise DataError(f"{folder}: is no folder")
    if args.json and not args.json.absolute().parent.is_dir():
        raise DataError(f"{args.json}: there is no folder {args.json.absolute().parent}")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    if args.live is None:
        from run.prediction import predict_videos  # imports torch

        predict_videos(args)
    else:
        from run.live_prediction import predict_live  # imports torch

        predict_live(args)


if __name__ == "__main__":
    sys.exit(command(main))
