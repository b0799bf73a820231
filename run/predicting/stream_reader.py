"""Read a camera, a network stream or a file in real time, and keep its newest frames.

A thread reads every frame as soon as it arrives. Whoever is slower than the stream gets the newest
frames and misses older ones; time is never stretched.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import cv2
import numpy as np

from data.data_error import DataError
from data.store.ffmpeg import check_regular_file

TIMEOUT = 10_000  # milliseconds to wait for a network stream to open, or for its next frame
LARGEST_DRIFT = 2.0  # seconds between a stream's time stamps and the clock of this machine
MOST_FRAMES = 2000  # that are kept, whatever the time stamps say


class StreamClock:
    """Gives each frame of a stream its moment, in seconds from the first frame; moments rise.

    The time stamps of a stream are more regular than the arrival of its frames, so they are used
    while they rise and keep up with the clock. Cameras without time stamps, or a stream that begins
    again, are timed by the arrival of their frames.
    """

    def __init__(self) -> None:
        self._offset: float | None = None  # from time stamps to moments
        self._last = -1.0  # moment
        self._first_arrival = 0.0

    def moment(self, stamp: float, arrival: float) -> float:
        """Return a frame's moment.

        Args:
            stamp: the stream's time stamp of the frame, in seconds.
            arrival: when the frame arrived, in seconds of any clock that never goes back.
        """
        if self._offset is None:
            self._first_arrival, self._offset, self._last = arrival, -stamp, 0.0
            return 0.0
        passed = arrival - self._first_arrival
        moment = stamp + self._offset
        if moment <= self._last or abs(moment - passed) > LARGEST_DRIFT:
            moment = max(passed, self._last + 1e-3)
            self._offset = moment - stamp
        self._last = moment
        return moment


class Window(NamedTuple):
    """The newest clip of a stream."""

    clip: np.ndarray  # uint8 (T, S, S, 3)
    moment: float  # of its last frame, in seconds of the stream
    arrived: float  # when its last frame arrived, by time.monotonic()
    read: int  # frames of the stream until then
    dropped: int  # frames that were replaced by newer ones before any clip could reach them


class _Frame(NamedTuple):
    number: int
    moment: float
    arrived: float
    pixels: np.ndarray  # uint8 (S, S, 3)


class NewestFrames:
    """The newest frames of a stream, as many as a clip reaches over. Safe between threads.

    Args:
        length: frames of a clip.
        fps: frames per second of a clip; None to take every `interval`-th frame.
        interval: frames of the stream from one frame of a clip to the next.
    """

    def __init__(self, length: int, *, fps: float | None, interval: int):
        self.length, self.fps, self.interval = length, fps, interval
        self.read = self.dropped = 0
        self.ended = False
        self._frames: deque[_Frame] = deque()
        self._reached = -1  # number of the newest frame that a clip has reached
        self._changed = threading.Condition()

    def add(self, moment: float, arrived: float, pixels: np.ndarray) -> None:
        """Add the next frame, and forget those that the next clip would not reach."""
        with self._changed:
            self._frames.append(_Frame(self.read, moment, arrived, pixels))
            self.read += 1
            while len(self._frames) > 1 and self._reaches_beyond(self._frames[1]):
                forgotten = self._frames.popleft()
                self.dropped += forgotten.number > self._reached
            self._changed.notify_all()

    def _reaches_beyond(self, second: _Frame) -> bool:
        """Return whether the newest clip needs nothing before the second frame that is kept."""
        if self.fps is None:
            return len(self._frames) > (self.length - 1) * self.interval + 1
        first = self._frames[-1].moment - (self.length - 1) / self.fps
        return second.moment <= first or len(self._frames) > MOST_FRAMES

    def end(self) -> None:
        """Say that no frame will follow."""
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def wait(self, moment: float, timeout: float) -> bool:
        """Wait at most `timeout` seconds for a whole clip that ends at `moment` or later."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self.ended or (self._is_whole() and self._frames[-1].moment >= moment),
                timeout,
            )

    def _is_whole(self) -> bool:
        """Return whether the stream is as long as a clip."""
        if not self._frames:
            return False
        if self.fps is None:
            return len(self._frames) > (self.length - 1) * self.interval
        reach = self._frames[-1].moment - self._frames[0].moment
        return reach >= (self.length - 1) / self.fps - 1e-6 or len(self._frames) >= MOST_FRAMES

    def window(self) -> Window | None:
        """Return the newest clip; None if no frame has come since the last one.

        In a stream that is shorter than a clip, the first frame is repeated.
        """
        with self._changed:
            frames = list(self._frames)
            if not frames or frames[-1].number <= self._reached:
                return None
            self._reached = frames[-1].number
            read, dropped = self.read, self.dropped
        chosen = [frames[i] for i in self._places(np.array([one.moment for one in frames]))]
        clip = np.stack([one.pixels for one in chosen])
        return Window(clip, frames[-1].moment, frames[-1].arrived, read, dropped)

    def _places(self, moments: np.ndarray) -> list[int]:
        """Return the places of a clip's frames in the frames that are kept, (T,)."""
        back = np.arange(self.length)[::-1]
        if self.fps is None:
            places = len(moments) - 1 - back * self.interval
        else:  # the nearest frames
            between = (moments[1:] + moments[:-1]) / 2
            places = np.searchsorted(between, moments[-1] - back / self.fps)
        return np.maximum(places, 0).tolist()


def is_address(source: str) -> bool:
    """Return whether a source is the address of a network stream, such as rtsp://camera/live."""
    return "://" in source


def shown_source(source: str) -> str:
    """Return a source for printing: a network stream's without user name and password."""
    if not is_address(source):
        return source
    parts = urlsplit(source)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


class StreamReader(threading.Thread):
    """The thread that reads a stream.

    Args:
        source: number of a camera, address of a network stream, or a file, which is read at the
            speed at which it would be shown.
        prepare: makes pixels, uint8 (S, S, 3) RGB, of a frame, uint8 (H, W, 3) RGB.
        frames: where they are put.

    Raises:
        DataError: the source cannot be opened.
    """

    def __init__(
        self, source: str, prepare: Callable[[np.ndarray], np.ndarray], frames: NewestFrames
    ):
        super().__init__(name="stream reader", daemon=True)
        self.prepare, self.frames = prepare, frames
        self.is_file = not (is_address(source) or source.isdecimal()) or Path(source).is_file()
        self.error: Exception | None = None
        self._stop_asked = threading.Event()
        self._capture = _open(source, is_file=self.is_file)

    def run(self) -> None:
        """Read until the stream ends or `stop` is called."""
        clock, start = StreamClock(), None
        try:
            while not self._stop_asked.is_set():
                there, frame = self._capture.read()
                if not there:
                    break
                stamp = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                if self.is_file:
                    start = time.monotonic() - stamp if start is None else start
                    if self._stop_asked.wait(max(0.0, start + stamp - time.monotonic())):
                        break
                arrived = time.monotonic()
                # the time stamps of a file are right, however late it is read
                moment = clock.moment(stamp, stamp if self.is_file else arrived)
                self.frames.add(moment, arrived, self.prepare(frame[..., ::-1]))
        except Exception as error:  # raised again by `stop`
            self.error = error
        finally:
            self._capture.release()
            self.frames.end()

    def stop(self) -> None:
        """Let the thread end, and raise the error that ended it, if there was one."""
        self._stop_asked.set()
        self.join(TIMEOUT / 1000 + 1)
        if self.error:
            raise self.error


def _open(source: str, *, is_file: bool) -> cv2.VideoCapture:
    # OpenCV's and ffmpeg's own messages take many lines, and show passwords in addresses
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    shown = shown_source(source)
    if is_file:
        check_regular_file(source)
        capture, what = cv2.VideoCapture(source, cv2.CAP_FFMPEG), "is no video"
    elif is_address(source):
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT]
        capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits)
        what = f"there is no stream, or it does not answer in {TIMEOUT / 1000:.0f} s"
    else:
        shown, capture = f"camera {source}", cv2.VideoCapture(int(source))
        what = "there is no such camera, or another program uses it"
    if not capture.isOpened():
        capture.release()
        raise DataError(f"{shown}: {what}")
    return capture
