"""Evaluate a trained network on a validation split: score, print, write and draw."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from network.network_error import NetworkError
from network.torchvision_networks import check_clip_shape
from run.dataset_clips import open_dataset_clips, with_class_names
from run.evaluation.accuracy_by_views import part_scores, parts_of
from run.evaluation.class_scores import Share
from run.evaluation.protocol import protocol_of
from run.evaluation.result_card import card_content
from run.evaluation.result_files import write_files
from run.evaluation.result_folder import check_writable, free_folder, publish
from run.evaluation.results import Evaluated
from run.evaluation.video_scores import score_videos
from run.shared_options import folder_beside
from run.trained_network import open_checkpoint
from train.config import Config
from train.devices import open_devices

log = logging.getLogger(__name__)


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
    parent = args.out or folder_beside(args.checkpoint) / "evaluation"
    check_writable(parent)  # now, because the scoring may take hours
    with open_devices(args.gpus, args.precision, most=1) as devices:
        trained = with_class_names(open_checkpoint(args.checkpoint, devices), args)
        # the --skip-bad in the checkpoint was about the videos of its training
        config = replace(
            trained.with_shape(args.clip_length, args.clip_size, args.clip_fps),
            skip_bad=args.skip_bad,
            crop_share=args.crop_share or trained.config.crop_share,
        )
        orders = possible_orders(orders, config)
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
    found = Evaluated(trained, clips, protocol, answers, by_views)
    card = card_content(args, found, words) | where
    name = protocol.folder_name(args.checkpoint, Path(args.dataset))
    folder = free_folder(parent, name, card["asked"])
    publish(folder, lambda unfinished: write_files(found, card, unfinished))
    _print(found, card["scores"], args.checkpoint)
    print(f"results: {folder}")
    return _numbers(found, card["scores"])


def possible_orders(orders: Sequence[str], config: Config) -> list[str]:
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


def _print(found: Evaluated, means: Mapping[str, Share], checkpoint: Path) -> None:
    scores, videos = found.scores, found.clips.videos
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
    said = "  ".join(f"{name} {means[key]}" for key, name in names.items())
    print(f"with 95 % intervals: {said}")
    for part in found.by_views:
        print(f"views {part.views:3}, crops {part.crops}: top-1 {part.top1}")


def _numbers(found: Evaluated, means: Mapping[str, Share]) -> dict[str, dict[str, float]]:
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
        results[found.protocol.order][name] = means[name].value
    return results
