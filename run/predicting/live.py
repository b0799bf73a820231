"""Recognise actions in a stream while it runs: always in its newest clip."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import cv2
import numpy as np
import torch

from data.augment.crop import Crop
from data.augment.program import Program
from data.clips.clip_dataset import ClipOptions
from data.data_error import DataError
from run.predicting.segments import blend
from run.predicting.stream_reader import NewestFrames, StreamReader
from train.config import Config
from train.devices import Devices
from train.input_normalisation import normalised

POLL = 0.2  # seconds between two checks whether to stop


class LiveAnswer(NamedTuple):
    """The answer to the newest clip of a stream. Moments are seconds of the stream."""

    start: float  # where the answer before ends
    moment: float  # of the clip's last frame
    latency: float  # seconds from the arrival of that frame to the answer
    read: int  # frames of the stream so far
    dropped: int  # of them, frames that were too old before any clip could reach them
    scores: np.ndarray  # float64 (classes,), probabilities, smoothed over the answers so far


def watch(
    net: torch.nn.Module,
    source: str,
    config: Config,
    options: ClipOptions,
    devices: Devices,
    *,
    every: float,
    smoothing: float,
    short_side: int,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[LiveAnswer]:
    """Yield answers until the stream ends.

    The first clip is taken once the stream is as long as a clip, the others `every` seconds apart,
    or later if the network takes longer. The last one ends at the end of the stream.

    Args:
        net: the network.
        source: number of a camera, address of a network stream, or a file.
        config: shape of the clips.
        options: frame rate and crop of the clips.
        devices: the device to compute on.
        every: seconds from one clip to the next.
        smoothing: time constant of the exponential that smooths the scores, in seconds.
        short_side: to which frames are resized before they are cropped, in pixels.
        stopped: is asked several times a second whether to end.

    Raises:
        DataError: the source cannot be opened, or an answer is not finite.
    """
    crop, program = Crop(options.share), Program([])

    def prepare(frame: np.ndarray) -> np.ndarray:
        return program.render(shrunk(frame, short_side)[None], crop, config.clip_size)[0]

    frames = NewestFrames(config.clip_length, fps=options.fps, interval=options.intervals[0])
    reader = StreamReader(source, prepare, frames)
    reader.start()
    scores, due, last = None, 0.0, 0.0
    try:
        while not stopped():
            if not frames.wait(due, POLL):
                continue
            ended = frames.ended
            window = frames.window()
            if window is not None:
                found = _scores(net, window.clip, devices)
                scores = blend(scores, found, window.moment - last, smoothing)
                latency = time.monotonic() - window.arrived
                counts = window.read, window.dropped
                yield LiveAnswer(last, window.moment, latency, *counts, scores)
                last, due = window.moment, max(due, window.moment) + every
            if ended:
                break
    finally:
        reader.stop()


def shrunk(frame: np.ndarray, short_side: int) -> np.ndarray:
    """Return a frame, uint8 (H, W, 3), whose shorter side has at most `short_side` pixels."""
    factor = short_side / min(frame.shape[:2])
    if factor >= 1:
        return np.ascontiguousarray(frame)
    size = (round(frame.shape[1] * factor), round(frame.shape[0] * factor))
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)


@torch.no_grad()
def _scores(net: torch.nn.Module, clip: np.ndarray, devices: Devices) -> np.ndarray:
    """Return the probabilities of a clip, uint8 (T, S, S, 3): float64 (classes,)."""
    batch = torch.from_numpy(clip[None]).permute(0, 4, 1, 2, 3)  # (1, 3, T, S, S)
    with devices.autocast():
        logits = net(normalised(net, devices.to_device(batch)))
    scores = logits.float().softmax(1)[0].double().cpu().numpy()
    if not np.isfinite(scores).all():
        raise DataError("the network's answer is not finite; try --precision fp32")
    return scores
