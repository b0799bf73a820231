"""Print a run before it starts: `python -m run.plan --dataset-size N [training options]`.

Each phase with its shape, batch, learning rate, steps and share of the work, and what multigrid
saves; drawn with --png.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from data.datasets import DATASETS
from run.cli import Parser, add_options, command, complete
from train.multigrid import Schedule, make_schedule
from train.plan import plan_table, summary


def main(argv: list[str] | None = None) -> None:
    """Print the plan, write its rows to --json and its picture to --png."""
    args = vars(build_plan_parser(argv).parse_args(argv))
    defaults, clips = args.pop("defaults"), args.pop("dataset_size")
    rows_file, picture = args.pop("json"), args.pop("png")
    schedule = make_schedule(complete(defaults, **args), clips)
    print(plan_table(schedule))
    if rows_file:
        rows = [
            {**phase._asdict(), "turns": [turn._asdict() for turn in phase.turns]}
            for phase in schedule.phases()
        ]
        rows_file.write_text(json.dumps(rows, indent=1) + "\n")
    if picture:
        draw(schedule, picture)


def build_plan_parser(argv: list[str] | None = None) -> Parser:
    """The parser: the training options, with the defaults of the dataset that `argv` names."""
    parser = Parser(
        prog="python -m run.plan",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument(
        "--defaults",
        choices=tuple(DATASETS),
        default="custom",
        help="dataset whose defaults the options below have",
    )
    chosen, _ = parser.parse_known_args(argv)
    parser.add_argument("-h", "--help", action="help", help="show this help message and exit")
    parser.add_argument(
        "--dataset-size",
        type=int,
        required=True,
        default=argparse.SUPPRESS,
        metavar="N",
        help="clips of the training split",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw the run there")
    add_options(parser, chosen.defaults, needs_data=False)
    return parser


def draw(schedule: Schedule, path: Path) -> None:
    """Draw batch, frames, side and learning rate over the run, and over its first epoch's work."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(4, 2, figsize=(12, 9), sharex="col", squeeze=True)
    columns = ((run_curves(schedule), "epochs"), (epoch_curves(schedule), "share of its work"))
    for column, (curves, label) in enumerate(columns):
        x = curves.pop("x")
        for axis, (name, values) in zip(axes[:, column], curves.items(), strict=True):
            axis.stairs(values, x, baseline=None, linewidth=1.2)
            axis.set_ylabel(name)
            axis.grid(alpha=0.3)
        axes[0, column].set_yscale("log", base=2)
        axes[3, column].set_yscale("log")
        axes[3, column].set_xlabel(label)
    axes[0, 0].set_title("the run (long cycles)")
    axes[0, 1].set_title("its first epoch (every step)")
    figure.suptitle(summary(schedule), fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def run_curves(schedule: Schedule) -> dict[str, np.ndarray]:
    """The long cycles' shapes over the epochs: edges `x` (n + 1,) and n values of each curve."""
    begins, shapes, rates = [], [], []
    for epoch in range(1, schedule.epochs + 1):
        layout, first = schedule.layout(epoch), schedule.epoch_steps(epoch).start
        for i in np.flatnonzero(np.diff(layout.row, prepend=-1)):
            begins.append(epoch - 1 + layout.start[i] / schedule.n_clips)
            shapes.append(schedule.shapes[layout.row[i]].main)
            rates.append(schedule.lr(first + int(i)))
    batch, frames, size = np.array(shapes).T
    x = np.array([*begins, schedule.epochs])
    return {"x": x, "clips": batch, "frames": frames, "pixels a side": size, "lr": np.array(rates)}


def epoch_curves(schedule: Schedule) -> dict[str, np.ndarray]:
    """The first epoch's steps: edges `x` (steps + 1,), the share of work done; values a step."""
    layout = schedule.layout(1)
    work = (layout.batch * layout.frames * layout.size**2).cumsum()
    return {
        "x": np.concatenate([[0], work / work[-1]]),
        "clips": layout.batch,
        "frames": layout.frames,
        "pixels a side": layout.size,
        "lr": np.array([schedule.lr(step) for step in schedule.epoch_steps(1)]),
    }


if __name__ == "__main__":
    sys.exit(command(main))
