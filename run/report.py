"""Write or serve the report of a training: `python -m run.report FOLDER...`.

FOLDER is a results folder, or a folder that contains some. A training writes report.html itself;
this command writes it again, for example for the results of an earlier version. With `--serve` it
writes nothing: the pages are shown in a browser, and each refreshes itself whenever its run has
come further.

    python -m run.report results/UCF101/srtg_r3d_34_gates_False
    python -m run.report results/ --serve
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from tqdm import tqdm

from data.data_error import DataError
from run.command_line import Parser
from run.exit_codes import command
from train.option_bounds import Bounds, within

log = logging.getLogger(__name__)

CONFIG = "config.json"
LEVELS = 3  # folders below each other that are looked through for results


def build_parser() -> Parser:
    """Return the parser of the command's options."""
    parser = Parser(prog="python -m run.report", description=__doc__)
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="FOLDER", help="results of a training"
    )
    parser.add_argument(
        "--serve",
        action="store_true",
        help="show the reports in a browser, refreshed while the runs continue",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to serve at; 0.0.0.0: for every machine that reaches this one",
    )
    parser.add_argument(
        "--port",
        type=within(Bounds(0, 65_535)),
        default=8000,
        help="port to serve at; 0: a free one",
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Write the report of each run, or serve them all until Ctrl-C.

    Raises:
        DataError: a folder has no results, or a file in it is damaged.
    """
    args = build_parser().parse_args(argv)
    folders = [found for folder in args.folders for found in results_folders(folder)]
    if args.serve:
        from run.report_server import serve

        serve(list(dict.fromkeys(folders)), args.host, args.port)
        return
    from train.report.run_report import write_report  # imports torch

    # disable=None: no bar where stderr is not a terminal
    for folder in tqdm(folders, desc="reports", unit="run", leave=False, disable=None):
        log.info("report: %s", write_report(folder))


def results_folders(folder: Path) -> list[Path]:
    """Return `folder` if it is a results folder, else those up to LEVELS below it, by name.

    Raises:
        DataError: there are none.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    for level in range(LEVELS + 1):
        found = sorted(path.parent for path in folder.glob("*/" * level + CONFIG))
        if found:
            return found
    raise DataError(f"{folder}: neither it nor a folder below it has results ({CONFIG} is missing)")


if __name__ == "__main__":
    sys.exit(command(main))
