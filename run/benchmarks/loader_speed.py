"""Compare ways to load a training clip: this project's, the original's, and decoders of mp4 files.

Every way reads the same videos of 300 frames of 340 x 256 pixels, applies the augmentation
`readme`, and makes a tensor. The ways of users of torchcodec and pytorchvideo apply a random crop
and a flip only. What is not installed is left out. The original's way and ours read JPEGs (ffmpeg's
quality 3), each from frame stores of its own layout; the decoders read H.264. The ways take turns,
in one process on one core. Times are medians of CPU time, which other programs disturb less than
the wall-clock time.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from data.annotations.video_folders import Videos
from data.augment.crop import Crop, draw_crop
from data.augment.presets import load_pipeline
from data.augment.program import load_augmentation
from data.clips.clip_dataset import ClipDataset, ClipOptions, ClipRequest
from data.store import open_store, write_store
from run.benchmarks import users_ways
from run.benchmarks.example_videos import (
    FRAMES,
    HEIGHT,
    WIDTH,
    extract_jpegs,
    find_videos,
    read_original_store,
    run_ffmpeg,
    write_original_store,
)

SHAPES = ((4, 80), (8, 112), (16, 158), (16, 224))
INTERVAL = 2  # frames from one frame of a clip to the next
OPTIONS = ClipOptions(intervals=(INTERVAL,), short_side=256, clip_size=224)
TURN = 5  # clips in a row: after another way's turn, the processor's caches must warm up

log = logging.getLogger(__name__)
Read = Callable[[int, int, int, int], object]  # (video, epoch, frames, size) -> the clip


def measure(args: argparse.Namespace) -> list[dict]:
    """Return a row for each clip shape and each other way (`peer`).

    ours_ms and peer_ms are milliseconds per clip, and ratio is peer_ms / ours_ms. reading_ms is the
    part of ours_ms spent on reading and decoding. jpeg_bytes is the mean size of the JPEGs.
    """
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        videos, jpeg_bytes = prepare(
            root, find_videos(args.videos, root, args.count), args.companion
        )
        ways = {
            "ours": ours(videos),
            "reading": reading(videos),
            "original": original(root / "original", videos),
        }
        others = {"av": ("av", pyav), "torchcodec": ("torchcodec", torchcodec)}
        for module, way in users_ways.WAYS.items():
            others[f"{module}, as its users write it"] = (module, functools.partial(by_users, way))
        for name, (module, way) in others.items():
            if not importlib.util.find_spec(module):
                log.warning("%s is not installed: left out", name)
                continue
            try:
                ways[name] = way(root / "mp4", videos)
            except (ImportError, OSError, RuntimeError) as error:  # FFmpeg's libraries are missing
                log.warning("%s: left out (%s)", name, str(error).strip().splitlines()[0])
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
    """Return the milliseconds per clip (median) of each way; a turn of a way is TURN clips."""
    times = {name: [] for name in ways}
    turns = range(-(-clips // TURN))
    for turn in tqdm(turns, desc=f"{frames} x {size}", unit="turn", disable=None):
        for name, read in ways.items():
            for clip in (0, *range(turn * TURN, (turn + 1) * TURN)):
                start = time.process_time()
                read(clip % videos, clip, frames, size)
                times[name].append(1e3 * (time.process_time() - start))
            del times[name][-TURN - 1]  # the first clip only warms up the caches
    return {name: statistics.median(values) for name, values in times.items()}


# The videos


def prepare(root: Path, paths: list[Path], companions: list[int]) -> tuple[Videos, float]:
    """Write each video in the three forms below `root`: frame stores, original stores, mp4 files.

    Returns:
        The videos, as folders of frame stores, and the mean size of their JPEGs in bytes.
    """
    names = [f"video_{number:03d}" for number in range(len(paths))]
    sizes = []
    (root / "mp4").mkdir()
    bar = tqdm(paths, desc="converting", unit="video", disable=None)
    for name, path in zip(names, bar, strict=True):
        jpegs = extract_jpegs(path)
        write_store(root / "ours" / name, name, jpegs, companions=companions)
        write_original_store(root / "original" / name, name, jpegs)
        h264 = ("-pix_fmt", "yuv420p", "-c:v", "libx264")
        run_ffmpeg(path, *h264, str(root / "mp4" / f"{name}.mp4"))
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


# The ways to load a clip: each function returns one, as a function of type Read


def ours(videos: Videos) -> Read:
    """Load clips as training does."""
    clips = ClipDataset(videos, OPTIONS, training=True, seed=1)
    return lambda video, epoch, frames, size: clips[ClipRequest(video, epoch, frames, size)].clip


def reading(videos: Videos) -> Read:
    """Read and decode the frames as training does, without augmentation."""

    def read(video, epoch, frames, size):
        indices = draw_frames(np.random.default_rng((epoch, video)), frames)
        short_side = Crop(OPTIONS.share).short_side(size)
        return open_store(videos.folder(video)).read_at_least(indices, short_side)

    return read


def original(folder: Path, videos: Videos) -> Read:
    """Load clips as the original does.

    It opens the database anew for each clip, searches a table without an index, decodes with
    OpenCV, runs imgaug on one frame after another, and makes a normalised float tensor.
    """
    pipeline = load_pipeline("readme")
    mean, deviation = np.float32([124, 117, 104]), np.float32(0.0167)

    def read(video, epoch, frames, size):
        rng = np.random.default_rng((epoch, video))
        jpegs = read_original_store(folder / videos.folders[video], draw_frames(rng, frames))
        images = [
            cv2.cvtColor(
                cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
            )
            for jpeg in jpegs
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
    """Decode with PyAV, from the last key frame before the clip; then augment as training does."""
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
    """Decode with torchcodec, in its mode of approximate seeking; then augment as training does."""
    from torchcodec.decoders import VideoDecoder

    def decode(path, indices):
        decoder = VideoDecoder(
            str(path), num_ffmpeg_threads=1, seek_mode="approximate", dimension_order="NHWC"
        )
        return decoder.get_frames_at(indices=indices).data.numpy()

    return from_mp4(folder, videos, decode)


def by_users(way: Callable[[int], users_ways.Load], folder: Path, videos: Videos) -> Read:
    """Load a clip from an mp4 file as users of a library would; see `users_ways`."""
    load = way(INTERVAL)
    return lambda video, epoch, frames, size: load(
        folder / f"{videos.folders[video]}.mp4", frames, size
    )


def from_mp4(folder: Path, videos: Videos, decode: Callable[[Path, list[int]], np.ndarray]) -> Read:
    """Decode mp4 files with `decode(file, frame numbers)`; then augment as training does."""
    augmentation = load_augmentation("readme")

    def read(video, epoch, frames, size):
        rng = np.random.default_rng((epoch, video))
        images = decode(folder / f"{videos.folders[video]}.mp4", draw_frames(rng, frames))
        crop: Crop = draw_crop(OPTIONS.share, rng)
        clip = augmentation.draw(rng, size).render(images, crop, size)
        return torch.from_numpy(clip).permute(3, 0, 1, 2)

    return read


def draw_frames(rng: np.random.Generator, frames: int) -> list[int]:
    """Return the frame numbers of a random clip of `frames` frames."""
    first = int(rng.integers(FRAMES - (frames - 1) * INTERVAL))
    return list(range(first, first + frames * INTERVAL, INTERVAL))
