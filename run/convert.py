"""Convert video files to frame stores, `<dataset>/jpg/<class>/<id>/{frames.db,n_frames}`.

With --shards, many videos share a file, `<dataset>/jpg/shard-00001.db` and so on.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Event

import numpy as np

from data.annotations.video_folders import video_folders
from data.annotations.video_tree import VIDEO_ENDINGS, name_problem, videos_in_tree
from data.data_error import DataError
from data.store import is_finished, upgrade_store, write_store
from data.store.ffmpeg import (
    PATIENCE,
    Stopped,
    check_regular_file,
    extract_jpegs,
    ffmpeg_executable,
    frame_times,
)
from data.store.unfinished_folders import sweep_unfinished
from data.store.writer import has_single_store
from run.command_line import Parser
from run.exit_codes import command
from run.packing import convert_and_pack, stores_to_pack
from run.worker_pool import VideoTask, add_workers, positive, report, run_tasks
from train.option_bounds import Bounds, within

log = logging.getLogger(__name__)


def build_parser() -> Parser:
    """Return the parser of the command's options."""
    parser = Parser(prog="python -m run.convert", description=__doc__)
    parser.add_argument(
        "--videos",
        type=Path,
        metavar="DIR",
        help="folder of videos, or of one folder of videos for each class, perhaps inside train/, "
        "val/ and test/",
    )
    parser.add_argument(
        "--dataset",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder that gets jpg/; videos that are already converted are skipped",
    )
    parser.add_argument(
        "--short-side",
        type=positive,
        default=256,
        metavar="PIXELS",
        help="short side of the frames; smaller videos keep their size",
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
        help="also store each frame with these short sides, such as 128: small clips then read "
        "faster",
    )
    add_workers(parser)
    parser.add_argument(
        "--keep-damaged",
        action="store_true",
        help="of a damaged video, store the frames that can be decoded",
    )
    parser.add_argument(
        "--patience",
        type=positive,
        default=int(PATIENCE),
        metavar="SECONDS",
        help="give up a video if ffmpeg produces no frame for this many seconds",
    )
    parser.add_argument(
        "--upgrade",
        action="store_true",
        help="rewrite older stores in --dataset in place, without changing a byte of their JPEGs; "
        "with --videos or --fps, also add the frame rate to those that lack it",
    )
    parser.add_argument(
        "--fps",
        type=within(Bounds(0.01, 10_000), float),
        metavar="X",
        help="--upgrade without --videos: the frame rate of all videos whose stores do not say it",
    )
    parser.add_argument(
        "--shards",
        action="store_true",
        help="with --videos: pack the finished stores into files of many videos each",
    )
    parser.add_argument(
        "--pack",
        action="store_true",
        help="pack the stores that are in --dataset into files of many videos each, and make the "
        "index of these files anew if it is missing or damaged",
    )
    parser.add_argument(
        "--shard-size",
        type=within(Bounds(1e-6, 1000), float),
        default=2.0,
        metavar="GIB",
        help="size of each such file, in GiB",
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Convert or upgrade. If some videos fail, the others are converted, and the exit code is 2."""
    parser = build_parser()
    args = parser.parse_args(argv)
    has_videos = bool(args.videos)
    if not (args.upgrade or has_videos or args.pack):
        parser.error("give --videos, or --upgrade, or --pack")
    if args.pack and (args.upgrade or has_videos):
        parser.error("--pack excludes --videos and --upgrade; with --videos, give --shards")
    if args.shards and (args.upgrade or not has_videos):
        parser.error("--shards needs --videos; to pack the stores that are there, give --pack")
    if args.fps and (has_videos or not args.upgrade):
        parser.error("--fps needs --upgrade, and no --videos")
    broken: list[tuple[Path, str]] = []
    if args.pack:
        tasks = found = [VideoTask(folder, folder) for folder in stores_to_pack(args.dataset)]
        work = None
    elif args.upgrade:
        if has_videos:
            found, broken = find_videos_to_convert(args.videos, args.dataset / "jpg")
            found = [task for task in found if is_finished(task.folder)]
        else:
            found = [VideoTask(folder, folder) for folder in video_folders(args.dataset)]
        tasks = found
        work = functools.partial(
            _upgrade, companions=args.companion, has_videos=has_videos, fps=args.fps
        )
    else:
        found, broken = find_videos_to_convert(args.videos, args.dataset / "jpg")
        for _, reason in broken:
            log.error("%s", reason)
        tasks = [task for task in found if not is_finished(task.folder)]
        log.info("%d videos; %d of them are finished", len(found), len(found) - len(tasks))
        if args.shards:  # those that an interrupted conversion has left single are packed too
            missing = {task.folder for task in tasks}
            tasks = [t for t in found if t.folder in missing or has_single_store(t.folder)]
        ffmpeg_executable()
        work = functools.partial(
            _convert,
            short_side=args.short_side,
            quality=args.quality,
            companions=args.companion,
            keep_damaged=args.keep_damaged,
            patience=args.patience,
        )
    for folder in {task.folder.parent for task in found}:
        sweep_unfinished(folder)
    if args.shards or args.pack:
        failed = convert_and_pack(
            args.dataset / "jpg", tasks, work, workers=args.workers, shard_gib=args.shard_size
        )
    else:
        failed = run_tasks(tasks, work, args.workers)
    args.dataset.mkdir(parents=True, exist_ok=True)
    report([*broken, *failed], args.dataset / "broken.csv", done=len(tasks) - len(failed))


def find_videos_to_convert(
    videos: Path, jpg: Path
) -> tuple[list[VideoTask], list[tuple[Path, str]]]:
    """List the videos of a tree of folders, in order of their names.

    Returns:
        The tasks, and (path, reason) of each video or folder that cannot be used: not a regular
        file, cannot be read, or would be converted to the same frame store as another video.

    Raises:
        DataError: the folder does not exist, or holds no video.
    """
    if not videos.is_dir():
        raise DataError(f"{videos}: no such folder; give --videos the folder of the videos")
    broken: list[tuple[Path, str]] = []
    sources: dict[Path, list[Path]] = {}
    for video in videos_in_tree(videos, broken):
        problem = name_problem(video)
        if problem:
            broken.append((video.path, problem))
        else:
            sources.setdefault(jpg / video.label / video.id, []).append(video.path)
    if not sources and not broken:
        raise DataError(
            f"{videos}: no videos in it, nor in the folders in it (videos are files that end in "
            f"{', '.join(VIDEO_ENDINGS)})"
        )
    classes = {folder.parent for folder in sources}
    tasks = []
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
            tasks.append(VideoTask(same[0], folder))
    return tasks, broken


def _convert(
    task: VideoTask,
    stop: Event,
    *,
    short_side: int,
    quality: int,
    companions: list[int],
    keep_damaged: bool,
    patience: float,
) -> str | None:
    """Write one video's frame store. Return what is wrong with the video, in one line, or None."""
    times: list[float] = []
    frames = extract_jpegs(
        task.source,
        short_side=short_side,
        quality=quality,
        keep_damaged=keep_damaged,
        patience=patience,
        stop=stop,
        times=times,
    )
    try:
        write_store(task.folder, task.folder.name, frames, companions=companions, times=times)
    except DataError as error:
        return str(error)
    except Stopped:
        pass
    finally:
        frames.close()  # ends ffmpeg if writing failed
    return None


def _upgrade(
    task: VideoTask, stop: Event, *, companions: list[int], has_videos: bool, fps: float | None
) -> str | None:
    """Rewrite one store if it is older; return what is wrong with it, in one line, or None."""

    def times(n_frames: int) -> Sequence[float]:
        if not has_videos:
            return np.arange(n_frames) / fps
        found = frame_times(task.source, stop)
        if len(found) != n_frames:
            raise DataError(
                f"{task.source}: has {len(found)} frames, but {task.folder} has {n_frames}, so "
                "it is of another video; delete that folder and convert the video again"
            )
        return found

    try:
        upgrade_store(
            task.folder, companions=companions, times=times if has_videos or fps else None
        )
    except DataError as error:
        return str(error)
    except Stopped:
        pass
    return None


if __name__ == "__main__":
    sys.exit(command(main))
