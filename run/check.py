"""Read and decode every frame of a dataset, and list each frame store that is damaged."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from threading import Event

from data.annotations.video_folders import video_folders
from data.data_error import DataError
from data.store import verify_store
from run.command_line import Parser, command
from run.worker_pool import VideoTask, add_workers, report, run_tasks


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
    """Check `<dataset>/jpg`. Damaged stores are listed in a csv, and the exit code is 2 then."""
    args = build_parser().parse_args(argv)
    tasks = [VideoTask(folder, folder) for folder in video_folders(args.dataset)]
    bad = run_tasks(tasks, check, args.workers)
    report(bad, args.dataset / "bad_stores.csv", done=len(tasks) - len(bad))


def check(task: VideoTask, _stop: Event) -> str | None:
    """Return what is wrong with a frame store, in one line, or None."""
    try:
        verify_store(task.folder)
    except DataError as error:
        return str(error)
    return None


if __name__ == "__main__":
    sys.exit(command(main))
