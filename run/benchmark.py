"""Measure speed as ratios taken side by side: `python -m run.benchmark <what> [--json FILE]`."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

from run.command_line import command

#: Name on the command line -> module in run/benchmarks, and what it measures.
BENCHMARKS = {
    "networks": ("network_speed", "forward passes and training steps of the networks"),
    "step": ("step_overhead", "the time that the training loop adds to the network's own"),
    "multigrid": ("multigrid_gain", "training with and without multigrid"),
    "init": ("recurrent_start", "training from each initialisation of the recurrent layers"),
    "loader": ("loader_speed", "loading a training clip, compared with other ways"),
    "augment": ("augmentation_speed", "the compiled augmentation, compared with imgaug"),
    "storage": ("storage_speed", "reading and converting videos, compared with other ways"),
    "labels": ("label_csv_speed", "loading a label csv of a million rows"),
    "startup": ("startup_time", "`--help` of the commands, compared with importing torch"),
    "gpu": ("gpu_page", "the tests and benchmarks that need a GPU, written to docs/gpu.md"),
}


def as_table(rows: list[dict]) -> str:
    """Format rows as an aligned text table with a column for each key that a row has."""
    if not rows:
        return "(no rows)"
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns] + [[_cell(row.get(column, "")) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = [
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) for line in cells
    ]
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(argv: list[str] | None = None) -> None:
    """Run one benchmark, print its rows and write them to the file of --json, if given."""
    parser = argparse.ArgumentParser(prog="python -m run.benchmark", description=__doc__)
    subparsers = parser.add_subparsers(dest="what", required=True)
    words = sys.argv[1:] if argv is None else argv
    for name, (module, summary) in BENCHMARKS.items():
        subparser = subparsers.add_parser(name, help=summary)
        if name not in words[:1]:  # import only the benchmark that is asked for
            continue
        benchmark = importlib.import_module(f"run.benchmarks.{module}")
        subparser.description = benchmark.__doc__
        subparser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
        benchmark.add_arguments(subparser)
        subparser.set_defaults(measure=benchmark.measure)
    args = parser.parse_args(argv)
    rows = args.measure(args)
    print(as_table(rows))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(command(main))
