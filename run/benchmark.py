"""Measure speed: each benchmark compares ways of doing the same, in the same run.

`python -m run.benchmark <what>` prints a table; `--json FILE` also writes its rows to a file.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from run.benchmarks import options
from run.command_line import HelpFormatter, Parser, command


class Benchmark(NamedTuple):
    """One benchmark: its module in run/benchmarks, its options, and what it measures."""

    module: str
    add_options: Callable[[argparse.ArgumentParser], None]
    summary: str


#: By the name that the command line takes.
BENCHMARKS = {
    "networks": Benchmark(
        "network_speed", options.networks, "forward passes and training steps of the networks"
    ),
    "step": Benchmark(
        "step_overhead", options.step, "the time that the training loop adds to the network's own"
    ),
    "multigrid": Benchmark(
        "multigrid_gain", options.multigrid, "training with and without multigrid"
    ),
    "recipes": Benchmark(
        "recipe_accuracy", options.recipes, "the accuracy on small datasets if no recipe is named"
    ),
    "init": Benchmark(
        "recurrent_start",
        options.init,
        "training from each initialisation of the recurrent layers",
    ),
    "srtg": Benchmark(
        "srtg_transfer",
        options.srtg,
        "new classes for a pretrained network, with SRTG blocks that start as nothing and without",
    ),
    "loader": Benchmark(
        "loader_speed", options.loader, "loading a training clip, compared with other ways"
    ),
    "augment": Benchmark(
        "augmentation_speed", options.augment, "the compiled augmentation, compared with imgaug"
    ),
    "storage": Benchmark(
        "storage_speed", options.storage, "reading and converting videos, compared with other ways"
    ),
    "labels": Benchmark("label_csv_speed", options.labels, "loading a label csv of a million rows"),
    "startup": Benchmark(
        "startup_time", options.startup, "`--help` of the commands, compared with importing torch"
    ),
    "gpu": Benchmark(
        "gpu_page", options.gpu, "the tests and benchmarks that need a GPU, written to docs/gpu.md"
    ),
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


def build_parser() -> Parser:
    """Return the parser, which has a sub-command for each benchmark."""
    parser = Parser(prog="python -m run.benchmark", description=__doc__)
    subparsers = parser.add_subparsers(dest="what", required=True, parser_class=Parser)
    for name, benchmark in BENCHMARKS.items():
        subparser = subparsers.add_parser(
            name,
            help=benchmark.summary,
            description=_docstring(benchmark.module),
            formatter_class=HelpFormatter,
        )
        subparser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to FILE")
        benchmark.add_options(subparser)
    return parser


def _docstring(module: str) -> str:
    """Return the docstring of a benchmark's module without importing it, and torch with it."""
    source = Path(importlib.util.find_spec(f"run.benchmarks.{module}").origin).read_text()
    return ast.get_docstring(ast.parse(source))


def main(argv: list[str] | None = None) -> None:
    """Run one benchmark, print its rows and write them to the file of --json, if given."""
    args = build_parser().parse_args(argv)
    benchmark = importlib.import_module(f"run.benchmarks.{BENCHMARKS[args.what].module}")
    rows = benchmark.measure(args)
    print(as_table(rows))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(command(main))
