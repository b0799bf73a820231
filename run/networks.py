"""List the networks: `python -m run.networks [NAME ...] [--clip-length 16] [--clip-size 224]`.

Parameters in millions; multiply-accumulates of one clip in thousands of millions (convolutions,
linear layers, recurrent products); top-1 / top-5 on HACS of the authors' released checkpoints.
"""

from __future__ import annotations

import argparse
import sys

import torch
from tqdm import tqdm

from network import build_network, list_networks
from network.cost import count_macs, count_parameters
from run.benchmark import as_table
from run.command_line import Parser, command
from train.config import bounds_of
from train.option_bounds import Bounds, within

#: Top-1 / top-5 in percent on HACS, 16 frames, as the authors published them beside the weights.
HACS_ON_RECORD = {
    "srtg_r3d_34": "78.60 / 93.57",
    "srtg_r3d_50": "80.36 / 95.55",
    "srtg_r3d_101": "81.66 / 96.33",
    "srtg_r2plus1d_50": "83.77 / 96.56",
    "srtg_r2plus1d_101": "84.33 / 96.85",
    "mtnet_s": "80.71 / 95.18",
    "mtnet_m": "83.45 / 95.87",
    "mtnet_l": "86.57 / 96.66",
}


def row(name: str, args: argparse.Namespace) -> dict:
    """What one network costs at the asked clip shape; built on the meta device, so at no cost."""
    with torch.device("meta"):
        net = build_network(name, args.classes)
    macs = count_macs(net, args.clip_length, args.clip_size, args.clip_size)
    return {
        "network": name.lower(),
        "parameters_M": f"{count_parameters(net) / 1e6:.3f}",
        "GMACs": f"{macs / 1e9:.2f}",
        "HACS top1 / top5": HACS_ON_RECORD.get(name.lower(), ""),
    }


def build_parser() -> Parser:
    """The command's options."""
    parser = Parser(prog="python -m run.networks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks (default: all)")
    for flag, name, default, help in (
        ("--clip-length", "clip_length", 16, "frames (default: 16)"),
        ("--clip-size", "clip_size", 224, "side in pixels (default: 224)"),
    ):
        parser.add_argument(flag, type=within(bounds_of(name)), default=default, help=help)
    parser.add_argument(
        "--classes", type=within(Bounds(2, 100_000)), default=400, help="classes (default: 400)"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    args = build_parser().parse_args(argv)
    names = args.names or list_networks()
    rows = [row(name, args) for name in tqdm(names, unit="network", leave=False)]
    print(
        f"one clip of {args.clip_length} x {args.clip_size} x {args.clip_size}, "
        f"{args.classes} classes"
    )
    print(as_table(rows))


if __name__ == "__main__":
    sys.exit(command(main))
