"""Work on many videos, several at a time, and list those that failed."""

from __future__ import annotations

import argparse
import csv
import logging
import multiprocessing
import sys
from collections.abc import Callable, Iterable
from multiprocessing.pool import ThreadPool
from pathlib import Path
from threading import Event
from typing import NamedTuple

from tqdm import tqdm

from data.data_error import DataError
from run.exit_codes import BAD_INPUT
from train.config import bounds_of
from train.cpu_cores import usable_cores
from train.option_bounds import Bounds, within
from train.signals import caught_signals

log = logging.getLogger(__name__)

POLL = 0.2  # seconds between two checks of whether a signal has arrived


class VideoTask(NamedTuple):
    """One video to work on. Errors name `source`; `folder` is the folder of the frame store."""

    source: Path
    folder: Path


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add `--workers`, the number of videos at a time."""
    parser.add_argument(
        "--workers",
        type=within(bounds_of("workers")),
        default=usable_cores(),
        metavar="N",
        help="videos at a time; by default as many as there are cores",
    )


#: The type of an option that is a whole number of at least 1.
positive = within(Bounds(1, 10_000))


def printable(name: Path | str) -> str:
    """Return a path or class name for printing, with bytes that are not UTF-8 escaped."""
    return str(name).encode(errors="backslashreplace").decode()


def run_tasks(
    tasks: list[VideoTask], work: Callable[[VideoTask, Event], str | None], workers: int
) -> list[tuple[Path, str]]:
    """Call `work` for each task, `workers` at a time, and show a progress bar on a terminal.

    Args:
        tasks: the videos.
        work: gets a task and an event, returns why the task failed, or None if it did not. The
            event is set when `work` should stop early.
        workers: number of threads.

    Returns:
        (source, reason) of each task that failed.

    Raises:
        DataError: the disk is full or cannot be written.
        SystemExit: SIGINT or SIGTERM came; the exit code is 128 + signal. Finished videos stay,
            unfinished ones leave nothing.
    """
    broken: list[tuple[Path, str]] = []
    stop = Event()
    with caught_signals() as signals, ThreadPool(workers) as pool:
        results = pool.imap_unordered(lambda task: (task, work(task, stop)), tasks)
        try:
            finished = _polled(results, signals)
            # disable=None: no bar where stderr is not a terminal
            for task, reason in tqdm(finished, total=len(tasks), unit="video", disable=None):
                if reason is not None:
                    broken.append((task.source, reason))
                    log.error("%s", reason)
        except OSError as error:  # of a full disk, for example: no other video could be written
            raise DataError(f"{tasks[0].folder}: cannot be written ({error})") from error
        finally:
            stop.set()
            pool.terminate()
            pool.join()
    if signals.number:
        print(
            "interrupted; finished videos are kept, and the same command continues", file=sys.stderr
        )
        raise SystemExit(128 + signals.number)
    return broken


def _polled(results, signals) -> Iterable[tuple[VideoTask, str | None]]:
    """Yield the results as they arrive, until there are no more or a signal has arrived."""
    while not signals.number:
        try:
            yield results.next(timeout=POLL)
        except multiprocessing.TimeoutError:
            continue
        except StopIteration:
            return


def report(broken: list[tuple[Path, str]], path: Path, *, done: int) -> None:
    """Log how many videos are done, and write those that failed to a csv.

    Args:
        broken: (video, reason) of each video that failed.
        path: the csv. It is deleted if no video failed.
        done: number of videos that did not fail.

    Raises:
        SystemExit: with exit code 2, if a video failed.
    """
    if not broken:
        path.unlink(missing_ok=True)
        log.info("%d done", done)
        return
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "reason"])
        writer.writerows((video, why.removeprefix(f"{video}: ")) for video, why in sorted(broken))
    log.error("%d done; %d failed, they are listed in %s", done, len(broken), path)
    raise SystemExit(BAD_INPUT)
