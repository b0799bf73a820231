"""Write frames as an mp4, one after the other, through a pipe to ffmpeg."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import ffmpeg
import numpy as np

from data.data_error import DataError
from data.store.ffmpeg import ffmpeg_executable


def write_mp4(
    path: Path, frames: Iterable[np.ndarray], rate: float, *, shown_rate: float | None = None
) -> None:
    """Write frames as an mp4 that browsers play. Frames are taken one at a time.

    Args:
        path: the mp4.
        frames: at least one, uint8 (H, W, 3) RGB, all of one size; H and W are even.
        rate: frames per second.
        shown_rate: frames per second of the file, if frames are to be repeated or left out.

    Raises:
        DataError: there is no ffmpeg, or it fails.
    """
    frames = iter(frames)
    first = next(frames)
    height, width = first.shape[:2]
    stream = ffmpeg.input(
        "pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=rate
    ).output(
        str(path), format="mp4", pix_fmt="yuv420p", movflags="+faststart", r=shown_rate or rate
    )
    words = ffmpeg.compile(
        stream.global_args("-v", "error", "-hide_banner"), cmd=ffmpeg_executable(),
        overwrite_output=True,
    )  # fmt: skip
    with tempfile.TemporaryFile() as messages:  # a second pipe could fill up and block ffmpeg
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stderr=messages,
            start_new_session=True,  # Ctrl-C must not end ffmpeg as if the film were over
        )
        try:
            with contextlib.suppress(BrokenPipeError):  # ffmpeg says why
                for frame in itertools.chain([first], frames):
                    process.stdin.write(np.ascontiguousarray(frame).data)
                process.stdin.close()
            process.wait()
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.kill()
            process.wait()
        if process.returncode:
            messages.seek(0, os.SEEK_SET)
            said = messages.read().decode(errors="replace").strip().splitlines()
            reason = said[-1] if said else "no reason given"
            raise DataError(f"{path.name}: ffmpeg cannot write it ({reason})")
