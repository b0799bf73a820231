"""List the networks: `python -m run.networks [NAME ...] [--clip-length 16] [--clip-size 224]`.

The table has the parameters in millions, the multiply-accumulates of one clip in billions (of
convolutions, linear and recurrent layers), and the top-1 and top-5 accuracy on HACS that the
authors published for their checkpoints. With --clip-length, --clip-size or --classes the figures
are computed, which takes a few seconds for each network: name those that you want to know about.
"""

from __future__ import annotations

import sys

from network.figures import CLASSES, FRAMES, SIZE, compute_figures, read_figures
from network.registry import find_builder, list_networks
from run.benchmark import as_table
from run.command_line import HelpFormatter, Parser, command
from train.config import bounds_of
from train.option_bounds import Bounds, within

#: Top-1 / top-5 accuracy in percent on HACS with 16 frames, as published by the authors.
PUBLISHED_ON_HACS = {
    "srtg_r3d_34": "78.60 / 93.57",
    "srtg_r3d_50": "80.36 / 95.55",
    "srtg_r3d_101": "81.66 / 96.33",
    "srtg_r2plus1d_50": "83.77 / 96.56",
    "srtg_r2plus1d_101": "84.33 / 96.85",
    "mtnet_s": "80.71 / 95.18",
    "mtnet_m": "83.45 / 95.87",
    "mtnet_l": "86.57 / 96.66",
}


def build_parser() -> Parser:
    """Return the parser of the command's options."""
    parser = Parser(
        prog="python -m run.networks",
        description=__doc__,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks (default: all)")
    for flag, name, default, help in (
        ("--clip-length", "clip_length", FRAMES, "frames of a clip"),
        ("--clip-size", "clip_size", SIZE, "height and width of a clip, in pixels"),
    ):
        parser.add_argument(flag, type=within(bounds_of(name)), default=default, help=help)
    parser.add_argument(
        "--classes",
        type=within(Bounds(2, 100_000)),
        default=CLASSES,
        help="number of classes",
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Print the table. Raises NetworkError for a network that does not exist."""
    parser = build_parser()
    args = parser.parse_args(argv)
    stored = read_figures()
    names = [name.lower() for name in args.names] or list_networks()
    for name in names:
        find_builder(name)
    asked = {"frames": args.clip_length, "size": args.clip_size, "classes": args.classes}
    if asked == {"frames": FRAMES, "size": SIZE, "classes": CLASSES}:
        figures = {name: stored.get(name) or compute_figures(name) for name in names}
    elif args.names:
        figures = {name: compute_figures(name, **asked) for name in names}
    else:
        parser.error("name the networks whose figures should be computed")
    rows = [
        {
            "network": name,
            "parameters_M": f"{row.parameters / 1e6:.3f}",
            "GMACs": f"{row.macs / 1e9:.2f}",
            "HACS top1 / top5": PUBLISHED_ON_HACS.get(name, ""),
        }
        for name, row in figures.items()
    ]
    size = args.clip_size
    print(f"one clip of {args.clip_length} x {size} x {size}, {args.classes} classes")
    print(as_table(rows))


if __name__ == "__main__":
    sys.exit(command(main))
