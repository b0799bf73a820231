"""Measure the speed of reading, forward and backward passes, and tell if reading is too slow."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import torch

from train.stopwatch import Stopwatch

#: Clips per second: a speed is slow (red) below the first, fast (green) from the second on.
LIMITS = {"r": (100, 3000), "f": (50, 300), "b": (20, 200)}
RED, YELLOW, GREEN, PLAIN = "\033[31m", "\033[33m", "\033[32m", "\033[0m"
READER_BOUND = 0.3  # the log says so if steps wait for data during a larger share of the time


def coloured(name: str, speed: float) -> str:
    """Return `r=1.53e+5` in red, yellow or green. `name` is r, f or b; `speed` is in clips/s."""
    slow, fast = LIMITS[name]
    colour = RED if speed < slow else YELLOW if speed < fast else GREEN
    return f"{colour}{name}={_short(speed)}{PLAIN}"


def _short(speed: float) -> str:
    mantissa, exponent = f"{speed:.2e}".split("e")
    return f"{mantissa}e{int(exponent):+d}"


class SpeedMonitor:
    """Times the steps since the last report.

    Reading is the time that steps waited for their batches. Forward and backward passes are timed
    on the device (CUDA events). The rest of the wall-clock time is overhead of the loop.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.restart()

    def restart(self) -> None:
        """Set all times to zero."""
        self.clips = 0
        self._waited = 0.0
        self._watches = {name: Stopwatch(self.device) for name in ("forward", "backward")}
        self._since = time.perf_counter()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Time a wait for data."""
        since = time.perf_counter()
        yield
        self._waited += time.perf_counter() - since

    def timing(self, part: str) -> contextlib.AbstractContextManager[None]:
        """Time a `forward` pass, or a `backward` pass, which includes the update."""
        return self._watches[part].running()

    def report(self) -> SpeedReport:
        """Return the times since the last report, and start the next one."""
        report = SpeedReport(
            clips=self.clips,
            reading=self._waited,
            forward=self._watches["forward"].seconds(),
            backward=self._watches["backward"].seconds(),
            wall=time.perf_counter() - self._since,
        )
        self.restart()
        return report


class SpeedReport:
    """What some steps took: seconds of reading, forward and backward passes; number of clips."""

    def __init__(self, *, clips: int, reading: float, forward: float, backward: float, wall: float):
        self.clips, self.wall = clips, max(wall, 1e-9)
        self.seconds = {"r": reading, "f": forward, "b": backward}

    @property
    def speeds(self) -> dict[str, float]:
        """Clips per second of reading (r), forward (f) and backward (b) passes."""
        return {name: self.clips / max(s, 1e-9) for name, s in self.seconds.items()}

    @property
    def waiting(self) -> float:
        """Share of the wall-clock time spent waiting for data."""
        return self.seconds["r"] / self.wall

    @property
    def overhead(self) -> float:
        """Share of the wall-clock time that is neither waiting nor forward nor backward."""
        return 1 - sum(self.seconds.values()) / self.wall

    def __str__(self) -> str:
        """Return `Speed (r=1.53e+5 f=9.84e+1 b=1.78e+1) clip/sec`, coloured, as in the original."""
        speeds = " ".join(coloured(name, speed) for name, speed in self.speeds.items())
        return f"Speed ({speeds}) clip/sec"

    def verdict(self, workers: int) -> str | None:
        """Return a line for the log if waiting for data slows the run down, else None."""
        if self.waiting < READER_BOUND:
            return None
        return (
            f"reader-bound: {self.waiting:.0%} of the step waits for data; "
            f"try --workers {max(2, 2 * workers)}"
        )
