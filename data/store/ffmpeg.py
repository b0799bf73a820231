"""Extract the frames of a video file as JPEGs, through a pipe from ffmpeg."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import math
import os
import re
import select
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from threading import Event
from typing import IO

import ffmpeg

from data.data_error import DataError

log = logging.getLogger(__name__)

# Shrinks the short side to {side} pixels and leaves smaller frames as they are. Rotated videos have
# been turned upright before this filter gets their frames.
SCALE = "scale='round(iw*min(1,{side}/min(iw,ih)))':'round(ih*min(1,{side}/min(iw,ih)))'"
# Writes a line with the time of each frame, in microseconds, to an open file. Only frames that have
# metadata are printed, so some is added.
TIMES = "settb=AVTB,metadata=add:key=time:value=0,metadata=print:file=pipe\\\\:{file}"
TIME = re.compile(rb"^frame:\d+\s+pts:(\S+)", re.MULTILINE)
# The formats that ffmpeg may read. Playlists and scripts (hls, dash, concat, image2, avisynth, sdp
# and others) are left out on purpose: they name other files, whose frames would get into the store.
FORMATS = (
    *("3gp", "apng", "asf", "av1", "avi", "bink", "cavsvideo", "dirac", "dv", "film_cpk", "flic"),
    *("flv", "gif", "gxf", "h261", "h263", "h264", "hevc", "ivf", "kux", "live_flv", "m4v"),
    *("matroska", "mjpeg", "mov", "mpeg", "mpegts", "mpegvideo", "mv", "mvi", "mxf", "nsv"),
    *("nut", "nuv", "obu", "ogg", "pmp", "r3d", "rm", "roq", "smk", "swf", "vc1", "vc1test", "vvc"),
    *("webm", "wtv", "xmv", "yuv4mpegpipe"),
)
KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}
PLACEHOLDER = "file:placeholder for the name of the video"
PATIENCE = 600.0  # seconds without a frame after which ffmpeg is considered to hang
POLL_INTERVAL = 0.2  # seconds between two checks whether to stop
KILL_TIMEOUT = 5.0  # seconds to wait for the end of a killed ffmpeg
LENGTH = b"content-length:"
LAST_BYTES = 4096  # of ffmpeg's error messages that are read


def extract_jpegs(
    video: str | os.PathLike,
    *,
    short_side: int,
    quality: int = 3,
    keep_damaged: bool = False,
    patience: float = PATIENCE,
    stop: Event | None = None,
    times: list[float] | None = None,
) -> Iterator[bytes]:
    """Yield every frame of a file's first video stream as a JPEG, in order and upright.

    Damage that ffmpeg repairs, or a missing end that the format does not reveal, is not an error:
    the frames that can be decoded are yielded and a warning is logged.

    Args:
        video: the file, in one of FORMATS.
        short_side: pixels of a frame's shorter side. Smaller frames are not enlarged.
        quality: of the JPEGs, on ffmpeg's scale from 2 (best) to 31.
        keep_damaged: keep the frames of a damaged video that can be decoded, without an error.
        patience: seconds to wait for the next frame.
        stop: once this is set, `Stopped` is raised.
        times: is filled with the seconds of each frame, NaN where the file does not say them,
            after the last frame.

    Raises:
        DataError: before the first frame, if this is not a regular file; after the last good
            frame, if the video is damaged or has no frames, is not a video, or ffmpeg hangs.
        Stopped: `stop` was set.
    """
    check_regular_file(video)
    # Files, because a second pipe could fill up and block ffmpeg.
    with tempfile.TemporaryFile() as messages, tempfile.TemporaryFile() as stamps:
        process = subprocess.Popen(
            _command(video, short_side, quality, keep_damaged, stamps.fileno()),
            pass_fds=(stamps.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=messages,
            start_new_session=True,  # Ctrl-C must not end ffmpeg as if the video were over
        )
        count = 0
        try:
            with io.BufferedReader(_Watched(process.stdout.fileno(), patience, stop)) as pipe:
                for jpeg in _split_stream(pipe):
                    if stop is not None and stop.is_set():
                        raise Stopped
                    yield jpeg
                    count += 1
            code = process.wait(patience)
        except (TimeoutError, subprocess.TimeoutExpired):
            raise DataError(
                f"{video}: ffmpeg has given no frame for {patience:g} s, after {count} frames"
            ) from None
        finally:
            process.stdout.close()
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(KILL_TIMEOUT)  # a hanging disk keeps even a killed process
        if count == 0 or (code != 0 and not keep_damaged):
            raise DataError(f"{video}: {_reason(messages, count)}")
        if messages.seek(0, os.SEEK_END):
            log.warning("%s: %s; kept", video, _reason(messages, count))
        if times is not None:
            stamps.seek(0)
            times[:] = map(_seconds, TIME.findall(stamps.read()))


class Stopped(Exception):
    """The extraction was stopped by its caller."""


class _Watched(io.RawIOBase):
    """A pipe. Reading raises Stopped once `stop` is set, TimeoutError after `patience` seconds."""

    def __init__(self, pipe: int, patience: float, stop: Event | None):
        self.pipe, self.patience, self.stop = pipe, patience, stop
        self.poll = select.poll()
        self.poll.register(pipe, select.POLLIN)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        deadline = time.monotonic() + self.patience
        while not self.poll.poll(POLL_INTERVAL * 1000):
            if self.stop is not None and self.stop.is_set():
                raise Stopped
            if time.monotonic() > deadline:
                raise TimeoutError
        return os.readv(self.pipe, [buffer])


def check_regular_file(path: str | os.PathLike) -> None:
    """Raise DataError unless `path` is a regular file; opening a FIFO could wait for ever."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 (a path of any kind)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: is {KINDS.get(stat.S_IFMT(mode), 'no file')}, not a video file")


def _command(
    video: str | os.PathLike, short_side: int, quality: int, keep_damaged: bool, stamps: int
) -> list[str | bytes]:
    # One thread for each ffmpeg, because several videos are converted in parallel.
    stream = ffmpeg.input(
        PLACEHOLDER,
        threads=1,
        max_error_rate=1 if keep_damaged else 0,
        format_whitelist=",".join(FORMATS),
        protocol_whitelist="file",
    )
    stream = stream["V:0"].output(
        "pipe:",
        format="mpjpeg",  # each JPEG preceded by its length
        vcodec="mjpeg",
        vf=f"{SCALE.format(side=short_side)},{TIMES.format(file=stamps)}",
        pix_fmt="yuvj420p",
        threads=1,
        **{"q:v": quality, _every_frame(): "passthrough"},
    )
    quiet = ("-v", "error", "-nostdin", "-hide_banner", "-filter_threads", "1")
    words = ffmpeg.compile(stream.global_args(*quiet), cmd=ffmpeg_executable())
    # ffmpeg-python accepts only names in UTF-8, so the real name is inserted afterwards, as bytes.
    # Without "file:", a colon in the name would end the name of a protocol.
    source = b"file:" + os.path.abspath(os.fsencode(video))  # noqa: PTH100 (bytes)
    return [source if word == PLACEHOLDER else word for word in words]


def _seconds(microseconds: bytes) -> float:
    return int(microseconds) / 1e6 if microseconds.lstrip(b"-").isdigit() else math.nan


def frame_times(video: str | os.PathLike, stop: Event | None = None) -> list[float]:
    """Decode a video and return the seconds of each frame. Raises as `extract_jpegs` does."""
    times: list[float] = []
    for _ in extract_jpegs(video, short_side=16, keep_damaged=True, stop=stop, times=times):
        pass
    return times


@functools.cache
def ffmpeg_executable() -> str:
    """Return the path of the system's ffmpeg, or of the one in the package imageio-ffmpeg.

    Raises:
        DataError: there is neither.
    """
    found = shutil.which("ffmpeg")
    if found:
        return found
    import imageio_ffmpeg

    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        raise DataError("there is no ffmpeg here; install it (apt install ffmpeg)") from None


@functools.cache
def _every_frame() -> str:
    """Return the option that keeps ffmpeg from dropping or repeating frames: `vsync` before 5.1."""
    try:
        shown = subprocess.run(
            [ffmpeg_executable(), "-version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise DataError(f"{ffmpeg_executable()}: cannot be run ({error})") from error
    version = re.match(r"ffmpeg version n?(\d+)\.(\d+)", shown)
    old = version is not None and (int(version[1]), int(version[2])) < (5, 1)
    return "vsync" if old else "fps_mode"


def _split_stream(pipe: IO[bytes]) -> Iterator[bytes]:
    """Yield the JPEGs of an mpjpeg stream; one that is cut off at the end is left out."""
    length = 0
    while line := pipe.readline():
        line = line.strip().lower()
        if line.startswith(LENGTH):
            length = int(line[len(LENGTH) :])
        elif not line and length:
            body = pipe.read(length)
            if len(body) == length:
                yield body
            length = 0


def _reason(messages: IO[bytes], count: int) -> str:
    """Describe the failure in one line, with the first of ffmpeg's last error messages."""
    size = messages.seek(0, os.SEEK_END)
    messages.seek(max(0, size - LAST_BYTES))
    lines = messages.read().decode(errors="replace").splitlines()[size > LAST_BYTES :]
    said = [re.sub(r"^\[.*?\] ?", "", line).strip() for line in lines if line.strip()]
    what = f"damaged, {count} frames can be decoded" if count else "no frame can be decoded"
    if said and "not on whitelist" in said[0]:
        return "is a playlist, a picture or another kind of file that is not read as a video"
    return f"{what} (ffmpeg: {said[0]})" if said else what
