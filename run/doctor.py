"""Check this machine: versions, ffmpeg, memory, and whether convolutions are right and fast.

The 3D convolutions that the networks use are compared with float64 on the CPU, in fp32, bf16 and
fp16, contiguous and with channels last, and timed. The exit code is 2 if training or conversion
would fail here.
"""

from __future__ import annotations

import sys
from pathlib import Path

from run.checks.finding import ERROR, WARNING, as_lines, worst
from run.checks.machine import check_machine
from run.command_line import Parser
from run.exit_codes import BAD_INPUT, command
from train.config import bounds_of
from train.option_bounds import within

VERDICTS = {
    ERROR: "training or conversion would fail on this machine",
    WARNING: "this machine can be used; see the warnings",
}


def build_parser() -> Parser:
    """Return the parser of the command's options."""
    parser = Parser(prog="python -m run.doctor", description=__doc__)
    parser.add_argument(
        "--gpus",
        type=within(bounds_of("gpus")),
        help="0 checks the CPU (default: the first GPU if there is one)",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="check the disk that this folder is on (default: the current folder)",
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Print the findings. Raises SystemExit with exit code 2 if one of them is an error."""
    args = build_parser().parse_args(argv)
    findings = check_machine(args.folder)
    print(as_lines(findings), flush=True)
    from run.checks.convolutions import check_torch  # imports torch

    of_torch = check_torch(args.gpus)
    print(as_lines(of_torch))
    level = worst([*findings, *of_torch])
    print(VERDICTS.get(level, "this machine can be used"))
    if level == ERROR:
        raise SystemExit(BAD_INPUT)


if __name__ == "__main__":
    sys.exit(command(main))
