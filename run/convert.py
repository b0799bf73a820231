"""Turn video files into frame stores: `<root>/jpg/<class>/<id>/{frames.db,n_frames}`."""

from __future__ import annotations

import argparse
import functools
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event

from data.annotations.video_folders import video_folders
from data.data_error import DataError
from data.store import is_finished, upgrade_store, write_store
from data.store.ffmpeg import (
    PATIENCE,
    Stopped,
    check_regular_file,
    extract_jpegs,
    ffmpeg_executable,
)
from data.store.unfinished_folders import sweep_unfinished
from run.command_line import Parser, command
from run.worker_pool import Job, add_workers, positive, report, run_jobs

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
        "--patience",
        type=positive,
        default=int(PATIENCE),
        metavar="SECONDS",
        help="give a video up where ffmpeg has produced no frame for so long",
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
    broken: list[tuple[Path, str]] = []
    if args.upgrade:
        jobs = found = [Job(folder, folder) for folder in video_folders(args.dataset)]
        work = functools.partial(_upgrade, companions=args.companion)
    else:
        found, broken = find_videos_to_convert(args.videos, args.dataset / "jpg")
        for _, reason in broken:
            log.error("%s", reason)
        jobs = [job for job in found if not is_finished(job.folder)]
        log.info("%d videos; %d of them are finished", len(found), len(found) - len(jobs))
        ffmpeg_executable()
        work = functools.partial(
            _convert,
            short_side=args.short_side,
            quality=args.quality,
            companions=args.companion,
            keep_damaged=args.keep_damaged,
            patience=args.patience,
        )
    for folder in {job.folder.parent for job in found}:
        sweep_unfinished(folder)
    failed = run_jobs(jobs, work, args.workers)
    args.dataset.mkdir(parents=True, exist_ok=True)
    report([*broken, *failed], args.dataset / "broken.csv", done=len(jobs) - len(failed))


def find_videos_to_convert(videos: Path, jpg: Path) -> tuple[list[Job], list[tuple[Path, str]]]:
    """A job for each video in a folder, or in the folders in it, in order of their names.

    Returns:
        The jobs, and (path, reason) of each video or folder that cannot be used: it is no regular
        file, cannot be read, or would become the same store as another.

    Raises:
        DataError: no such folder, or no video in it.
    """
    if not videos.is_dir():
        raise DataError(f"{videos}: no such folder; --videos names one of class folders of videos")
    broken: list[tuple[Path, str]] = []
    sources: dict[Path, list[Path]] = {}
    others = 0
    for source in _files(videos, broken):
        if source.suffix.lower() not in ENDINGS:
            others += 1
            continue
        folder = (jpg / source.relative_to(videos)).with_name(source.stem)
        sources.setdefault(folder, []).append(source)
    if not sources and not broken:
        raise DataError(f"{videos}: no videos in it, nor in the folders in it")
    if others:
        log.info("%d files are no videos by their ending, and are left out", others)
    classes = {folder.parent for folder in sources}
    jobs = []
    for folder, same in sources.items():
        if len(same) > 1:
            names = " and ".join(map(str, same))
            reason = f"{names} would both become {folder}; rename all but one"
            broken.append((same[0], reason))
            continue
        try:
            check_regular_file(same[0])
            if folder in classes:
                raise DataError(f"{same[0]}: would become {folder}, the folder of a class")
        except DataError as error:
            broken.append((same[0], str(error)))
        else:
            jobs.append(Job(same[0], folder))
    return jobs, broken


def _files(videos: Path, broken: list[tuple[Path, str]]) -> Iterator[Path]:
    """What is no folder in `videos` and in its folders. What cannot be read goes to `broken`."""
    for path in _listing(videos, broken):
        if path.is_dir():
            yield from (inner for inner in _listing(path, broken) if not inner.is_dir())
        else:
            yield path


def _listing(folder: Path, broken: list[tuple[Path, str]]) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        broken.append((folder, f"{folder}: cannot be read ({error.strerror})"))
        return []


def _convert(
    job: Job,
    stop: Event,
    *,
    short_side: int,
    quality: int,
    companions: list[int],
    keep_damaged: bool,
    patience: float,
) -> str | None:
    """Write one video's store. Returns what is wrong with the video, in one line, or None."""
    frames = extract_jpegs(
        job.source,
        short_side=short_side,
        quality=quality,
        keep_damaged=keep_damaged,
        patience=patience,
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
