"""Find out what this machine has, without torch: versions, ffmpeg, memory, disk, cores, GPUs."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
from pathlib import Path

import psutil

from data.data_error import DataError
from data.store.ffmpeg import ffmpeg_executable
from run.checks.finding import ERROR, NOTE, OK, WARNING, Finding
from train.cpu_cores import usable_cores

try:
    import resource
except ImportError:  # Windows
    resource = None

GIB = 2**30
PACKAGES = (
    *("torch", "torchvision", "numpy", "opencv-python", "simplejpeg", "imgaug", "matplotlib"),
    *("tensorboard", "tqdm"),
)
SHARED_MEMORY = Path("/dev/shm")
#: A training batch of 32 clips of 16 x 256 x 256 pixels takes 0.1 GB, and each worker has two.
ENOUGH_SHARED_MEMORY = 1 * GIB
ENOUGH_DISK = 5 * GIB  # for checkpoints and the results of a run
ENOUGH_OPEN_FILES = 1024
TIMEOUT = 20  # seconds for a program that says its version


def check_machine(folder: Path) -> list[Finding]:
    """Return findings about versions, ffmpeg, cores, memory, the disk of `folder`, and GPUs."""
    findings = [
        _versions(),
        _ffmpeg(),
        Finding(OK, "cores", f"{usable_cores()} usable of {psutil.cpu_count()}"),
        _memory(),
        shared_memory(SHARED_MEMORY),
        free_disk(folder),
        _open_files(),
        _gpus(),
    ]
    return [finding for finding in findings if finding]


def _versions() -> Finding:
    found = [f"Python {platform.python_version()}"]
    missing = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    text = ", ".join([*found, platform.platform()])
    if missing:
        return Finding(ERROR, "versions", f"{text}; missing: {', '.join(missing)}", "`make setup`")
    return Finding(OK, "versions", text)


def _ffmpeg() -> Finding:
    try:
        path = ffmpeg_executable()
    except DataError as error:
        return Finding(ERROR, "ffmpeg", str(error), "install ffmpeg, or pip install imageio-ffmpeg")
    said = run_program([path, "-version"])
    if not said:
        return Finding(ERROR, "ffmpeg", f"{path} does not run", "install another ffmpeg")
    version = said.splitlines()[0].removeprefix("ffmpeg version ").split(" Copyright")[0]
    return Finding(OK, "ffmpeg", f"{version} ({path})")


def run_program(words: list[str]) -> str | None:
    """Return what a program prints; None if there is no such program, or if it fails or hangs."""
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace")


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    text = f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB are free"
    return Finding(OK, "memory", text)


def shared_memory(folder: Path) -> Finding | None:
    """Check the memory through which the loader's workers hand on clips."""
    if not folder.is_dir():
        return None
    usage = shutil.disk_usage(folder)
    text = f"{folder}: {usage.free / GIB:.2f} of {usage.total / GIB:.2f} GiB are free"
    if usage.free < ENOUGH_SHARED_MEMORY:
        remedy = (
            "enlarge it (docker run --shm-size 8g, or `mount -o remount,size=8G /dev/shm`), or "
            "train with few --workers, or with --workers 0, which needs none"
        )
        return Finding(WARNING, "shared memory", f"{text}; a worker needs up to 0.2", remedy)
    return Finding(OK, "shared memory", text)


def free_disk(folder: Path) -> Finding:
    """Check the free space of the disk that a folder is on."""
    usage = shutil.disk_usage(folder)
    text = f"{folder}: {usage.free / GIB:.1f} of {usage.total / GIB:.1f} GiB are free"
    if usage.free < ENOUGH_DISK:
        remedy = "free some space: an hour of video takes 1 GB, a run's checkpoints up to several"
        return Finding(WARNING, "disk", text, remedy)
    return Finding(OK, "disk", text)


def _open_files() -> Finding | None:
    if resource is None:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= limit < ENOUGH_OPEN_FILES:
        return Finding(WARNING, "open files", f"at most {limit}", "`ulimit -n 4096`")
    return Finding(OK, "open files", "no limit" if limit < 0 else f"at most {limit}")


def _gpus() -> Finding:
    found = nvidia_gpus()
    if not found:
        return Finding(NOTE, "GPUs", "nvidia-smi shows none; training runs on the CPU")
    return Finding(OK, "GPUs", "; ".join(found))


def nvidia_gpus() -> list[str]:
    """Return name, memory and driver of each GPU that nvidia-smi shows."""
    query = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    return [line.strip() for line in (run_program(["nvidia-smi", *query]) or "").splitlines()]
