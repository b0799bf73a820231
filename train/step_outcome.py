"""What a training step reports, read from the device after the next step has been started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

NAMED = 8  # clips that a message lists


@dataclass
class StepOutcome:
    """A step that has been started; its numbers may still be being computed.

    Reading `loss`, `applied`, `left_out` or `scale` waits for the device the first time.
    """

    epoch: int
    step: int
    lr: float
    shape: tuple[int, ...]  # of the batch of clips
    videos: list[int]  # the videos that the clips are of
    fetch: Callable[[], list[float]]  # waits for the device; returns the numbers below in order
    _numbers: list[float] = field(default_factory=list)

    def _number(self, at: int) -> float:
        if not self._numbers:
            self._numbers = self.fetch()
        return self._numbers[at]

    @property
    def loss(self) -> float:
        """Mean loss over this rank's clips."""
        return self._number(0)

    @property
    def applied(self) -> bool:
        """Whether the weights were updated, in all ranks alike."""
        return bool(self._number(1))

    @property
    def left_out(self) -> bool:
        """Whether the step counts as one that `--on-nan` speaks of.

        Under fp16, gradients that overflow are a matter of the loss scale, and do not count.
        """
        return bool(self._number(2))

    @property
    def scale(self) -> float:
        """The loss scale after the step; 1 without loss scaling."""
        return self._number(3)

    def where(self, names: Callable[[int], str]) -> str:
        """Epoch, step, learning rate, shape and first clips. `names` gives a video's name."""
        clips = ", ".join(map(names, self.videos[:NAMED]))
        more = ", ..." if len(self.videos) > NAMED else ""
        shape = ",".join(map(str, self.shape))
        return (
            f"epoch {self.epoch}, step {self.step}, lr {self.lr:g}, batch ({shape}), "
            f"clips {clips}{more}"
        )
