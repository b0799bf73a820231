"""Download the videos of a label csv, each cut to its seconds, into class folders."""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from urllib.parse import quote

from data.annotations.label_csv import load_labels
from data.annotations.label_csv_writer import Row
from data.annotations.published_lists import Rejections, labelled_csv
from data.data_error import DataError
from data.store.ffmpeg import ffmpeg_executable
from run.command_line import Parser, command
from run.worker_pool import Job, positive, report, run_jobs

log = logging.getLogger(__name__)

ADDRESS = "https://www.youtube.com/watch?v={}"
UNFINISHED = (".part", ".ytdl", ".temp")
SCRATCH = ".download"  # the folder of what is not finished


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
        "--address",
        default=ADDRESS,
        metavar="URL",
        help="where an id's video is, {} standing for the id: any address that yt-dlp takes",
    )
    parser.add_argument(
        "--cookies", default=argparse.SUPPRESS, metavar="FILE", help="cookies of a browser"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Download what is not there yet. Leaves with exit code 2 if a video could not be had."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if "{}" not in args.address:
        parser.error(f"--address {args.address!r}: has no {{}} where the id goes")
    load_labels(args.labels)  # says what is wrong with the file as a whole
    rejections = Rejections()
    # Any part will do: the csv's split does not matter here.
    rows = {
        _target(args.videos, row): row for row in labelled_csv(args.labels, rejections, part="val")
    }
    rejections.log()
    jobs = [Job(target, target) for target in rows if not _is_there(target)]
    log.info("%d videos; %d of them are here", len(rows), len(rows) - len(jobs))
    work = functools.partial(
        _download,
        videos=args.videos,
        rows=rows,
        address=args.address,
        height=args.height,
        cookies=getattr(args, "cookies", None),
    )
    with _ffmpeg_on_path():
        failed = run_jobs(jobs, work, args.workers)
    args.videos.mkdir(parents=True, exist_ok=True)
    unusable = [(args.labels, reason) for reason in rejections]
    report([*failed, *unusable], args.videos / "not_downloaded.csv", done=len(jobs) - len(failed))


def _target(videos: Path, row: Row) -> Path:
    """The file without its ending, which depends on what there is to download."""
    stamp = "" if row.start is None else f"_{row.start:06d}_{row.end:06d}"
    return videos / row.label.replace("/", "_") / f"{row.id}{stamp}"


def _is_there(target: Path) -> bool:
    return target.parent.is_dir() and any(
        path.name.startswith(f"{target.name}.") and path.suffix not in UNFINISHED
        for path in target.parent.iterdir()
    )


def _scratch(videos: Path, target: Path) -> Path:
    """Where one video is downloaded to, the same each time, so that half a download goes on.

    yt-dlp takes file names for templates, in which it expands variables: labels and ids, which are
    anybody's, are no part of them.
    """
    digest = hashlib.sha256(os.fsencode(target.relative_to(videos))).hexdigest()
    return videos / SCRATCH / digest[:16]


def _download(
    job: Job,
    stop: Event,
    *,
    videos: Path,
    rows: dict[Path, Row],
    address: str,
    height: int,
    cookies: str | None,
) -> str | None:
    """Fetch one video. Returns why it could not be had, in one line, or None."""
    try:
        import yt_dlp
        from yt_dlp.utils import DownloadCancelled, YoutubeDLError, download_range_func
    except ImportError:
        raise DataError("downloading needs yt-dlp: pip install yt-dlp") from None

    def look(_progress: dict) -> None:
        if stop.is_set():
            raise DownloadCancelled

    row = rows[job.source]
    scratch = _scratch(videos, job.folder)
    scratch.mkdir(parents=True, exist_ok=True)
    options = {
        "format": f"bv*[height<={height}]/b[height<={height}]/b",  # the sound is not needed
        "outtmpl": str(scratch / "video").replace("%", "%%") + ".%(ext)s",
        "noplaylist": True,
        "match_filter": _no_playlist,
        "progress_hooks": [look],
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
    # an id is one part of the address: an "&" in it must not begin another
    quoted = quote(os.fsencode(row.id), safe="")
    try:
        with yt_dlp.YoutubeDL(options) as downloader:
            downloader.download([address.replace("{}", quoted)])
        done = _move_into_place(scratch, job.folder)
    except YoutubeDLError as error:
        return f"{job.source}: {' '.join(str(error).removeprefix('ERROR: ').split())}"
    finally:
        for folder in (scratch, scratch.parent):
            with contextlib.suppress(OSError):  # half a download is in it, or another one
                folder.rmdir()
    return None if done else f"{job.source}: the address is not that of one video"


def _move_into_place(scratch: Path, target: Path) -> bool:
    """Move a finished download to its place, if it is of one video, and empty `scratch`."""
    done = [path for path in scratch.iterdir() if path.suffix not in UNFINISHED]
    if len(done) == 1:
        target.parent.mkdir(parents=True, exist_ok=True)
        done[0].replace(target.with_name(f"{target.name}{done[0].suffix}"))
    shutil.rmtree(scratch, ignore_errors=True)
    return len(done) == 1


def _no_playlist(video: dict, *, incomplete: bool) -> str | None:
    """Why a video is not downloaded: an id is of one video, and a playlist's are other ones."""
    return "it is part of a playlist" if video.get("playlist_index") is not None else None


@contextlib.contextmanager
def _ffmpeg_on_path() -> Iterator[None]:
    """Have yt-dlp find ffmpeg: for parts of videos it looks along PATH, whatever it is told."""
    before = os.environ.get("PATH", "")
    with tempfile.TemporaryDirectory() as tools:
        (Path(tools) / "ffmpeg").symlink_to(ffmpeg_executable())
        os.environ["PATH"] = f"{tools}{os.pathsep}{before}"
        try:
            yield
        finally:
            os.environ["PATH"] = before


def _silent() -> logging.Logger:
    """What fails is reported here, once."""
    logger = logging.getLogger("yt_dlp")
    logger.setLevel(logging.CRITICAL)
    return logger


if __name__ == "__main__":
    sys.exit(command(main))
