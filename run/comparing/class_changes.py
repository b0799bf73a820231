"""Which classes gain and lose between two configurations."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from run.comparing.configurations import Compared, Configuration


class ClassChange(NamedTuple):
    """One class of two configurations; counts are means over pairs of runs."""

    name: str
    videos: int
    before: float  # accuracy of the first configuration in percent
    after: float  # of the second
    gained: float  # videos that only the second configuration recognises
    lost: float  # videos that only the first one recognises

    @property
    def net(self) -> float:
        """Videos gained less videos lost."""
        return self.gained - self.lost


def class_changes(
    compared: Compared, first: Configuration, second: Configuration
) -> list[ClassChange]:
    """Return the change of each class, the largest gain first."""
    before, after = first.mean_hits, second.mean_hits
    columns = (before, after, after * (1 - before), before * (1 - after))
    sums = [np.bincount(compared.labels, column, len(compared.classes)) for column in columns]
    videos = np.bincount(compared.labels, minlength=len(compared.classes))
    changes = [
        ClassChange(name, n, 100 * a / n, 100 * b / n, gained, lost)
        for name, n, a, b, gained, lost in zip(
            compared.classes, videos.tolist(), *(column.tolist() for column in sums), strict=True
        )
    ]
    return sorted(changes, key=lambda change: -change.net)
