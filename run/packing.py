"""Pack frame stores into shards, while they are converted or afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from threading import Event

from data.annotations.video_folders import video_folders
from data.data_error import DataError
from data.store import DATABASE, is_finished
from data.store.shard_index import shard_numbers
from data.store.shard_writer import Packer
from run.worker_pool import VideoTask, run_tasks

log = logging.getLogger(__name__)

Convert = Callable[[VideoTask, Event], "str | None"]


def stores_to_pack(dataset: Path) -> list[Path]:
    """Return the folders of the single stores of a dataset; none if all videos are in shards.

    Raises:
        DataError: there is no such dataset, or no video in it.
    """
    jpg = dataset / "jpg"
    if jpg.is_dir() and shard_numbers(jpg):
        with Packer(jpg):  # makes the index anew if need be, without which nothing can be listed
            pass
    return [folder for folder in video_folders(dataset) if (folder / DATABASE).exists()]


def convert_and_pack(
    jpg: Path, tasks: list[VideoTask], convert: Convert | None, *, workers: int, shard_gib: float
) -> list[tuple[Path, str]]:
    """Pack the stores of some videos into shards, and return (video, reason) of those that failed.

    Args:
        jpg: the dataset's folder jpg/.
        tasks: the videos.
        convert: makes the store of a video that has none; None if all have one.
        workers: number of threads.
        shard_gib: size of a shard.

    Raises:
        DataError: the disk is full or cannot be written, or another process is packing.
        SystemExit: see `run_tasks`.
    """
    with Packer(jpg, max(1, int(shard_gib * 2**30))) as packer:

        def convert_one(task: VideoTask, stop: Event) -> str | None:
            packer.stop = stop
            reason = None
            if convert is not None and not is_finished(task.folder):
                reason = convert(task, stop)
            if reason is None and not stop.is_set():
                packer.add(task.folder)
            return reason

        failed = run_tasks(tasks, convert_one, workers)
        packer.stop = Event()
        try:
            packer.finish()
        except OSError as error:  # of a full disk, for example
            raise DataError(f"{jpg}: cannot be written ({error})") from error
        for _, reason in packer.failed:
            log.error("%s", reason)
        log.info("%d videos in %d shards", *packer.count())
    return [*failed, *packer.failed]
