"""List the networks: `python -m run.networks [NAME ...] [--clip-length 16] [--clip-size 224]`.

The table has the parameters in millions, the multiply-accumulates of one clip in billions (of
convolutions, linear and recurrent layers), and the top-1 and top-5 accuracy on HACS that the
authors published for their checkpoints. With --clip-length, --clip-size or --classes the figures
are computed, which takes a few seconds for each network: name those that you want to know about.

With --pretrained, list the weights of other projects that `--pretrained-3d` and `load_pretrained`
take by name: what they were trained on, top-1 on Kinetics-400 in percent as published, with the
number of clips or views of a video, the input that they need, and whether the file is here.
"""

from __future__ import annotations

import sys

from network.figures import CLASSES, FRAMES, SIZE, compute_figures, read_figures
from network.registry import find_builder, list_networks
from run.command_line import Parser
from run.exit_codes import command
from run.tables import aligned_table
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
    parser = Parser(prog="python -m run.networks", description=__doc__)
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
    parser.add_argument(
        "--pretrained", action="store_true", help="list pretrained weights instead (imports torch)"
    )
    return parser


def pretrained_rows() -> list[dict[str, str]]:
    """Return a row of text for each source of pretrained weights."""
    from network.pretrained.download import cached_file  # imports torch
    from network.pretrained.sources import find_source, list_pretrained

    return [
        {
            "source": name,
            "network": source.network,
            "trained on": source.trained_on,
            "top1 (clips)": source.top1 or "-",
            "input": source.profile.shape_text(),
            "licence": source.licence,
            "MB": f"{4 * source.parameters / 1e6:.0f}",
            "here": "yes" if cached_file(source).is_file() else "no",
        }
        for name, source in ((name, find_source(name)) for name in list_pretrained())
    ]


def main(argv: list[str] | None = None) -> None:
    """Print the table. Raises NetworkError for a network that does not exist."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.pretrained:
        if args.names:
            parser.error("--pretrained lists all sources: give it without names")
        print(aligned_table(pretrained_rows()))
        print(
            "MB: of the parameters; licences are those that the weights or their repository state"
        )
        return
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
    print(aligned_table(rows))


if __name__ == "__main__":
    sys.exit(command(main))
