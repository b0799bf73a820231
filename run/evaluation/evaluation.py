"""Evaluate a trained network on a validation split: score, print, write and draw."""

from __future__ import annotations

import argparse
import csv
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data.annotations.dataset_fingerprint import part_fingerprint
from data.clips.clip_dataset import ClipDataset
from data.file_writing import write_atomically
from network.network_error import NetworkError
from network.torchvision_networks import check_clip_shape
from run.dataset_clips import open_dataset_clips
from run.evaluation.accuracy_by_views import PartScore, part_scores, parts_of
from run.evaluation.class_scores import (
    class_scores,
    mean_class_accuracy,
    mean_f1,
    share,
)
from run.evaluation.frame_orders import ORDERS
from run.evaluation.mistakes import draw_mistakes
from run.evaluation.pictures import draw_by_views, draw_confusion, draw_time_probe
from run.evaluation.predictions_csv import write_predictions
from run.evaluation.protocol import Protocol, protocol_of
from run.evaluation.result_card import (
    command_line,
    file_digest,
    licence_of,
    now,
    versions,
    write_card,
)
from run.evaluation.result_folder import free_folder, publish
from run.evaluation.video_scores import VideoScores, score_videos
from run.trained_network import Trained, open_checkpoint
from train.config import Config
from train.devices import open_devices
from train.report.prediction_scores import confusion_matrix

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluated:
    """What the files of an evaluation are made from."""

    trained: Trained
    clips: ClipDataset
    protocol: Protocol
    answers: dict[str, VideoScores]  # by order of the frames; the first one is the protocol's
    by_views: list[PartScore]  # empty for a single clip of each video
    card: dict[str, Any]

    @property
    def scores(self) -> VideoScores:
        """The answers for the protocol's own order of the frames."""
        return self.answers[self.protocol.order]

    @property
    def matrix(self) -> np.ndarray:
        """The confusion matrix: int64 (classes, classes), rows are labels."""
        scores = self.scores
        return confusion_matrix(scores.labels, scores.top[:, 0], len(self.trained.classes))


def evaluate_checkpoint(
    args: argparse.Namespace, orders: Sequence[str], words: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Score the checkpoint for each order of the frames; write the results into one folder.

    Args:
        args: the options of `run.evaluate`.
        orders: orders of the frames. The files are about the first; the others are the time probe.
        words: the command line of `run.evaluate`.

    Returns:
        By order: top1 and top5 in percent, mean loss, number of clips, and for the first order
        mean_class_accuracy and mean_f1 in percent.

    Raises:
        TrainError, NetworkError: the checkpoint cannot be used.
        DataError: the dataset cannot be used.
    """
    with open_devices(args.gpus, args.precision, most=1) as devices:
        trained = open_checkpoint(args.checkpoint, devices)
        # the --skip-bad in the checkpoint was about the videos of its training
        config = replace(
            trained.with_shape(args.clip_length, args.clip_size, args.clip_fps),
            skip_bad=args.skip_bad,
            crop_share=args.crop_share or trained.config.crop_share,
        )
        orders = _possible(orders, config)
        clips, loader = open_dataset_clips(
            args, config, "val", classes=trained.classes, crops=args.crops
        )
        protocol = protocol_of(
            clips.options,
            frames=config.clip_length,
            views=args.views,
            crops=args.crops,
            order=orders[0],
        )
        log.info("protocol: %s", protocol)
        parts = parts_of(args.views, args.crops) if args.views * args.crops > 1 else []
        answers = score_videos(
            trained.net, loader, devices, clips.videos,
            orders=orders, views=args.views, crops=args.crops, parts=parts,
            most=args.batch_size, keep_logits=args.save_logits,
        )  # fmt: skip
        where = {"device": str(devices.device), "precision": devices.precision}
    scores = answers[orders[0]]
    by_views = part_scores(parts, scores.part_hits, len(scores.indices))
    found = Evaluated(trained, clips, protocol, answers, by_views, card={})
    found.card.update(_card(args, found, words) | where)
    name = protocol.folder_name(args.checkpoint, Path(args.dataset))
    parent = args.out or args.checkpoint.parent / "evaluation"
    folder = free_folder(parent, name, found.card["asked"])
    publish(folder, lambda unfinished: write_files(found, unfinished))
    _print(found, args.checkpoint)
    print(f"results: {folder}")
    return _numbers(found)


def _possible(orders: Sequence[str], config: Config) -> list[str]:
    """Return the orders of a time probe without the single frame if the network cannot take it.

    Raises:
        NetworkError: the network cannot take a single frame, and nothing else is asked for.
    """
    if "single" in orders:
        try:
            check_clip_shape(config.network, 1, config.clip_size)
        except NetworkError as error:
            if len(orders) == 1:
                raise
            log.info("the time probe has no single frame: %s", error)
            return [order for order in orders if order != "single"]
    return list(orders)


def _card(args: argparse.Namespace, found: Evaluated, words: Sequence[str]) -> dict[str, Any]:
    """Return the content of the result card, without the device."""
    videos, scores, config = found.clips.videos, found.scores, found.trained.config
    n = len(scores.indices)
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
            "sha256": file_digest(args.checkpoint),
            "network": config.network,
            "task name": config.task_name,
            "random seed": config.random_seed,
            "pretrained": config.pretrained_3d,
            "licence": licence_of(config.pretrained_3d),
        },
        "command": command_line(words),
        "date": now(),
        "versions": versions(),
        "scores": {
            "top1": share(scores.top1, n),
            "top5": share(scores.top5, n),
            "mean_class_accuracy": mean_class_accuracy(found.matrix),
            "mean_f1": mean_f1(found.matrix),
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


def write_files(found: Evaluated, folder: Path) -> None:
    """Write all files of an evaluation into an empty folder."""
    scores, videos, classes = found.scores, found.clips.videos, found.trained.classes
    matrix, card = found.matrix, found.card
    write_predictions(
        folder, videos, scores.indices,
        labels=scores.labels, top=scores.top, probabilities=scores.probabilities,
        label_probabilities=scores.label_probabilities, losses=scores.losses,
    )  # fmt: skip
    _write_csv(folder / "classes.csv", _class_rows(matrix, classes))
    title = f"{found.trained.config.network}: top-1 {card['scores']['top1'].value:.1f} %"
    draw_confusion(matrix, classes, title, folder / "confusion.png")
    draw_mistakes(scores, found.clips, found.protocol.frames, folder)
    if found.by_views:
        _write_csv(folder / "views.csv", map(_with_ends, card["by_views"]))
        draw_by_views(found.by_views, folder / "views.png")
    if card["time_probe"]:
        _write_csv(folder / "time_probe.csv", map(_with_ends, card["time_probe"]))
        rows = {row["shown"]: row["top1"] for row in card["time_probe"]}
        draw_time_probe(rows, 100 / len(classes), folder / "time_probe.png")
    if scores.logits is not None:
        names = np.array(videos.names())[scores.indices]
        arrays = {"ids": names, "labels": scores.labels, "classes": np.array(classes)}
        write_atomically(
            folder / "logits.npz", lambda file: np.savez(file, **arrays, logits=scores.logits)
        )
    write_card(folder, card)


def _class_rows(matrix: np.ndarray, classes: Sequence[str]) -> list[dict[str, Any]]:
    found = class_scores(matrix)
    names = ("Videos", "Accuracy", "Low", "High", "Precision", "F1")
    return [
        {"Class": name, **dict(zip(names, row, strict=True))}
        for name, *row in zip(classes, *(column.tolist() for column in found), strict=True)
    ]


def _with_ends(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of a table with three columns for each score that has an interval."""
    cells: dict[str, Any] = {}
    for name, value in row.items():
        title = name.capitalize()
        if isinstance(value, tuple):
            cells |= dict(zip((title, f"{title}Low", f"{title}High"), value, strict=True))
        else:
            cells[title] = value
    return cells


def _write_csv(path: Path, rows: Sequence[dict[str, Any]] | map) -> None:
    """Write rows with equal keys; numbers that are not finite become empty cells."""
    rows = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    content = text.getvalue().encode(errors="surrogateescape")
    write_atomically(path, lambda file: file.write(content))


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.4f}" if np.isfinite(value) else ""
    return value


def _print(found: Evaluated, checkpoint: Path) -> None:
    scores, videos, card = found.scores, found.clips.videos, found.card["scores"]
    print(f"{len(videos)} videos, {len(found.trained.classes)} classes, {checkpoint}")
    print(f"protocol: {found.protocol}")
    if len(scores.indices) < len(videos):
        print(f"only {len(scores.indices)} of the videos can be read and are scored")
    for order, answer in found.answers.items():
        n = len(answer.indices)
        print(
            f"{order:9} top1 {100 * answer.top1 / n:6.2f} %  top5 {100 * answer.top5 / n:6.2f} %  "
            f"loss {answer.losses.mean():.4f}"
        )
    names = {"top1": "top-1", "mean_class_accuracy": "class mean", "mean_f1": "mean F1"}
    said = "  ".join(f"{name} {card[key]}" for key, name in names.items())
    print(f"with 95 % intervals: {said}")
    for part in found.by_views:
        print(f"{part.views:4} views x {part.crops} crops: top1 {part.top1}")


def _numbers(found: Evaluated) -> dict[str, dict[str, float]]:
    results = {
        order: {
            "top1": 100 * scores.top1 / len(scores.indices),
            "top5": 100 * scores.top5 / len(scores.indices),
            "loss": float(scores.losses.mean()),
            "clips": float(len(scores.indices)),
        }
        for order, scores in found.answers.items()
    }
    for name in ("mean_class_accuracy", "mean_f1"):
        results[found.protocol.order][name] = found.card["scores"][name].value
    return results
