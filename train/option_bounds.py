"""The range of values that an option may have, and the check of it on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple


class Bounds(NamedTuple):
    """The range of a number, from `low` to `high`; `exclusive` excludes `high` itself."""

    low: float
    high: float
    exclusive: bool = False

    def hold(self, value: float) -> bool:
        """Return whether `value` lies in the range; NaN never does."""
        return self.low <= value < self.high if self.exclusive else self.low <= value <= self.high

    def __str__(self) -> str:
        """Describe the range, to follow the words "must be"."""
        last = "below" if self.exclusive else "at most"
        return f"at least {_plain(self.low)} and {last} {_plain(self.high)}"


def within(bounds: Bounds, kind: type = int) -> Callable[[str], float]:
    """Return an argparse type that reads a number of type `kind` and checks its bounds."""

    def number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            what = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"{shortened(text)!r} is not a {what}") from None
        if not bounds.hold(value):
            raise argparse.ArgumentTypeError(f"{shortened(value)}: must be {bounds}")
        return value

    return number


def shortened(value: object) -> str:
    """Return `value` as text of at most 40 characters: some are thousands of digits long."""
    # Python refuses to convert integers of more than 4,300 digits to text
    text = f"{value:.6g}" if isinstance(value, int) and abs(value) >= 10**40 else str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _plain(value: float) -> str:
    return f"{value:g}" if abs(value) < 1e6 and value != int(value) else f"{int(value):,}"
