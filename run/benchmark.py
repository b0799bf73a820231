"""Measure speed: each benchmark compares ways of doing the same, in the same run.

`python -m run.benchmark <what>` prints a table; `--json FILE` also writes its rows to a file.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import sys
from pathlib import Path

from run.benchmarks.options import BENCHMARKS
from run.command_line import Parser
from run.exit_codes import command
from run.tables import aligned_table


def build_parser() -> Parser:
    """Return the parser, which has a sub-command for each benchmark."""
    parser = Parser(prog="python -m run.benchmark", description=__doc__)
    subparsers = parser.add_subparsers(dest="what", required=True, parser_class=Parser)
    for name, benchmark in BENCHMARKS.items():
        subparser = subparsers.add_parser(
            name,
            help=benchmark.summary,
            description=_docstring(benchmark.module),
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
    print(aligned_table(rows))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(command(main))
