"""Download the videos of a label csv, each cut to its seconds, into class folders."""

from __future__ import annotations

import argparse
import functools
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event

from data.errors import DataError
from data.extract import ffmpeg_executable
from data.labels import load_labels
from data.listings import Rejections, Row, labelled_csv
from run.cli import Parser, command
from run.jobs import Job, positive, report, run_jobs

log = logging.getLogger(__name__)

ADDRESS = "https://www.youtube.com/watch?v={}"
UNFINISHED = (".part", ".ytdl", ".temp")


def build_parser() -> Parser:
    """The options."""
    parser = Parser(
        prog="python -m run.download",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("labels", type=Path, help="csv with youtube_id, time_start and time_end")
    parser.add_argument("videos", type=Path, help="folder that gets a folder for each class")
    parser.add_argument(
        "--height", type=positive, default=360, metavar="PIXELS", help="at most so high"
    )
    parser.add_argument(
        "--workers", type=positive, default=4, metavar="N", help="downloads at a time"
    )
    parser.add_argument(
        "--cookies", default=argparse.SUPPRESS, metavar="FILE", help="cookies of a browser"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Download what is not there yet. Leaves with exit code 2 if a video could not be had."""
    args = build_parser().parse_args(argv)
    load_labels(args.labels)  # says what is wrong with the file as a whole
    rejections = Rejections()
    # Any part will do: the csv's split does not matter here.
    rows = {
        _target(args.videos, row): row for row in labelled_csv(args.labels, rejections, part="val")
    }
    rejections.log()
    jobs = [Job(target, target) for target in rows if not any(_finished(target))]
    log.info("%d videos; %d of them are here", len(rows), len(rows) - len(jobs))
    work = functools.partial(
        _download, rows=rows, height=args.height, cookies=getattr(args, "cookies", None)
    )
    failed = run_jobs(jobs, work, args.workers)
    args.videos.mkdir(parents=True, exist_ok=True)
    report(failed, args.videos / "not_downloaded.csv", done=len(jobs) - len(failed))


def _target(videos: Path, row: Row) -> Path:
    """The file without its ending, which depends on what there is to download."""
    stamp = "" if row.start is None else f"_{row.start:06d}_{row.end:06d}"
    return videos / row.label.replace("/", "_") / f"{row.id}{stamp}"


def _finished(target: Path) -> Iterator[Path]:
    if target.parent.is_dir():
        for path in target.parent.iterdir():
            if path.name.startswith(f"{target.name}.") and path.suffix not in UNFINISHED:
                yield path


def _download(
    job: Job, _stop: Event, *, rows: dict[Path, Row], height: int, cookies: str | None
) -> str | None:
    """Fetch one video. Returns why it could not be had, in one line, or None."""
    try:
        import yt_dlp
        from yt_dlp.utils import DownloadError, download_range_func
    except ImportError:
        raise DataError("downloading needs yt-dlp: pip install yt-dlp") from None
    row = rows[job.source]
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    options = {
        "format": f"bv*[height<={height}]/b[height<={height}]/b",  # the sound is not needed
        "outtmpl": str(job.folder).replace("%", "%%") + ".%(ext)s",
        "ffmpeg_location": ffmpeg_executable(),
        "quiet": True,
        "noprogress": True,
        "no_warnings": True,
        "logger": _silent(),
        "retries": 3,
        "cookiefile": cookies,
    }
    if row.start is not None:
        options["download_ranges"] = download_range_func(None, [(row.start, row.end)])
        options["force_keyframes_at_cuts"] = True
    try:
        with yt_dlp.YoutubeDL(options) as downloader:
            downloader.download([ADDRESS.format(row.id)])
    except DownloadError as error:
        return f"{job.source}: {' '.join(str(error).removeprefix('ERROR: ').split())}"
    return None if any(_finished(job.folder)) else f"{job.source}: nothing was downloaded"


def _silent() -> logging.Logger:
    """What fails is reported here, once."""
    logger = logging.getLogger("yt_dlp")
    logger.setLevel(logging.CRITICAL)
    return logger


if __name__ == "__main__":
    sys.exit(command(main))
