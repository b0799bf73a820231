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
    "step": ("step_overhead", "what the training loop itself costs"),
    "multigrid": ("multigrid_gain", "training with and without multigrid"),
    "init": ("recurrent_start", "training from each start of the recurrent layers"),
    "loader": ("loader_speed", "a training clip from disk to tensor, beside other ways"),
    "augment": ("augmentation_speed", "the compiled augmentation beside imgaug"),
    "storage": ("storage_speed", "reading and converting videos, beside other ways"),
    "labels": ("label_csv_speed", "loading a label csv of a million rows"),
    "gpu": ("gpu_page", "the tests and benchmarks that need a GPU, written to docs/gpu.md"),
}


def as_table(rows: list[dict]) -> str:
    """Rows of equal or differing keys as an aligned text table."""
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
    """Run one benchmark, print its rows and write them to --json."""
    parser = argparse.ArgumentParser(prog="python -m run.benchmark", description=__doc__)
    subparsers = parser.add_subparsers(dest="what", required=True)
    words = sys.argv[1:] if argv is None else argv
    for name, (module, summary) in BENCHMARKS.items():
        subparser = subparsers.add_parser(name, help=summary)
        if name not in words[:1]:  # only the one that is asked for is imported
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
