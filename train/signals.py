"""Catch SIGINT and SIGTERM, so that the loop can save and stop after the current step."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


class Signals:
    """The number of the signal that has arrived, or 0."""

    def __init__(self) -> None:
        self.number = 0


@contextlib.contextmanager
def caught_signals() -> Iterator[Signals]:
    """Within the block, record the first SIGINT or SIGTERM instead of being ended by it.

    A second SIGINT ends the process, for a user who does not want to wait. Further SIGTERMs do
    nothing: a scheduler sends one to every process, and torchrun then sends its processes another.
    Outside the main thread, where Python cannot catch signals, nothing is recorded.
    """
    signals = Signals()
    usual = {}

    def note(number: int, _frame: object) -> None:
        signals.number = signals.number or number
        signal.signal(signal.SIGINT, usual[signal.SIGINT])

    with contextlib.suppress(ValueError):
        for number in (signal.SIGINT, signal.SIGTERM):
            usual[number] = signal.signal(number, note)
    try:
        yield signals
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
