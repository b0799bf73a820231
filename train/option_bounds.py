"""The smallest and the largest value that an option may have."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple


class Bounds(NamedTuple):
    """The range of one number: from `low` to `high`, `high` included unless it is `exclusive`."""

    low: float
    high: float
    exclusive: bool = False

    def hold(self, value: float) -> bool:
        """Whether `value` lies in the range; NaN lies in none."""
        return self.low <= value < self.high if self.exclusive else self.low <= value <= self.high

    def __str__(self) -> str:
        """The range in words, to follow "must be"."""
        last = "below" if self.exclusive else "at most"
        return f"at least {_plain(self.low)} and {last} {_plain(self.high)}"


def within(bounds: Bounds, kind: type = int) -> Callable[[str], float]:
    """An argparse type: a number of the kind within `bounds`; anything else is a one-line error."""

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
    """A value as it was given, cut after 40 characters: some are thousands of digits long."""
    # Python refuses to write integers of more than 4,300 digits
    text = f"{value:.6g}" if isinstance(value, int) and abs(value) >= 10**40 else str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _plain(value: float) -> str:
    return f"{value:g}" if abs(value) < 1e6 and value != int(value) else f"{int(value):,}"
