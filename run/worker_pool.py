"""Many videos, several at a time: the bar, the signals, and the list of those that failed."""

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
from run.command_line import BAD_INPUT
from train.config import bounds_of
from train.cpu_cores import usable_cores
from train.option_bounds import Bounds, within
from train.signals import caught_signals

log = logging.getLogger(__name__)

LOOK = 0.2  # seconds between two looks at whether a signal has come


class Job(NamedTuple):
    """What is worked on, named where it fails, and the folder of frames that it becomes."""

    source: Path
    folder: Path


def add_workers(parser: argparse.ArgumentParser) -> None:
    """The option of how many at a time: by default as many as this process may use cores."""
    parser.add_argument(
        "--workers",
        type=within(bounds_of("workers")),
        default=usable_cores(),
        metavar="N",
        help="videos at a time; by default as many as there are cores",
    )


#: An option's type: a number from 1 on.
positive = within(Bounds(1, 10_000))


def printable(name: Path | str) -> str:
    """A path or a class as any terminal takes it: bytes that are not UTF-8 are shown escaped."""
    return str(name).encode(errors="backslashreplace").decode()


def run_jobs(
    jobs: list[Job], work: Callable[[Job, Event], str | None], workers: int
) -> list[tuple[Path, str]]:
    """Do the jobs, several at a time, with a bar. Returns (source, reason) of those that failed.

    `work` returns a reason, or None where all went well. A signal sets the event that it is given
    and leaves with exit code 128 + signal: what is finished stays, half a video never does.
    """
    broken: list[tuple[Path, str]] = []
    stop = Event()
    with caught_signals() as signals, ThreadPool(workers) as pool:
        results = pool.imap_unordered(lambda job: (job, work(job, stop)), jobs)
        try:
            finished = _polled(results, signals)
            # disable=None: no bar where stderr is no terminal
            for job, reason in tqdm(finished, total=len(jobs), unit="video", disable=None):
                if reason is not None:
                    broken.append((job.source, reason))
                    log.error("%s", reason)
        except OSError as error:  # a full disk is not the videos' fault
            raise DataError(f"{jobs[0].folder}: cannot be written ({error})") from error
        finally:
            stop.set()
            pool.terminate()
            pool.join()
    if signals.number:
        print("interrupted; what is finished stays, the same command goes on", file=sys.stderr)
        raise SystemExit(128 + signals.number)
    return broken


def _polled(results, signals) -> Iterable[tuple[Job, str | None]]:
    """The results as they come, until a signal does."""
    while not signals.number:
        try:
            yield results.next(timeout=LOOK)
        except multiprocessing.TimeoutError:
            continue
        except StopIteration:
            return


def report(broken: list[tuple[Path, str]], path: Path, *, done: int) -> None:
    """Log the outcome, and list what failed in a csv, which is removed where nothing did.

    Leaves with exit code 2 where something failed.
    """
    if not broken:
        path.unlink(missing_ok=True)
        log.info("%d done", done)
        return
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "reason"])
        writer.writerows((video, why.removeprefix(f"{video}: ")) for video, why in sorted(broken))
    log.error("%d done; %d could not be, %s lists them", done, len(broken), path)
    raise SystemExit(BAD_INPUT)
