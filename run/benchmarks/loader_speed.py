"""Time a training clip, from disk to tensor, against the original's way and against mp4 decoders.

Everything on one core, in one process, taking turns; times are medians of CPU time, which other
jobs on the machine disturb less than the clock. Every way gets the same videos: 300 frames of
340 x 256, as JPEGs (ffmpeg's quality 3) in frame stores of the original's layout for the original's
way and of ours for ours, and as H.264 for the decoders. All apply the README's augmentation and end
with a tensor.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import torch
from tqdm import tqdm

from data.annotations.video_folders import Videos
from data.augment.presets import load_pipeline
from data.augment.program import load_augmentation
from data.clips.clip_dataset import ClipDataset, ClipOptions, ClipRequest
from data.clips.crop import Crop, draw_crop
from data.data_error import DataError
from data.store import open_store, write_store
from data.synthetic import write_videos

SHAPES = ((4, 80), (8, 112), (16, 158), (16, 224))
HEIGHT, WIDTH, FRAMES, INTERVAL = 256, 340, 300, 2
OPTIONS = ClipOptions(intervals=(INTERVAL,), short_side=256, clip_size=224)
TURN = 5  # clips in a row, as in a worker's life: a single one would find cold caches
VIDEO_SUFFIXES = {".avi", ".mp4", ".mkv", ".webm", ".mov"}

log = logging.getLogger(__name__)
Read = Callable[[int, int, int, int], object]  # (video, epoch, frames, size) -> the clip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--videos", type=Path, help="folder of videos (default: rendered ones)")
    parser.add_argument("--count", type=int, default=10, help="videos to take, evenly spread")
    parser.add_argument("--clips", type=int, default=100, help="clips to time for each row")
    parser.add_argument(
        "--companion",
        type=int,
        nargs="+",
        default=[],
        help="also store frames of these short sides, as run.convert does",
    )


def measure(args: argparse.Namespace) -> list[dict]:
    """Rows of shape, peer, ours_ms, peer_ms, ratio.

    Each row also says how much of ours_ms is reading and decoding, and the JPEGs' mean size.
    """
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        videos, jpeg_bytes = prepare(root, find(args.videos, root, args.count), args.companion)
        ways = {
            "ours": ours(videos),
            "reading": reading(videos),
            "original": original(root / "original", videos),
        }
        for module, way in (("av", pyav), ("torchcodec", torchcodec)):
            if importlib.util.find_spec(module):
                ways[module] = way(root / "mp4", videos)
            else:
                log.warning("%s is not installed: left out", module)
        rows = []
        for frames, size in SHAPES:
            times = race(ways, frames, size, args.clips, len(videos))
            ours_ms, reading_ms = times.pop("ours"), times.pop("reading")
            rows += [
                {
                    "shape": f"({frames},{size},{size})",
                    "peer": peer,
                    "ours_ms": ours_ms,
                    "peer_ms": peer_ms,
                    "ratio": peer_ms / ours_ms,
                    "reading_ms": reading_ms,
                    "jpeg_bytes": jpeg_bytes,
                }
                for peer, peer_ms in times.items()
            ]
    return rows


def race(ways: dict[str, Read], frames: int, size: int, clips: int, videos: int) -> dict:
    """Return each way's median milliseconds per clip; they take turns of TURN clips each."""
    times = {name: [] for name in ways}
    turns = range(-(-clips // TURN))
    for turn in tqdm(turns, desc=f"{frames} x {size}", unit="turn", disable=None):
        for name, read in ways.items():
            for clip in (0, *range(turn * TURN, (turn + 1) * TURN)):
                start = time.process_time()
                read(clip % videos, clip, frames, size)
                times[name].append(1e3 * (time.process_time() - start))
            del times[name][-TURN - 1]  # warmed up after the others' turns
    return {name: statistics.median(values) for name, values in times.items()}


# The videos


def find(folder: Path | None, scratch: Path, count: int) -> list[Path]:
    """`count` videos of the folder, or rendered ones."""
    if folder is None:
        folder = scratch / "rendered"
        write_videos(folder, 2, seed=1, prefix="bench")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
    if not paths:
        raise DataError(f"{folder}: holds no videos")
    return paths[:: max(1, len(paths) // count)][:count]


def prepare(root: Path, paths: list[Path], companions: list[int]) -> tuple[Videos, float]:
    """Each video in the three forms, under `root`, and the JPEGs' mean size in bytes."""
    names = [f"video_{number:03d}" for number in range(len(paths))]
    sizes = []
    (root / "mp4").mkdir()
    bar = tqdm(paths, desc="converting", unit="video", disable=None)
    for name, path in zip(names, bar, strict=True):
        jpegs = split_jpegs(ffmpeg(path, "-q:v", "3", "-f", "mjpeg", "-"))
        write_store(root / "ours" / name, name, jpegs, companions=companions)
        write_original_store(root / "original" / name, name, jpegs)
        ffmpeg(path, "-pix_fmt", "yuv420p", "-c:v", "libx264", str(root / "mp4" / f"{name}.mp4"))
        sizes += map(len, jpegs)
    videos = Videos(
        root=root / "ours",
        folders=np.array(names),
        labels=np.zeros(len(names), np.int64),
        classes=("none",),
        rejected=[],
        source=root,
    )
    return videos, statistics.mean(sizes)


def ffmpeg(path: Path, *output: str) -> bytes:
    """ffmpeg's output for the first frames of the video, repeated if it has fewer, resized."""
    source = ["-v", "error", "-stream_loop", "-1", "-i", str(path), "-an"]
    shape = ["-frames:v", str(FRAMES), "-vf", f"scale={WIDTH}:{HEIGHT},fps=25"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), *source, *shape, *output]
    return subprocess.run(command, check=True, capture_output=True).stdout


def split_jpegs(stream: bytes) -> list[bytes]:
    """Return an MJPEG stream's JPEGs, split at end markers: JPEG data cannot contain those."""
    end = b"\xff\xd9"
    return [part + end for part in stream.split(end) if part]


def write_original_store(folder: Path, name: str, jpegs: list[bytes]) -> None:
    """A store as the package dataset2database leaves it: no index, rows in no order."""
    folder.mkdir(parents=True)
    order = np.random.default_rng(0).permutation(len(jpegs)).tolist()
    with sqlite3.connect(folder / "frames.db") as connection:
        connection.execute("CREATE TABLE Images(ObjId STRING, frames BLOB, size INT)")
        rows = [(f"{name}/frame_{i + 1:05d}", jpegs[i], WIDTH) for i in order]
        connection.executemany("INSERT INTO Images VALUES (?, ?, ?)", rows)
    connection.close()


# The ways


def ours(videos: Videos) -> Read:
    """This project's dataset."""
    clips = ClipDataset(videos, OPTIONS, training=True, seed=1)
    return lambda video, epoch, frames, size: clips[ClipRequest(video, epoch, frames, size)].clip


def reading(videos: Videos) -> Read:
    """Our reader without augmentation: the lower bound of our time."""

    def read(video, epoch, frames, size):
        indices = start_of(np.random.default_rng((epoch, video)), frames)
        short_side = Crop(OPTIONS.share).short_side(size)
        return open_store(videos.folder(video)).read_at_least(indices, short_side)

    return read


def original(folder: Path, videos: Videos) -> Read:
    """The original's way: a new connection per clip, an unindexed table, OpenCV, imgaug frame by
    frame, a normalised float tensor.
    """
    pipeline = load_pipeline("readme")
    mean, deviation = np.float32([124, 117, 104]), np.float32(0.0167)

    def read(video, epoch, frames, size):
        rng = np.random.default_rng((epoch, video))
        name = videos.folders[video]
        wanted = [f"{name}/frame_{i + 1:05d}" for i in start_of(rng, frames)]
        connection = sqlite3.connect(folder / name / "frames.db")
        marks = ",".join("?" * len(wanted))
        sql = f"SELECT ObjId, frames FROM Images WHERE ObjId IN ({marks})"
        found = dict(connection.execute(sql, wanted).fetchall())
        connection.close()
        images = [
            cv2.cvtColor(
                cv2.imdecode(np.frombuffer(found[key], np.uint8), cv2.IMREAD_COLOR),
                cv2.COLOR_BGR2RGB,
            )
            for key in wanted
        ]
        left, top, side = draw_crop(OPTIONS.share, rng).window(HEIGHT, WIDTH)
        pipeline.seed_(entropy=int(rng.integers(2**31)))
        same = pipeline.to_deterministic()
        clip = [
            same.augment_image(
                cv2.resize(image[top : top + side, left : left + side], (size, size))
            )
            for image in images
        ]
        clip = (np.stack(clip).astype(np.float32) - mean) * deviation
        return torch.from_numpy(np.ascontiguousarray(clip.transpose(3, 0, 1, 2)))

    return read


def pyav(folder: Path, videos: Videos) -> Read:
    """PyAV: seek to the key frame before, decode up to the last frame; then our augmentation."""
    import av

    def decode(path, indices):
        wanted, images = set(indices), []
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            container.seek(int(indices[0] / stream.average_rate / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                index = round(float(frame.pts * stream.time_base * stream.average_rate))
                if index in wanted:
                    images.append(frame.to_ndarray(format="rgb24"))
                if index >= indices[-1]:
                    break
        return np.stack(images)

    return from_mp4(folder, videos, decode)


def torchcodec(folder: Path, videos: Videos) -> Read:
    """torchcodec: one decoder per clip, which seeks approximately; then our augmentation."""
    from torchcodec.decoders import VideoDecoder

    def decode(path, indices):
        decoder = VideoDecoder(
            str(path), num_ffmpeg_threads=1, seek_mode="approximate", dimension_order="NHWC"
        )
        return decoder.get_frames_at(indices=indices).data.numpy()

    return from_mp4(folder, videos, decode)


def from_mp4(folder: Path, videos: Videos, decode: Callable[[Path, list[int]], np.ndarray]) -> Read:
    """A decoder's frames through the augmentation that ours gets."""
    augmentation = load_augmentation("readme")

    def read(video, epoch, frames, size):
        rng = np.random.default_rng((epoch, video))
        images = decode(folder / f"{videos.folders[video]}.mp4", start_of(rng, frames))
        crop: Crop = draw_crop(OPTIONS.share, rng)
        clip = augmentation.draw(rng, size).render(images, crop, size)
        return torch.from_numpy(clip).permute(3, 0, 1, 2)

    return read


def start_of(rng: np.random.Generator, frames: int) -> list[int]:
    """Frame numbers of a random clip."""
    first = int(rng.integers(FRAMES - (frames - 1) * INTERVAL))
    return list(range(first, first + frames * INTERVAL, INTERVAL))
