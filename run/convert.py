"""Turn video files into frame stores: `<root>/jpg/<class>/<id>/{frames.db,n_frames}`."""

from __future__ import annotations

import argparse
import functools
import logging
import sys
from pathlib import Path
from threading import Event

from data.errors import DataError
from data.extract import Stopped, extract_jpegs, ffmpeg_executable
from data.frames import is_finished, sweep_unfinished, upgrade_store, write_store
from data.videos import video_folders
from run.cli import Parser, command
from run.jobs import Job, add_workers, positive, report, run_jobs

log = logging.getLogger(__name__)

ENDINGS = (
    *(".3gp", ".asf", ".avi", ".f4v", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)


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
        type=positive,
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
        type=positive,
        nargs="+",
        default=[],
        metavar="PIXELS",
        help="also store each frame with this short side (128), which small clips read faster, "
        "or with several",
    )
    add_workers(parser)
    parser.add_argument(
        "--keep-damaged", action="store_true", help="store what can be decoded of broken videos"
    )
    parser.add_argument(
        "--upgrade",
        action="store_true",
        help="rewrite older stores in --dataset in place, their JPEGs byte for byte",
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Convert, or upgrade. Leaves with exit code 2 if a video is broken; the others are done."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.upgrade == ("videos" in args):
        parser.error("either --videos or --upgrade is needed")
    if args.upgrade:
        jobs = [Job(folder, folder) for folder in video_folders(args.dataset)]
        work = functools.partial(_upgrade, companions=args.companion)
    else:
        found = find_videos_to_convert(args.videos, args.dataset / "jpg")
        jobs = [job for job in found if not is_finished(job.folder)]
        log.info("%d videos; %d of them are finished", len(found), len(found) - len(jobs))
        ffmpeg_executable()
        work = functools.partial(
            _convert,
            short_side=args.short_side,
            quality=args.quality,
            companions=args.companion,
            keep_damaged=args.keep_damaged,
        )
        for folder in {job.folder.parent for job in jobs}:
            sweep_unfinished(folder)
    broken = run_jobs(jobs, work, args.workers)
    report(broken, args.dataset / "broken.csv", done=len(jobs) - len(broken))


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


def _convert(
    job: Job,
    stop: Event,
    *,
    short_side: int,
    quality: int,
    companions: list[int],
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
        write_store(job.folder, job.folder.name, frames, companions=companions)
    except DataError as error:
        return str(error)
    except Stopped:
        pass
    finally:
        frames.close()  # ends ffmpeg where writing failed
    return None


def _upgrade(job: Job, _stop: Event, *, companions: list[int]) -> str | None:
    try:
        upgrade_store(job.folder, companions=companions)
    except DataError as error:
        return str(error)
    return None


if __name__ == "__main__":
    sys.exit(command(main))
