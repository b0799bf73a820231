"""Simulate a dataset of a million videos in shards; measure how a run starts and reads clips.

The shards are real and as the project writes them, but each video has only FRAMES frames of
16 x 16 pixels, and all have the same frames. The label csvs have one row for each video.
"""

from __future__ import annotations

import contextlib
import csv
import gc
import multiprocessing
import shutil
import sqlite3
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import simplejpeg
from tqdm import tqdm

from data.annotations.dataset_fingerprint import fingerprint
from data.annotations.duplicate_videos import warn_of_overlap
from data.annotations.splits import open_split
from data.clips.clip_dataset import ClipDataset, ClipOptions
from data.clips.loader import training_loader
from data.dataset_defaults import dataset_spec
from data.store import write_store
from data.store.format import frame_name
from data.store.shard_index import open_index, shard_path
from data.store.shard_index_writer import write_index
from data.store.shard_writer import copy_store, create_shard
from run.benchmarks.label_csv_speed import peak_rss
from run.command_line import complete
from train.schedule.steps_table import make_schedule

FRAMES, SIZE = 2, 16
CLASSES = 700
VIDEOS_IN_SHARD = 50_000
EACH_VAL = 20  # every 20th video of a class is for validation
BATCH, WORKERS, STEPS = 32, 2, 300
MIB = 2**20


def simulate(scratch: Path | None, count: int) -> list[dict]:
    """Return rows of what, value and unit for `count` videos."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        root = Path(folder)
        before = time.perf_counter()
        write_shards(root / "jpg", count)
        shards_s = time.perf_counter() - before
        before = time.perf_counter()
        write_index(root / "jpg")
        index_s = time.perf_counter() - before
        write_csvs(root, count)
        files = [path for path in root.rglob("*") if path.is_file()]
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            measured = pool.submit(measure_run, root).result()
        what = f"{count:,} simulated videos"
        rows = {
            "files": (len(files), "files"),
            "size": (sum(path.stat().st_size for path in files) / MIB, "MiB"),
            "writing the shards": (shards_s, "s"),
            "making the index anew": (index_s, "s"),
            **measured,
        }
        return [
            {"what": f"{what}: {name}", "value": value, "unit": unit}
            for name, (value, unit) in rows.items()
        ]


def name_of(number: int) -> str:
    """Return the name of a video, `<class>/<id>`."""
    return f"class {number % CLASSES:03d}/v{number:07d}"


def write_shards(jpg: Path, count: int) -> None:
    """Write the shards: a store is copied as `run.convert --pack` does, and its rows repeated."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (FRAMES, SIZE, SIZE, 3), dtype=np.uint8)
    jpegs = [simplejpeg.encode_jpeg(picture) for picture in pictures]
    write_store(jpg / "sample", "sample", jpegs, times=np.arange(FRAMES) / 25)
    starts = range(0, count, VIDEOS_IN_SHARD)
    for shard, start in enumerate(tqdm(starts, desc="shards", unit="shard", disable=None), 1):
        path = shard_path(jpg, shard)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            create_shard(connection)
            copy_store(connection, jpg / "sample", jpg, 0)
            image_rows = connection.execute("SELECT * FROM Images ORDER BY frame").fetchall()
            (video_row,) = connection.execute("SELECT * FROM Videos").fetchall()
            connection.execute("DELETE FROM Images")
            connection.execute("DELETE FROM Videos")
            numbers = range(start, min(start + VIDEOS_IN_SHARD, count))
            connection.executemany(
                "INSERT INTO Images VALUES (?, ?, ?, ?, ?)",
                (
                    (frame_name(name_of(number), i + 1), jpeg, SIZE, place * FRAMES + i + 1, crc32)
                    for place, number in enumerate(numbers)
                    for i, (_, jpeg, _, _, crc32) in enumerate(image_rows)
                ),
            )
            connection.executemany(
                "INSERT INTO Videos VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (place * FRAMES, name_of(number).encode(), *video_row[2:])
                    for place, number in enumerate(numbers)
                ),
            )
            connection.execute("COMMIT")
    shutil.rmtree(jpg / "sample")


def write_csvs(root: Path, count: int) -> None:
    """Write a training and a validation csv of all videos."""
    (root / "labels").mkdir()
    for part in ("train", "val"):
        with (root / "labels" / f"kinetics-700_{part}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("label", "id", "split"))
            writer.writerows(
                (*name_of(number).split("/"), part)
                for number in range(count)
                if (number // CLASSES % EACH_VAL == 0) == (part == "val")
            )


def measure_run(root: Path) -> dict[str, tuple[float, str]]:
    """Start a run in this fresh process as training does, then read clips with workers."""
    process = psutil.Process()
    gc.collect()
    libraries = process.memory_info().rss
    before, begun = time.process_time(), time.perf_counter()
    spec = dataset_spec("kinetics", 700)
    train = open_split(spec, root, "train")
    val = open_split(spec, root, "val", classes=train.classes)
    warn_of_overlap(train, val)
    index_and_csv = time.process_time() - before
    fingerprint(train, val)
    prints = time.process_time() - before - index_and_csv
    config = complete("kinetics", dataset=str(root), variant=700, network="srtg_r3d_34")
    schedule = make_schedule(config, len(train))
    total, waited = time.process_time() - before, time.perf_counter() - begun
    peak = peak_rss()
    gc.collect()
    kept = process.memory_info().rss
    options = ClipOptions((1,), short_side=SIZE, clip_size=SIZE)
    clips = ClipDataset(train, options, training=True, seed=1)
    plan = schedule.plan

    def small(step: int):
        return plan(step)._replace(start=step * BATCH, batch=BATCH, frames=FRAMES, size=SIZE)

    batches = training_loader(clips, small, range(STEPS), seed=1, workers=WORKERS)
    memory, started = [], None
    for number, _ in enumerate(batches):
        started = started or time.perf_counter()
        if number in (STEPS // 3, STEPS - WORKERS - 4):
            workers = process.children()
            memory.append(statistics.mean(w.memory_full_info().uss for w in workers) / MIB)
    index = open_index(root / "jpg")
    videos, shards = index.count()
    return {
        "shards": (shards, "files"),
        "videos in the index": (videos, "videos"),
        "start: csvs and index": (index_and_csv, "s of CPU time"),
        "start: fingerprint": (prints, "s of CPU time"),
        "start: schedule": (total - index_and_csv - prints, "s of CPU time"),
        "start in all": (total, "s of CPU time"),
        "start in all, by the clock": (waited, "s"),
        "memory of the process at the peak": (peak / MIB, "MiB"),
        "of which libraries before the start": (libraries / MIB, "MiB"),
        "memory kept": (kept / MIB, "MiB"),
        f"own memory of a worker after {STEPS // 3 * BATCH:,} clips": (memory[0], "MiB"),
        f"own memory of a worker after {STEPS * BATCH:,} clips": (memory[1], "MiB"),
        "clips read": (STEPS * BATCH / (time.perf_counter() - started), "clips/s"),
    }
