"""The videos that `loader_speed` and `storage_speed` read, in the forms that they compare."""

from __future__ import annotations

import sqlite3
import subprocess
from pathlib import Path

import numpy as np

from data.data_error import DataError
from data.store.ffmpeg import ffmpeg_executable
from data.synthetic import write_videos

HEIGHT, WIDTH, FRAMES = 256, 340, 300
VIDEO_SUFFIXES = {".avi", ".mp4", ".mkv", ".webm", ".mov"}


def find_videos(folder: Path | None, scratch: Path, count: int) -> list[Path]:
    """Return `count` video files in a folder, evenly spread; for None, of rendered videos.

    Raises:
        DataError: the folder holds no videos.
    """
    if folder is None:
        folder = scratch / "rendered"
        write_videos(folder, 2, seed=1, prefix="bench")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
    if not paths:
        raise DataError(f"{folder}: holds no videos")
    return paths[:: max(1, len(paths) // count)][:count]


def run_ffmpeg(path: Path, *output: str) -> bytes:
    """Return what ffmpeg writes to stdout for the first FRAMES frames of a video, resized.

    A shorter video is repeated. `output` are the last words of ffmpeg's command: the options for
    the format, and the output file.
    """
    source = ["-v", "error", "-stream_loop", "-1", "-i", str(path), "-an"]
    shape = ["-frames:v", str(FRAMES), "-vf", f"scale={WIDTH}:{HEIGHT},fps=25"]
    command = [ffmpeg_executable(), *source, *shape, *output]
    return subprocess.run(command, check=True, capture_output=True).stdout


def extract_jpegs(path: Path) -> list[bytes]:
    """Return the JPEGs (ffmpeg's quality 3) of the first FRAMES frames of a video."""
    end = b"\xff\xd9"  # the marker that ends a JPEG, and cannot occur within one
    stream = run_ffmpeg(path, "-q:v", "3", "-f", "mjpeg", "-")
    return [part + end for part in stream.split(end) if part]


def write_original_store(folder: Path, name: str, jpegs: list[bytes]) -> None:
    """Write a frame store as the package dataset2database does: no index, rows in random order."""
    folder.mkdir(parents=True)
    order = np.random.default_rng(0).permutation(len(jpegs)).tolist()
    with sqlite3.connect(folder / "frames.db") as connection:
        connection.execute("CREATE TABLE Images(ObjId STRING, frames BLOB, size INT)")
        rows = [(f"{name}/frame_{i + 1:05d}", jpegs[i], WIDTH) for i in order]
        connection.executemany("INSERT INTO Images VALUES (?, ?, ?)", rows)
    connection.close()


def read_original_store(folder: Path, numbers: list[int]) -> list[bytes]:
    """Return the JPEGs of some frames, numbered from 0, with the original's query.

    As in the original, each read opens a new connection.
    """
    wanted = [f"{folder.name}/frame_{number + 1:05d}" for number in numbers]
    connection = sqlite3.connect(folder / "frames.db")
    marks = ",".join("?" * len(wanted))
    sql = f"SELECT ObjId, frames FROM Images WHERE ObjId IN ({marks})"
    found = dict(connection.execute(sql, wanted).fetchall())
    connection.close()
    return [found[name] for name in wanted]
