"""One thing that a check has found, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

#: In rising order. Only ERROR means that training or conversion would fail.
OK, NOTE, WARNING, ERROR = LEVELS = ("ok", "note", "warning", "error")


@dataclass(frozen=True)
class Finding:
    """A result of one check.

    Attributes:
        level: one of LEVELS.
        subject: what was checked, in a few words.
        text: what was found.
        remedy: what to do about it; empty if there is nothing to do.
        places: the files or rows that it is about, each in one line.
    """

    level: str
    subject: str
    text: str
    remedy: str = ""
    places: tuple[str, ...] = ()


def worst(findings: Iterable[Finding]) -> str:
    """Return the worst level of some findings."""
    return max((finding.level for finding in findings), key=LEVELS.index, default=OK)


SHOWN = 3  # places of a warning or an error in `as_lines`


def as_lines(findings: Iterable[Finding]) -> str:
    """Format findings as text: a line for each, then the first places, then the remedy."""
    findings = list(findings)
    width = max((len(finding.subject) for finding in findings), default=0)
    lines = []
    for finding in findings:
        start = f"{finding.level:<8} {finding.subject:<{width}}  "
        lines.append(start + finding.text)
        if finding.level in (WARNING, ERROR):
            lines += [" " * len(start) + place for place in finding.places[:SHOWN]]
            if len(finding.places) > SHOWN:
                lines.append(" " * len(start) + f"and {len(finding.places) - SHOWN:,} more")
        if finding.remedy:
            lines.append(" " * len(start) + f"-> {finding.remedy}")
    return "\n".join(lines)
