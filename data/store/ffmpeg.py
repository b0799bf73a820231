"""The frames of a video file as JPEGs, through ffmpeg and a pipe: nothing lands on the disk."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
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

# The short side comes down to {side}; a frame that is no larger stays as it is. Rotated videos
# have been turned upright before this filter sees them.
SCALE = "scale='round(iw*min(1,{side}/min(iw,ih)))':'round(ih*min(1,{side}/min(iw,ih)))'"
# What ffmpeg may take a file for: one file with pictures in it. Playlists and scripts are missing
# (hls, dash, concat, image2, avisynth, sdp, ...): they fetch other files, whose frames would become
# a video of the dataset.
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
SOURCE = "file:a name that the video's own takes the place of"
PATIENCE = 600.0  # seconds without a frame after which ffmpeg is thought to hang
LOOK = 0.2  # seconds between two looks at whether to stop
END = 5.0  # seconds that a killed ffmpeg is waited for
LENGTH = b"content-length:"
LAST_WORDS = 4096  # bytes of ffmpeg's complaints that are read: those at the end


def extract_jpegs(
    video: str | os.PathLike,
    *,
    short_side: int,
    quality: int = 3,
    keep_damaged: bool = False,
    patience: float = PATIENCE,
    stop: Event | None = None,
) -> Iterator[bytes]:
    """Every frame of a video's first picture stream as one JPEG, in order, upright.

    Args:
        video: the file, in one of FORMATS.
        short_side: pixels of a frame's shorter side. Smaller frames are not made larger.
        quality: ffmpeg's scale for JPEG, from 2 (best) to 31.
        keep_damaged: take what can be decoded of a damaged video.
        patience: seconds without a frame after which ffmpeg is given up.
        stop: once set, the extraction ends by `Stopped`.

    Damage that ffmpeg can mend, and an end that is missing where the format does not tell, is no
    error: the frames that there are come, and a warning says so.

    Raises:
        DataError: after the last good frame, if the video is damaged, is no video, has no frame, or
            ffmpeg hangs; before the first one, if it is not a regular file.
    """
    check_regular_file(video)
    with tempfile.TemporaryFile() as complaints:  # a pipe would have to be drained beside stdout
        process = subprocess.Popen(
            _command(video, short_side, quality, keep_damaged),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            start_new_session=True,  # a Ctrl-C is for us: ffmpeg would end as if the video did
        )
        count = 0
        try:
            with io.BufferedReader(_Watched(process.stdout.fileno(), patience, stop)) as pipe:
                for jpeg in _parts(pipe):
                    if stop is not None and stop.is_set():
                        raise Stopped
                    yield jpeg
                    count += 1
            code = process.wait(patience)
        except (TimeoutError, subprocess.TimeoutExpired):
            raise DataError(
                f"{video}: ffmpeg has done nothing for {patience:g} s, after {count} frames"
            ) from None
        finally:
            process.stdout.close()
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END)  # not for ever: a disk that hangs keeps even a killed process
        if count == 0 or (code != 0 and not keep_damaged):
            raise DataError(f"{video}: {_reason(complaints, count)}")
        if complaints.seek(0, os.SEEK_END):
            log.warning("%s: %s; kept", video, _reason(complaints, count))


class Stopped(Exception):
    """The extraction was told to stop."""


class _Watched(io.RawIOBase):
    """A pipe whose reader sees `stop`, and a `TimeoutError` after `patience` seconds of silence."""

    def __init__(self, pipe: int, patience: float, stop: Event | None):
        self.pipe, self.patience, self.stop = pipe, patience, stop
        self.poll = select.poll()
        self.poll.register(pipe, select.POLLIN)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        deadline = time.monotonic() + self.patience
        while not self.poll.poll(LOOK * 1000):
            if self.stop is not None and self.stop.is_set():
                raise Stopped
            if time.monotonic() > deadline:
                raise TimeoutError
        return os.readv(self.pipe, [buffer])


def check_regular_file(path: str | os.PathLike) -> None:
    """Raise DataError where `path` is no regular file: to open a FIFO can take for ever."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 (a path of any kind)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: is {KINDS.get(stat.S_IFMT(mode), 'no file')}, not a video file")


def _command(
    video: str | os.PathLike, short_side: int, quality: int, keep_damaged: bool
) -> list[str | bytes]:
    # One thread each: the videos, not their parts, are what runs in parallel.
    stream = ffmpeg.input(
        SOURCE,
        threads=1,
        max_error_rate=1 if keep_damaged else 0,
        format_whitelist=",".join(FORMATS),
        protocol_whitelist="file",
    )
    stream = stream["V:0"].output(
        "pipe:",
        format="mpjpeg",  # JPEGs, each behind its length
        vcodec="mjpeg",
        vf=SCALE.format(side=short_side),
        pix_fmt="yuvj420p",
        threads=1,
        **{"q:v": quality, _every_frame(): "passthrough"},
    )
    quiet = ("-v", "error", "-nostdin", "-hide_banner", "-filter_threads", "1")
    words = ffmpeg.compile(stream.global_args(*quiet), cmd=ffmpeg_executable())
    # ffmpeg-python takes names in UTF-8 only, so the real one is put in as bytes. "file:" keeps a
    # colon in it from being a protocol.
    source = b"file:" + os.path.abspath(os.fsencode(video))  # noqa: PTH100 (bytes)
    return [source if word == SOURCE else word for word in words]


@functools.cache
def ffmpeg_executable() -> str:
    """The system's ffmpeg, or the one that the package imageio-ffmpeg brings."""
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
    """The option against dropping and doubling frames: `vsync` until ffmpeg 5.1."""
    try:
        shown = subprocess.run(
            [ffmpeg_executable(), "-version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise DataError(f"{ffmpeg_executable()}: cannot be run ({error})") from error
    version = re.match(r"ffmpeg version n?(\d+)\.(\d+)", shown)
    old = version is not None and (int(version[1]), int(version[2])) < (5, 1)
    return "vsync" if old else "fps_mode"


def _parts(pipe: IO[bytes]) -> Iterator[bytes]:
    """The bodies of a multipart stream whose every part says its length; a cut-off one is left."""
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


def _reason(complaints: IO[bytes], count: int) -> str:
    """What ffmpeg said first of what is left of its complaints, in one line."""
    size = complaints.seek(0, os.SEEK_END)
    complaints.seek(max(0, size - LAST_WORDS))
    lines = complaints.read().decode(errors="replace").splitlines()[size > LAST_WORDS :]
    said = [re.sub(r"^\[.*?\] ?", "", line).strip() for line in lines if line.strip()]
    what = f"damaged, {count} frames can be decoded" if count else "no frame can be decoded"
    if said and "not on whitelist" in said[0]:
        return "is a playlist, a picture or of another kind that is not taken for a video"
    return f"{what} (ffmpeg: {said[0]})" if said else what
