"""When a run was saved last: whether `last.pth` is due, and which file is newer than it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass
class SaveClock:
    """The step of the last save, the time of `last.pth`, and the file that is newer than it."""

    step: int = 0  # the step that a resumed run would take next
    last_at: float = -math.inf  # when last.pth was written, by time.monotonic
    newer: Path | None = None  # an epoch's checkpoint that is newer than last.pth

    @property
    def seconds(self) -> float:
        """Seconds since `last.pth` was written by this process; infinite before the first time."""
        return time.monotonic() - self.last_at

    def saved_last(self, step: int) -> None:
        """Note that `last.pth` was written; `step` is the next."""
        self.step, self.last_at, self.newer = step, time.monotonic(), None

    def saved_epoch(self, step: int, path: Path) -> None:
        """Note that an epoch's checkpoint was written, not `last.pth`; `step` is the next."""
        self.step, self.newer = step, path
