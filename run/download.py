"""Download the videos that a label csv lists, cut to the seconds named there."""

from __future__ import annotations

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
from run.command_line import Parser
from run.exit_codes import command
from run.worker_pool import VideoTask, positive, report, run_tasks

log = logging.getLogger(__name__)

ADDRESS = "https://www.youtube.com/watch?v={}"
UNFINISHED = (".part", ".ytdl", ".temp")
SCRATCH = ".download"  # folder of unfinished downloads, in the folder of the videos


def build_parser() -> Parser:
    """Return the parser of the command's options."""
    parser = Parser(prog="python -m run.download", description=__doc__)
    parser.add_argument("labels", type=Path, help="csv with youtube_id, time_start and time_end")
    parser.add_argument("videos", type=Path, help="folder for the class folders of videos")
    parser.add_argument(
        "--height", type=positive, default=360, metavar="PIXELS", help="greatest height of a video"
    )
    parser.add_argument(
        "--workers", type=positive, default=4, metavar="N", help="number of downloads at a time"
    )
    parser.add_argument(
        "--address",
        default=ADDRESS,
        metavar="URL",
        help="address of a video, of any site that yt-dlp supports, with {} for the id",
    )
    parser.add_argument("--cookies", metavar="FILE", help="file with a browser's cookies")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Download the videos that are missing. If some cannot be downloaded, the exit code is 2."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if "{}" not in args.address:
        parser.error(f"--address {args.address!r}: must have {{}} in place of the id")
    load_labels(args.labels)  # raises if the file as a whole is wrong
    rejections = Rejections()
    # reading needs a value for `part`, but all parts are downloaded
    rows = {
        _target(args.videos, row): row for row in labelled_csv(args.labels, rejections, part="val")
    }
    rejections.log()
    tasks = [VideoTask(target, target) for target in rows if not _is_there(target)]
    log.info("%d videos, of which %d are there already", len(rows), len(rows) - len(tasks))
    work = functools.partial(
        _download,
        videos=args.videos,
        rows=rows,
        address=args.address,
        height=args.height,
        cookies=args.cookies,
    )
    with _ffmpeg_on_path():
        failed = run_tasks(tasks, work, args.workers)
    args.videos.mkdir(parents=True, exist_ok=True)
    unusable = [(args.labels, reason) for reason in rejections]
    report([*failed, *unusable], args.videos / "not_downloaded.csv", done=len(tasks) - len(failed))


def _target(videos: Path, row: Row) -> Path:
    """Return the path of a video, without the suffix that depends on its format."""
    stamp = "" if row.start is None else f"_{row.start:06d}_{row.end:06d}"
    return videos / row.label.replace("/", "_") / f"{row.id}{stamp}"


def _is_there(target: Path) -> bool:
    return target.parent.is_dir() and any(
        path.name.startswith(f"{target.name}.") and path.suffix not in UNFINISHED
        for path in target.parent.iterdir()
    )


def _scratch(videos: Path, target: Path) -> Path:
    """Return the folder that a video is downloaded into before it is moved to its place.

    It is the same each time, so that an interrupted download continues. Its name is a hash and not
    the id, in which yt-dlp would expand variables.
    """
    digest = hashlib.sha256(os.fsencode(target.relative_to(videos))).hexdigest()
    return videos / SCRATCH / digest[:16]


def _download(
    task: VideoTask,
    stop: Event,
    *,
    videos: Path,
    rows: dict[Path, Row],
    address: str,
    height: int,
    cookies: str | None,
) -> str | None:
    """Download one video. Return why that failed, in one line, or None."""
    try:
        import yt_dlp
        from yt_dlp.utils import DownloadCancelled, YoutubeDLError, download_range_func
    except ImportError:
        raise DataError("downloading needs yt-dlp: pip install yt-dlp") from None

    def stop_early(_progress: dict) -> None:
        if stop.is_set():
            raise DownloadCancelled

    row = rows[task.source]
    scratch = _scratch(videos, task.folder)
    scratch.mkdir(parents=True, exist_ok=True)
    options = {
        "format": f"bv*[height<={height}]/b[height<={height}]/b",  # without sound where possible
        "outtmpl": str(scratch / "video").replace("%", "%%") + ".%(ext)s",
        "noplaylist": True,
        "match_filter": _no_playlist,
        "progress_hooks": [stop_early],
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
    # an "&" in an id must not begin another part of the address
    quoted = quote(os.fsencode(row.id), safe="")
    try:
        with yt_dlp.YoutubeDL(options) as downloader:
            downloader.download([address.replace("{}", quoted)])
        done = _move_into_place(scratch, task.folder)
    except YoutubeDLError as error:
        return f"{task.source}: {' '.join(str(error).removeprefix('ERROR: ').split())}"
    finally:
        for folder in (scratch, scratch.parent):
            with contextlib.suppress(OSError):  # not empty: an unfinished download is in it
                folder.rmdir()
    return None if done else f"{task.source}: its address is not that of a single video"


def _move_into_place(scratch: Path, target: Path) -> bool:
    """Move a finished download to its place, delete `scratch`, return whether it was one file."""
    done = [path for path in scratch.iterdir() if path.suffix not in UNFINISHED]
    if len(done) == 1:
        target.parent.mkdir(parents=True, exist_ok=True)
        done[0].replace(target.with_name(f"{target.name}{done[0].suffix}"))
    shutil.rmtree(scratch, ignore_errors=True)
    return len(done) == 1


def _no_playlist(video: dict, *, incomplete: bool) -> str | None:
    """Return why yt-dlp should skip a video of a playlist, or None: a row is a single video."""
    return "it is part of a playlist" if video.get("playlist_index") is not None else None


@contextlib.contextmanager
def _ffmpeg_on_path() -> Iterator[None]:
    """Put ffmpeg on PATH, where yt-dlp looks for it to cut videos."""
    before = os.environ.get("PATH", "")
    with tempfile.TemporaryDirectory() as tools:
        (Path(tools) / "ffmpeg").symlink_to(ffmpeg_executable())
        os.environ["PATH"] = f"{tools}{os.pathsep}{before}"
        try:
            yield
        finally:
            os.environ["PATH"] = before


def _silent() -> logging.Logger:
    """Return a logger that prints nothing, as this command reports errors itself."""
    logger = logging.getLogger("yt_dlp")
    logger.setLevel(logging.CRITICAL)
    return logger


if __name__ == "__main__":
    sys.exit(command(main))
