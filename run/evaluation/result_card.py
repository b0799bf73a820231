"""The result card of an evaluation, card.json and card.md: what was scored, how, and the scores."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import shlex
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from data.file_writing import write_text
from network.pretrained.sources import find_source, is_source_name, list_pretrained
from run.evaluation.class_scores import Share
from run.evaluation.result_folder import CARD
from run.worker_pool import printable

PAGE = "card.md"
VERSIONS = ("torch", "torchvision", "numpy")
NOT_STATED = "not stated"
OWN = "trained with this project from random weights, under the terms of its training videos"


def command_line(argv: Sequence[str]) -> str:
    """Return the command with these words, to be repeated in a shell."""
    return shlex.join(["python", "-m", "run.evaluate", *argv])


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


def licence_of(pretrained: str | None) -> str:
    """Return what is known of the licence of weights that were trained from `pretrained`.

    Args:
        pretrained: the --pretrained-3d of the training, None for random weights.
    """
    if not pretrained:
        return OWN
    if is_source_name(pretrained) and pretrained in list_pretrained():
        return f"{find_source(pretrained).licence}, of {pretrained}"
    return f"{NOT_STATED}; the weights come from {pretrained}"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that compute."""
    return {"python": platform.python_version(), **{v: metadata.version(v) for v in VERSIONS}}


def now() -> str:
    """Return the date and time in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Write card.json and card.md. Numbers that are not finite become null."""
    content = _plain(card)
    write_text(folder / CARD, json.dumps(content, indent=1) + "\n")
    write_text(folder / PAGE, card_page(content))


def _plain(value: Any) -> Any:
    if isinstance(value, Share):
        return {name: _plain(number) for name, number in value._asdict().items()}
    if isinstance(value, Mapping):
        return {printable(str(name)): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return printable(value) if isinstance(value, str | Path) else value


def card_page(card: Mapping[str, Any]) -> str:
    """Return card.md for the content of a card.json."""
    checkpoint, data, scores = card["checkpoint"], card["data"], card["scores"]
    lines = [
        f"# {checkpoint['network']} on {data['name']}",
        "",
        "| score | value | 95 % interval |",
        "|---|---|---|",
        *(_score_row(name, value) for name, value in scores.items()),
        "",
        *_table("By number of views", card["by_views"]),
        *_table("Time probe", card["time_probe"]),
        "## Protocol",
        "",
        *_list(card["protocol"]),
        "",
        "## Data",
        "",
        *_list(data),
        "",
        "## Checkpoint",
        "",
        *_list(checkpoint),
        "",
        "## Command",
        "",
        "```",
        card["command"],
        "```",
        "",
        f"{card['date']}; {card['device']}, {card['precision']}; {_said(card['versions'])}",
        "",
        "Intervals of top-1, top-5 and of shares of videos are Wilson's; those of means over "
        "classes are percentiles of a bootstrap over the videos. They say how much other videos of "
        "the same kind would change a score, not how much another training would.",
    ]
    return "\n".join(lines) + "\n"


def _list(values: Mapping[str, Any]) -> list[str]:
    return [f"- {name.replace('_', ' ')}: {_said(value)}" for name, value in values.items()]


def _score_row(name: str, value: Any) -> str:
    label = name.replace("_", " ")
    if isinstance(value, Mapping):
        interval = f"{value['low']:.2f} to {value['high']:.2f}"
        return f"| {label} | {value['value']:.2f} % | {interval} |"
    return f"| {label} | {'not finite' if value is None else f'{value:.4f}'} | |"


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a table of rows that have equal keys; no lines if there are no rows."""
    if not rows:
        return []
    names = list(rows[0])
    cells = (" | ".join(_said(row[name]) for name in names) for row in rows)
    return [
        f"## {title}",
        "",
        f"| {' | '.join(names)} |",
        f"|{'---|' * len(names)}",
        *(f"| {row} |" for row in cells),
        "",
    ]


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        if value.keys() == set(Share._fields):
            return f"{value['value']:.2f} % ({value['low']:.2f} to {value['high']:.2f})"
        return ", ".join(f"{name} {_said(item)}" for name, item in value.items())
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value is None else str(value)
