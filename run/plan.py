"""Print the schedule of a run: `python -m run.plan --dataset-size N [training options]`.

The table has each phase's clip shape, batch size, learning rate, steps and share of the work, and
says how much work multigrid saves. `--png` draws it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from run.command_line import Parser, complete, given_options, parser_with_defaults
from run.exit_codes import command
from train.option_bounds import Bounds, within


def main(argv: list[str] | None = None) -> None:
    """Print the schedule, write its phases to --json and draw it to --png."""
    args = given_options(build_parser(argv), argv)
    defaults, clips = args.pop("defaults", "custom"), args.pop("dataset_size")
    rows_file, picture = args.pop("json", None), args.pop("png", None)
    config = complete(defaults, **args)
    # these import torch
    from train.recipe_choice import complete_recipe
    from train.schedule.plan_table import draw_plan, plan_table
    from train.schedule.steps_table import make_schedule

    config, choice = complete_recipe(config, clips)
    schedule = make_schedule(config, clips)
    print("\n".join(choice.lines()), plan_table(schedule), sep="\n\n")
    print("the time needs the data: give --plan to a training script instead")
    if rows_file:
        rows_file.write_text(json.dumps(schedule.phases(), indent=1) + "\n")
    if picture:
        draw_plan(schedule, picture)


def build_parser(argv: list[str] | None = None) -> Parser:
    """Return the parser of the training options, with the defaults of the dataset in `argv`."""
    parser, add_training_options = parser_with_defaults("python -m run.plan", __doc__, argv)
    parser.add_argument(
        "--dataset-size",
        type=within(Bounds(1, 10**8)),
        required=True,
        default=argparse.SUPPRESS,
        metavar="N",
        help="number of clips in the training split",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file")
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw the schedule into this file")
    add_training_options(needs_data=False)
    return parser


if __name__ == "__main__":
    sys.exit(command(main))
