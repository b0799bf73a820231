"""Read and decode every frame of a dataset, and name each store that is damaged."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from threading import Event

from data.annotations.video_folders import video_folders
from data.data_error import DataError
from data.store import verify_store
from run.command_line import Parser, command
from run.worker_pool import Job, add_workers, report, run_jobs


def build_parser() -> Parser:
    """The command's options."""
    parser = Parser(
        prog="python -m run.check",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("dataset", type=Path, help="the folder that holds jpg/")
    add_workers(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Check `<dataset>/jpg`. Leaves with exit code 2 if a store is bad; a csv lists them."""
    args = build_parser().parse_args(argv)
    jobs = [Job(folder, folder) for folder in video_folders(args.dataset)]
    bad = run_jobs(jobs, check, args.workers)
    report(bad, args.dataset / "bad_stores.csv", done=len(jobs) - len(bad))


def check(job: Job, _stop: Event) -> str | None:
    """What is wrong with a store, in one line, or None."""
    try:
        verify_store(job.folder)
    except DataError as error:
        return str(error)
    return None


if __name__ == "__main__":
    sys.exit(command(main))
