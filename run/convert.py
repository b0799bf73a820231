"""Turn video files into frame stores: `<root>/jpg/<class>/<id>/{frames.db,n_frames}`."""

from __future__ import annotations

import argparse
import csv
import functools
import logging
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable
from multiprocessing.pool import ThreadPool
from pathlib import Path
from threading import Event
from typing import NamedTuple

from tqdm import tqdm

from data.errors import DataError
from data.extract import Stopped, extract_jpegs, ffmpeg_executable
from data.frames import is_finished, sweep_unfinished, upgrade_store, write_store
from data.videos import frames_root
from run.cli import BAD_INPUT, Parser, command
from train.interrupts import caught_signals

log = logging.getLogger(__name__)

ENDINGS = (
    *(".3gp", ".asf", ".avi", ".f4v", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
LOOK = 0.2  # seconds between two looks at whether a signal has come


class Job(NamedTuple):
    """A folder of frames to be written, and the video that it is written from (upgrade: itself)."""

    source: Path
    folder: Path


def build_parser() -> Parser:
    """The options."""
    parser = Parser(
        prog="python -m run.convert",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--videos",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="DIR",
        help="folder of class folders of videos, or of videos",
    )
    parser.add_argument(
        "--dataset",
        type=Path,
        default=argparse.SUPPRESS,
        required=True,
        metavar="DIR",
        help="where jpg/ is made; what is finished there is skipped",
    )
    parser.add_argument(
        "--short-side",
        type=_positive,
        default=256,
        metavar="PIXELS",
        help="frames' short side. Smaller videos stay as they are",
    )
    parser.add_argument(
        "--quality",
        type=int,
        default=3,
        choices=range(2, 32),
        metavar="Q",
        help="JPEG quality on ffmpeg's scale, 2 (best) to 31",
    )
    parser.add_argument(
        "--companion",
        type=_positive,
        default=argparse.SUPPRESS,
        metavar="PIXELS",
        help="also store each frame with this short side (128), which small clips read faster",
    )
    parser.add_argument(
        "--workers",
        type=_positive,
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="videos at a time",
    )
    parser.add_argument(
        "--keep-damaged", action="store_true", help="store what can be decoded of broken videos"
    )
    parser.add_argument(
        "--upgrade",
        action="store_true",
        help="rewrite older stores in --dataset in place, their JPEGs byte for byte",
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def main(argv: list[str] | None = None) -> None:
    """Convert, or upgrade. Leaves with exit code 2 if a video is broken; the others are done."""
    parser = build_parser()
    args = parser.parse_args(argv)
    companion = getattr(args, "companion", None)
    if args.upgrade == ("videos" in args):
        parser.error("either --videos or --upgrade is needed")
    if args.upgrade:
        jobs = [Job(path.parent, path.parent) for path in find_stores(args.dataset)]
        work = functools.partial(_upgrade, companion=companion)
    else:
        found = find_videos_to_convert(args.videos, args.dataset / "jpg")
        jobs = [job for job in found if not is_finished(job.folder)]
        log.info("%d videos; %d of them are finished", len(found), len(found) - len(jobs))
        ffmpeg_executable()
        work = functools.partial(
            _convert,
            short_side=args.short_side,
            quality=args.quality,
            companion=companion,
            keep_damaged=args.keep_damaged,
        )
        for folder in {job.folder.parent for job in jobs}:
            sweep_unfinished(folder)
    broken = run_jobs(jobs, work, args.workers)
    report(broken, args.dataset / "broken.csv", done=len(jobs) - len(broken))
    if broken:
        raise SystemExit(BAD_INPUT)


def find_videos_to_convert(videos: Path, jpg: Path) -> list[Job]:
    """A job for each video in a folder, or in the folders in it, in order of their names.

    Raises:
        DataError: no such folder, no video in it, or two videos that would be one store.
    """
    if not videos.is_dir():
        raise DataError(f"{videos}: no such folder; --videos names one of class folders of videos")
    jobs: dict[Path, Job] = {}
    others = 0
    for source in sorted([*videos.iterdir(), *videos.glob("*/*")]):
        if source.name.startswith(".") or source.is_dir():
            continue
        if source.suffix.lower() not in ENDINGS:
            others += 1
            continue
        folder = (jpg / source.relative_to(videos)).with_name(source.stem)
        if folder in jobs:
            raise DataError(
                f"{source} and {jobs[folder].source.name} beside it would both become "
                f"{folder}; rename one"
            )
        jobs[folder] = Job(source, folder)
    if not jobs:
        raise DataError(f"{videos}: no videos in it, nor in the folders in it")
    if others:
        log.info("%d files are no videos by their ending, and are left out", others)
    return list(jobs.values())


def find_stores(root: Path) -> list[Path]:
    """Every frames.db of a dataset, in order. Raises DataError where there is none."""
    jpg = frames_root(root)
    stores = sorted([*jpg.glob("[!.]*/frames.db"), *jpg.glob("[!.]*/[!.]*/frames.db")])
    if not stores:
        raise DataError(f"{jpg}: holds no frames.db; `python -m run.convert` makes them")
    return stores


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
            for job, reason in tqdm(_polled(results, signals), total=len(jobs), unit="video"):
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


def _convert(
    job: Job,
    stop: Event,
    *,
    short_side: int,
    quality: int,
    companion: int | None,
    keep_damaged: bool,
) -> str | None:
    """Write one video's store. Returns what is wrong with the video, in one line, or None."""
    frames = extract_jpegs(
        job.source,
        short_side=short_side,
        quality=quality,
        keep_damaged=keep_damaged,
        stop=stop,
    )
    try:
        write_store(job.folder, job.folder.name, frames, companion=companion)
    except DataError as error:
        return str(error)
    except Stopped:
        pass
    finally:
        frames.close()  # ends ffmpeg where writing failed
    return None


def _upgrade(job: Job, _stop: Event, *, companion: int | None) -> str | None:
    try:
        upgrade_store(job.folder, companion=companion)
    except DataError as error:
        return str(error)
    return None


def report(broken: list[tuple[Path, str]], path: Path, *, done: int) -> None:
    """Log the outcome, and list what failed in a csv, which is removed where nothing did."""
    if not broken:
        path.unlink(missing_ok=True)
        log.info("%d done", done)
        return
    with path.open("w", newline="", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "reason"])
        writer.writerows((video, why.removeprefix(f"{video}: ")) for video, why in sorted(broken))
    log.error("%d done; %d could not be, %s lists them", done, len(broken), path)


if __name__ == "__main__":
    sys.exit(command(main))
