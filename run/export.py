"""Write a trained network as files that other programs run: safetensors, torch.export, ONNX.

    python -m run.export --checkpoint best.pth --format onnx --out exported/

writes into one folder:

model.safetensors   the weights; its metadata tell network, options, classes and input profile
model.pt2           a program of torch.export, which needs torch but not this project
model.onnx          a program for onnxruntime and others; examples/score_onnx.py runs it

The programs take uint8 clips (N, T, H, W, 3), RGB, as they are decoded, normalise them as the
weights expect, and return logits (N, classes). Each file is compared with the checkpoint on random
clips of several shapes. If one differs, none is written.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from run.command_line import HelpFormatter, Parser
from run.exit_codes import command
from run.shared_options import add_checkpoint, add_clip_shape, check_checkpoint, folder_beside
from train.train_errors import TrainError

#: The formats, and the packages that each needs besides torch.
PACKAGES = {
    "safetensors": ("safetensors",),
    "torch": (),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
}


def build_parser() -> Parser:
    """Return the parser of the command's options."""
    parser = Parser(prog="python -m run.export", description=__doc__, formatter_class=HelpFormatter)
    add_checkpoint(parser)
    parser.add_argument(
        "--format",
        nargs="+",
        choices=tuple(PACKAGES),
        default=["onnx"],
        help="formats of the files",
    )
    add_clip_shape(parser, where=", where the file takes one shape only")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="where to write (default: exported/ beside the checkpoint)",
    )
    return parser


def check_packages(formats: list[str]) -> None:
    """Raise TrainError, which says what to install, if a package is missing."""
    needed = [package for name in formats for package in PACKAGES[name]]
    missing = [package for package in needed if not importlib.util.find_spec(package)]
    if missing:
        raise TrainError(
            f"--format {' '.join(formats)} needs {', '.join(missing)}: run "
            "`pip install -e .[export]` in the folder of this project"
        )


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Write the files. Returns the largest difference from the checkpoint, by format.

    Raises:
        TrainError, NetworkError: the checkpoint cannot be used, a package is missing, or a file
            differs from the checkpoint.
    """
    args = build_parser().parse_args(argv)
    args.format = list(dict.fromkeys(args.format))
    check_checkpoint(args.checkpoint)
    check_packages(args.format)
    if args.out is None:
        args.out = folder_beside(args.checkpoint) / "exported"
    from run.exporting.publishing import export_checkpoint  # imports torch

    return export_checkpoint(args)


if __name__ == "__main__":
    sys.exit(command(main))
