"""SIGINT and SIGTERM as a number that the loop looks at between steps."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


class Signals:
    """Which signal has arrived: its number, or 0."""

    def __init__(self) -> None:
        self.number = 0


@contextlib.contextmanager
def caught_signals() -> Iterator[Signals]:
    """Note the first SIGINT or SIGTERM instead of dying of it.

    A second SIGINT has its usual effect, for an impatient user. Further SIGTERMs have none: a
    scheduler sends one to every process, and torchrun then sends its own processes another.
    Outside the main thread, where Python lets nobody catch signals, nothing is noted.
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
