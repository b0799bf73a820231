"""Measure speed as ratios taken side by side: `python -m run.benchmark <what> [--json FILE]`."""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
from pathlib import Path

import run.benchmarks
from run.cli import command


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
    for module in pkgutil.iter_modules(run.benchmarks.__path__):
        benchmark = importlib.import_module(f"run.benchmarks.{module.name}")
        summary = (benchmark.__doc__ or "").strip().splitlines()[0]
        subparser = subparsers.add_parser(module.name, help=summary, description=benchmark.__doc__)
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
