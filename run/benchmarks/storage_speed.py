"""Compare frame stores with JPEG files and with the original's stores: reading and converting.

Reading: each way reads the JPEGs of 16 frames (340 x 256, ffmpeg's quality 3) without decoding
them. The ways take turns on the same frames; times are medians of wall-clock time. "cold" means
that the files are dropped from the kernel's memory before each read, and that no store is open.
The kernel still knows the folders, which makes cold reads of JPEG files faster than they would be.

Converting: the original's method writes JPEG files, copies them into SQLite and deletes them. It
gets the same frame size, quality and number of processes as ours. With --peer, the original's
package dataset2database is timed too: once unchanged, once with our frame size and quality.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import shutil
import sqlite3
import stat
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from multiprocessing import Pool
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from data.store import FrameStore, open_store, write_store
from data.store.ffmpeg import SCALE, ffmpeg_executable
from data.store.shard_writer import Packer
from run import convert
from run.benchmarks import million_videos
from run.benchmarks.example_videos import (
    extract_jpegs,
    find_videos,
    read_original_store,
    write_original_store,
)
from train.cpu_cores import usable_cores

CLIP, INTERVAL = 16, 2
SHORT_SIDE, QUALITY = 240, 3
LENGTHS = (300, 3_000, 18_000)  # frames

SHARDS = "ours, in shards"

Read = Callable[[Path, list[int]], list[bytes]]


def measure(args: argparse.Namespace) -> list[dict]:
    """Return rows of what, way, ratio and one measure: time_ms, files and mib, or time_s.

    ratio is the measure of the row's way divided by that of ours.
    """
    if args.scratch:
        args.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        scratch = Path(folder)
        paths = find_videos(args.videos, scratch, max(args.count, args.convert))
        rows = reading(scratch, paths[: args.count], args.repeats)
        rows += long_videos(scratch, paths[0], args.repeats)
        if args.convert:
            rows += converting(scratch, paths[: args.convert], args.peer)
    if args.million:
        rows += million_videos.simulate(args.scratch, args.million)
    return rows


def _rows(what: str, unit: str, times: dict[str, float]) -> list[dict]:
    """Return a row for each way, with its time and the ratio of that to the time of ours."""
    return [
        {"what": what, "way": way, unit: spent, "ratio": spent / times["ours"]}
        for way, spent in times.items()
    ]


# Reading


def from_files(folder: Path, indices: list[int]) -> list[bytes]:
    """Read JPEG files."""
    return [(folder / f"frame_{i + 1:05d}.jpg").read_bytes() for i in indices]


def from_ours(folder: Path, indices: list[int]) -> list[bytes]:
    """Read our store as training does, which keeps stores open."""
    return open_store(folder).jpegs(indices)


def from_ours_anew(folder: Path, indices: list[int]) -> list[bytes]:
    """Read our store, which is opened and closed for this read."""
    with FrameStore(folder) as store:
        return store.jpegs(indices)


WARM: dict[str, Read] = {
    "JPEG files": from_files,
    "original layout": read_original_store,
    "ours": from_ours,
    SHARDS: from_ours,
}
COLD = {**WARM, "ours": from_ours_anew, SHARDS: from_ours_anew}


def reading(scratch: Path, paths: list[Path], repeats: int) -> list[dict]:
    """Return rows of the time to read a clip and of the disk space, for each way of storing."""
    for number, path in enumerate(tqdm(paths, desc="storing", unit="video", disable=None)):
        jpegs = extract_jpegs(path)
        store_all(scratch, f"v{number:03d}", jpegs)
    names = [f"v{number:03d}" for number in range(len(paths))]
    pack(scratch / SHARDS)
    rows = []
    for state, ways in (("warm", WARM), ("cold", COLD)):
        times = race(scratch, ways, names, repeats, cold=state == "cold")
        rows += _rows(f"read {CLIP} of {len(jpegs)} frames, {state}", "time_ms", times)
    used = {way: disk_use(scratch / way, names) for way in WARM}
    for way, (files, mib) in used.items():
        rows.append(
            {
                "what": f"{len(names)} videos on the disk",
                "way": way,
                "files": files,
                "mib": mib,
                "ratio": files / used["ours"][0],
            }
        )
    return rows


def long_videos(scratch: Path, path: Path, repeats: int) -> list[dict]:
    """Return rows of the time to read a clip from videos of LENGTHS frames."""
    jpegs = extract_jpegs(path)
    rows = []
    for length in LENGTHS:
        name = f"long{length}"
        frames = (jpegs * (length // len(jpegs) + 1))[:length]
        store_all(scratch, name, frames, files=False)
        pack(scratch / SHARDS)
        for state, ways in (("warm", WARM), ("cold", COLD)):
            ways = {way: read for way, read in ways.items() if way != "JPEG files"}
            times = race(scratch, ways, [name], max(repeats // 4, 8), cold=state == "cold")
            rows += _rows(f"read {CLIP} of {length} frames, {state}", "time_ms", times)
        for way in WARM:
            shutil.rmtree(scratch / way / name, ignore_errors=True)
    return rows


def store_all(scratch: Path, name: str, jpegs: list[bytes], *, files: bool = True) -> None:
    """Store the same frames in every way, in `<scratch>/<way>/<name>`; wait for the disk.

    Without `files`, no JPEG files are written.
    """
    write_store(scratch / "ours" / name, name, jpegs)
    shutil.copytree(scratch / "ours" / name, scratch / SHARDS / name)
    original = scratch / "original layout" / name
    write_original_store(original, name, jpegs)
    (original / "n_frames").write_text(str(len(jpegs)))
    if files:
        folder = scratch / "JPEG files" / name
        folder.mkdir(parents=True)
        for number, jpeg in enumerate(jpegs, start=1):
            (folder / f"frame_{number:05d}.jpg").write_bytes(jpeg)
    os.sync()


def pack(jpg: Path) -> None:
    """Pack the stores of a folder into a shard, as `run.convert --pack` does."""
    with Packer(jpg) as packer:
        for folder in sorted(path for path in jpg.iterdir() if path.is_dir()):
            packer.add(folder)
        packer.finish()
    assert not packer.failed, packer.failed
    os.sync()


def race(
    scratch: Path, ways: dict[str, Read], names: list[str], repeats: int, *, cold: bool
) -> dict[str, float]:
    """Return the median milliseconds that each way takes to read a clip. They take turns."""
    rng = np.random.default_rng(0)
    times: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(repeats + 2):
        name = names[turn % len(names)]
        count = len(FrameStore(scratch / "ours" / name))
        start = int(rng.integers(count - CLIP * INTERVAL))
        indices = list(range(start, start + CLIP * INTERVAL, INTERVAL))
        results = []
        for way in random.Random(turn).sample(list(ways), len(ways)):
            folder = scratch / way / name
            if cold:
                forget(folder)
            else:
                ways[way](folder, indices)
            before = time.perf_counter()
            results.append(ways[way](folder, indices))
            times[way].append((time.perf_counter() - before) * 1e3)
        assert all(result == results[0] for result in results), "the ways read different frames"
    return {way: statistics.median(spent[2:]) for way, spent in times.items()}


def forget(folder: Path) -> None:
    """Drop the contents of a folder's files from the kernel's memory; they must be on the disk."""
    # a video in a shard has no folder of its own: the shards are in the folder above
    folder = folder if folder.is_dir() else folder.parent
    for path in (path for path in folder.iterdir() if path.is_file()):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def disk_use(folder: Path, names: Iterable[str]) -> tuple[int, float]:
    """Return the number of files and folders of some videos, and their size on the disk in MiB."""
    inodes = [entry for name in names for entry in (folder / name, *(folder / name).glob("*"))]
    inodes = [path for path in inodes if path.exists()] or list(folder.glob("shard*"))
    return len(inodes), sum(path.stat().st_blocks for path in inodes) * 512 / 2**20


# Converting


def converting(scratch: Path, paths: list[Path], peer: Path | None) -> list[dict]:
    """Return rows of the time to convert videos, with as many processes as there are cores."""
    videos = scratch / "videos"
    for path in paths:
        link = videos / path.parent.name / path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.absolute())
    cores = usable_cores()
    options = ["--short-side", str(SHORT_SIDE), "--quality", str(QUALITY), "--workers", str(cores)]
    ways: dict[str, Callable[[Path], object]] = {
        "ours": lambda out: convert.main(
            ["--videos", str(videos), "--dataset", str(out), *options]
        ),
        "JPEG files, then SQLite": lambda out: by_files(videos, out, cores),
    }
    if peer:
        ways["dataset2database, our size and quality"] = lambda out: by_peer(
            peer, videos, out, as_it_is=False
        )
        ways["dataset2database as it is (360 rows)"] = lambda out: by_peer(
            peer, videos, out, as_it_is=True
        )
    times: dict[str, list[float]] = {way: [] for way in ways}
    counts: dict[str, list[int]] = {}
    for turn in range(3):
        for number, way in enumerate(ways):
            out = scratch / f"out{turn}{number}"
            before = time.perf_counter()
            ways[way](out)
            times[way].append(time.perf_counter() - before)
            counts[way] = [len(FrameStore(path.parent)) for path in sorted(out.rglob("frames.db"))]
            shutil.rmtree(out)
    for way, found in counts.items():
        # the other ways let ffmpeg make the frame rate constant, which adds or drops a few frames
        same = len(found) == len(paths) and np.allclose(found, counts["ours"], rtol=0.05, atol=2)
        assert same, f"{way}: {found} frames, ours: {counts['ours']}"
    medians = {way: statistics.median(spent) for way, spent in times.items()}
    return _rows(f"convert {len(paths)} videos on {cores} cores", "time_s", medians)


def by_files(videos: Path, out: Path, processes: int) -> None:
    """Convert as the original does: write JPEG files, then copy them into SQLite, by class."""
    for folder in sorted(videos.iterdir()):
        tasks = [(path, out / folder.name / path.stem) for path in sorted(folder.iterdir())]
        with Pool(processes) as pool:
            pool.starmap(_extract_files, tasks)
        with Pool(processes) as pool:
            pool.map(_collect_files, [target for _, target in tasks])


def _extract_files(path: Path, target: Path) -> None:
    target.mkdir(parents=True)
    command = [ffmpeg_executable(), "-v", "quiet", "-i", str(path)]
    shape = ["-vf", SCALE.format(side=SHORT_SIDE), "-q:v", str(QUALITY)]
    subprocess.run([*command, *shape, f"{target}/frame_%05d.jpg"], check=True)


def _collect_files(target: Path) -> None:
    with sqlite3.connect(target / "frames.db") as connection:
        connection.execute("CREATE TABLE Images(ObjId STRING, frames BLOB, size INT)")
        for file in target.glob("*.jpg"):
            jpeg = file.read_bytes()
            width = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape[1]
            row = (f"{target.name}/{file.stem}", jpeg, width)
            connection.execute("INSERT INTO Images VALUES (?, ?, ?)", row)
            file.unlink()
    connection.close()


def by_peer(python: Path, videos: Path, out: Path, *, as_it_is: bool) -> None:
    """Convert with dataset2database, as it is or with our frame size and quality.

    dataset2database runs the `ffmpeg` that it finds on PATH. Here this is a script that changes
    the options and calls the real ffmpeg.
    """
    tools = out.with_suffix(".bin")
    tools.mkdir(exist_ok=True)
    script = tools / "ffmpeg"
    mended = f'"${{arguments[@]:0:last}}" -q:v {QUALITY} "${{arguments[last]}}"'
    script.write_text(
        "#!/bin/bash\n"
        f"scale={shlex.quote(SCALE.format(side=SHORT_SIDE))}\n"
        'arguments=("${@/scale=-1:360/$scale}")\n'
        "last=$((${#arguments[@]} - 1))\n"
        f"exec {ffmpeg_executable()} -nostdin " + ('"$@"' if as_it_is else mended) + "\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    code = f"from dataset2database import convert; convert('{videos.name}/', '{out.name}')"
    subprocess.run(
        [python.absolute(), "-c", code],
        cwd=videos.parent,
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
        check=True,
        capture_output=True,
    )
