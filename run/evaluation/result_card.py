"""The result card of an evaluation, card.json and card.md: what was scored, how, and the scores."""

from __future__ import annotations

import argparse
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

from data.annotations.dataset_fingerprint import part_fingerprint
from data.file_writing import write_text
from network.pretrained.source import Source
from network.pretrained.sources import find_source, list_pretrained
from run.evaluation.card_page import card_page
from run.evaluation.class_scores import Share, class_means, share
from run.evaluation.frame_orders import ORDERS
from run.evaluation.result_folder import CARD
from run.evaluation.results import Evaluated
from run.evaluation.video_scores import VideoScores
from run.worker_pool import printable

PAGE = "card.md"
VERSIONS = ("torch", "torchvision", "numpy")
OWN = "not stated; trained with this project from random weights"


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


def licence_of(source: Source | None, pretrained: str | None) -> str:
    """Return what is known of the licence of weights.

    Args:
        source: that the weights come from, if it is known.
        pretrained: the --pretrained-3d that they were trained from, None for random weights.
    """
    if source is None and not pretrained:
        return OWN
    if source is None and pretrained in list_pretrained():
        source = find_source(pretrained)
    if source:
        return f"{source.licence}, of {source.name}"
    return f"not stated; the weights come from {pretrained}"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that compute."""
    return {"python": platform.python_version(), **{v: metadata.version(v) for v in VERSIONS}}


def now() -> str:
    """Return the date and time in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())


def card_content(
    args: argparse.Namespace, found: Evaluated, words: Sequence[str]
) -> dict[str, Any]:
    """Return the content of the result card, without the device."""
    videos, scores, config = found.clips.videos, found.scores, found.trained.config
    n = len(scores.indices)
    accuracy, f1 = class_means(found.matrix)
    root = Path(args.dataset)
    return {
        "asked": {
            "checkpoint": str(args.checkpoint.resolve()),
            "dataset": str(root.resolve()),
            "labels": str(videos.source.resolve()),
            "protocol": found.protocol.as_dict(),
        },
        "protocol": found.protocol.as_dict(),
        "data": {
            "name": root.absolute().name,
            "folder": str(root),
            "labels": str(videos.source),
            "part": "val",
            "videos": len(videos),
            "scored": n,
            "classes": len(found.trained.classes),
            "fingerprint": part_fingerprint(videos),
        },
        "checkpoint": {
            "file": str(args.checkpoint),
            "sha256": file_digest(found.trained.file),
            "network": config.network,
            "task name": config.task_name,
            "random seed": config.random_seed,
            "pretrained": config.pretrained_3d,
            "licence": licence_of(found.trained.source, config.pretrained_3d),
        },
        "command": command_line(words),
        "date": now(),
        "versions": versions(),
        "scores": {
            "top1": share(scores.top1, n),
            "top5": share(scores.top5, n),
            "mean_class_accuracy": accuracy,
            "mean_f1": f1,
            "loss": float(scores.losses.mean()),
        },
        "by_views": [score._asdict() for score in found.by_views],
        "time_probe": _probe_rows(found.answers) if len(found.answers) > 1 else [],
    }


def _probe_rows(answers: Mapping[str, VideoScores]) -> list[dict[str, Any]]:
    return [
        {
            "order": order,
            "shown": ORDERS[order],
            "top1": share(scores.top1, len(scores.indices)),
            "top5": share(scores.top5, len(scores.indices)),
            "loss": float(scores.losses.mean()),
        }
        for order, scores in answers.items()
    ]


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
