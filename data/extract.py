"""The frames of a video file as JPEGs, through ffmpeg and a pipe: nothing lands on the disk."""

from __future__ import annotations

import functools
import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import IO

import ffmpeg

from data.errors import DataError

log = logging.getLogger(__name__)

# The short side comes down to {side}; a frame that is no larger stays as it is. Rotated videos
# have been turned upright before this filter sees them.
SCALE = "scale='round(iw*min(1,{side}/min(iw,ih)))':'round(ih*min(1,{side}/min(iw,ih)))'"
LENGTH = b"content-length:"
LAST_WORDS = 4096  # bytes of ffmpeg's complaints that are read: those at the end


def extract_jpegs(
    video: str | os.PathLike,
    *,
    short_side: int,
    quality: int = 3,
    keep_damaged: bool = False,
    stop: Event | None = None,
) -> Iterator[bytes]:
    """Every frame of a video's first picture stream as one JPEG, in order, upright.

    Args:
        video: the file, of any format that ffmpeg reads.
        short_side: pixels of a frame's shorter side. Smaller frames are not made larger.
        quality: ffmpeg's scale for JPEG, from 2 (best) to 31.
        keep_damaged: take what can be decoded of a damaged video.
        stop: once set, the extraction ends by `Stopped`.

    Damage that ffmpeg can mend, and an end that is missing where the format does not tell, is no
    error: the frames that there are come, and a warning says so.

    Raises:
        DataError: after the last good frame, if the video is damaged, is no video or has no frame.
    """
    with (
        tempfile.TemporaryFile() as complaints,  # a pipe would have to be drained beside stdout
        subprocess.Popen(
            _command(Path(video), short_side, quality, keep_damaged),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            start_new_session=True,  # a Ctrl-C is for us: ffmpeg would end as if the video did
        ) as process,
    ):
        try:
            count = 0
            for jpeg in _parts(process.stdout):
                if stop is not None and stop.is_set():
                    raise Stopped
                yield jpeg
                count += 1
        except BaseException:
            process.kill()
            raise
        code = process.wait()
        if count == 0 or (code != 0 and not keep_damaged):
            raise DataError(f"{video}: {_reason(complaints, count)}")
        if complaints.seek(0, os.SEEK_END):
            log.warning("%s: %s; kept", video, _reason(complaints, count))


class Stopped(Exception):
    """The extraction was told to stop."""


def _command(video: Path, short_side: int, quality: int, keep_damaged: bool) -> list[str]:
    # "file:" keeps a colon in the name from being taken for a protocol. One thread each: the
    # videos, not their parts, are what runs in parallel.
    stream = ffmpeg.input("file:" + os.fspath(video.absolute()), threads=1)
    stream = stream["V:0"].output(
        "pipe:",
        format="mpjpeg",  # JPEGs, each behind its length
        vcodec="mjpeg",
        vf=SCALE.format(side=short_side),
        pix_fmt="yuvj420p",
        threads=1,
        max_error_rate=1 if keep_damaged else 0,
        **{"q:v": quality, _every_frame(): "passthrough"},
    )
    quiet = ("-v", "error", "-nostdin", "-hide_banner", "-filter_threads", "1")
    return ffmpeg.compile(stream.global_args(*quiet), cmd=ffmpeg_executable())


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
    return f"{what} (ffmpeg: {said[0]})" if said else what
