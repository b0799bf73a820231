"""Find a learning rate: `python -m run.tune --dataset FOLDER [training options]`.

A learning-rate range test (Smith 2017): a few minutes of training while the rate rises. It prints
a suggestion for --lr-base and draws the loss over the rate. Nothing is saved but the picture.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from data.file_writing import write_text
from run.command_line import Parser, complete, given_options, parser_with_defaults
from run.exit_codes import command
from train.input_check import check_inputs
from train.option_bounds import Bounds, within
from train.train_errors import TrainError

RATES = Bounds(1e-12, 1000)


def main(argv: list[str] | None = None) -> None:
    """Run the test, print the suggestion, draw the curve to --png and write its rows to --json."""
    args = given_options(build_parser(argv), argv)
    defaults = args.pop("defaults", "custom")
    rows_file, picture = args.pop("json", None), args.pop("png", Path("tune.png"))
    limits = {
        "steps": args.pop("steps", 100),
        "minutes": args.pop("minutes", 3.0),
        "lowest": args.pop("from", None),
        "highest": args.pop("to", None),
    }
    config = complete(defaults, **args)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise TrainError("run.tune uses one process: start it without torchrun")
    check_inputs(config)
    # these import torch
    from train.devices import open_devices
    from train.learning_rate_finder import draw_range, range_test, verdict

    started = time.monotonic()
    with open_devices(config.gpus, config.precision, deterministic=config.deterministic) as devices:
        test = range_test(config, devices, **limits)
    draw_range(test, picture)
    if rows_file:
        content = {"suggestion": test.suggestion, "limit": test.limit, "rows": test.rows()}
        write_text(rows_file, json.dumps(content, indent=1) + "\n")
    print(verdict(test, time.monotonic() - started))
    print(f"drawn to {picture.absolute()}")


def build_parser(argv: list[str] | None = None) -> Parser:
    """Return the parser of the training options, with the defaults of the dataset in `argv`."""
    parser, add_training_options = parser_with_defaults("python -m run.tune", __doc__, argv)
    parser.add_argument(
        "--steps",
        type=within(Bounds(20, 100_000)),
        default=100,
        metavar="N",
        help="optimiser steps, each with a higher rate; fewer if --minutes do not allow them",
    )
    parser.add_argument(
        "--minutes",
        type=within(Bounds(0.01, 1440), float),
        default=3.0,
        metavar="X",
        help="minutes that the steps may take",
    )
    for name, what in (("from", "first rate (default: the run's rate / 100)"),
                       ("to", "last rate (default: the run's rate x 100)")):  # fmt: skip
        parser.add_argument(
            f"--{name}",
            type=within(RATES, float),
            default=argparse.SUPPRESS,
            metavar="LR",
            help=what,
        )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the points to this file")
    parser.add_argument(
        "--png", type=Path, default=Path("tune.png"), metavar="FILE", help="picture of the curve"
    )
    add_training_options(needs_data=True)
    return parser


if __name__ == "__main__":
    sys.exit(command(main))
