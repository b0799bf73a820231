"""The outcome of a training step, read from the device after the next step has been started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

MOST_NAMES = 8  # clips that a message names


@dataclass
class StepOutcome:
    """A step that has been started; the device may still be computing its numbers.

    The first reading of `loss`, `applied`, `skipped` or `scale` waits for the device.
    """

    epoch: int
    step: int
    lr: float
    shape: tuple[int, ...]  # of the batch of clips
    videos: list[int]  # of the clips, by index
    wait_for_numbers: Callable[[], list[float]]  # loss, applied, skipped, scale
    _numbers: list[float] = field(default_factory=list)

    def _number(self, at: int) -> float:
        if not self._numbers:
            self._numbers = self.wait_for_numbers()
        return self._numbers[at]

    @property
    def loss(self) -> float:
        """Mean loss over this rank's clips."""
        return self._number(0)

    @property
    def applied(self) -> bool:
        """Whether the weights were updated; the same in all ranks."""
        return bool(self._number(1))

    @property
    def skipped(self) -> bool:
        """Whether the step counts as not finite, for `--on-nan`.

        Under fp16, a step whose gradients overflow does not count: only its loss scale was too
        large.
        """
        return bool(self._number(2))

    @property
    def scale(self) -> float:
        """The loss scale after the step; 1 without loss scaling."""
        return self._number(3)

    def where(self, names: Callable[[int], str]) -> str:
        """Return epoch, step, lr, shape and first clips as text. `names` returns a video's name."""
        clips = ", ".join(map(names, self.videos[:MOST_NAMES]))
        more = ", ..." if len(self.videos) > MOST_NAMES else ""
        shape = ",".join(map(str, self.shape))
        return (
            f"epoch {self.epoch}, step {self.step}, lr {self.lr:g}, batch ({shape}), "
            f"clips {clips}{more}"
        )
