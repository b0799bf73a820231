"""Warnings of a run that will not learn: before its first step, and after each epoch.

Each is one line that says what is wrong and what to do about it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from data.annotations.video_folders import Videos
from train.config import Config
from train.recipe_choice import reference_rate
from train.recipes import ENOUGH_STEPS
from train.results.history import History, Table
from train.schedule.steps_table import Schedule

FEW_VIDEOS = 5  # of a class
TOO_HIGH = 2.0  # times the usual learning rate for the batch size
PATIENCE = 5  # validations in a row without an improvement
MOST_NAMES = 5  # in one line


def warnings_before(
    config: Config, schedule: Schedule, train: Videos, val: Videos
) -> Iterator[str]:
    """Yield the warnings that can be given before the first step."""
    yield from _few_steps(config, schedule)
    yield from _high_rate(config)
    yield from _small_classes(train)
    yield from _classes_without_validation(val)


def _few_steps(config: Config, schedule: Schedule) -> Iterator[str]:
    steps = schedule.total_steps
    if steps >= ENOUGH_STEPS or config.pretrained_3d or config.resume_epoch:
        return
    option, value = ("--end-epoch", config.end_epoch)
    if config.max_minutes and config.schedule_parts:
        option, value = ("--max-minutes", config.max_minutes)
    advice = [f"raise {option} to {math.ceil(value * ENOUGH_STEPS / steps):,}"]
    if schedule.full.batch > 8 or config.multigrid != "off":
        advice.append("use smaller batches (--recipe scratch)")
    advice.append("start from trained weights (--pretrained-3d FILE)")
    yield (
        f"the run has {steps:,} optimiser steps, and from random weights a network needs about "
        f"{ENOUGH_STEPS:,}: {', or '.join(advice)}"
    )


def _high_rate(config: Config) -> Iterator[str]:
    carried = reference_rate(config, config.optimiser, config.batch_size)
    if config.lr_base > TOO_HIGH * carried:
        yield (
            f"--lr-base {config.lr_base:g} is {config.lr_base / carried:.3g} times the rate that "
            f"{config.optimiser} usually takes with batches of {config.batch_size}: if the loss "
            f"does not fall, give --lr-base {carried:.3g}"
        )


def _small_classes(train: Videos) -> Iterator[str]:
    counts = np.bincount(train.labels, minlength=len(train.classes))
    few = np.flatnonzero(counts < FEW_VIDEOS)
    if len(few):
        names = [f"{train.classes[i]} ({counts[i]})" for i in few[:MOST_NAMES]]
        yield (
            f"{train.source}: {_of(len(few), train.classes)} fewer than {FEW_VIDEOS} training "
            f"videos: {_listed(names, len(few))}; add videos, or leave these classes out"
        )


def _classes_without_validation(val: Videos) -> Iterator[str]:
    none = np.flatnonzero(np.bincount(val.labels, minlength=len(val.classes)) == 0)
    if len(none):
        names = [val.classes[i] for i in none[:MOST_NAMES]]
        yield (
            f"{val.source}: {_of(len(none), val.classes)} no validation videos: "
            f"{_listed(names, len(none))}; the accuracy says nothing about them: add some, or "
            "split anew with python -m run.labels folders"
        )


def _of(number: int, classes: Sequence[str]) -> str:
    return f"{number} of {len(classes)} classes {'has' if number == 1 else 'have'}"


def _listed(names: Sequence[str], number: int) -> str:
    return ", ".join(names) + (", ..." if number > len(names) else "")


def warnings_after_epoch(history: History, epoch: int, n_classes: int) -> Iterator[str]:
    """Yield the warnings that `epoch`, the newest one, gives rise to."""
    training, validation = (history.tables[f"{part}_results.csv"] for part in ("train", "val"))
    yield from _above_guessing(
        "training", training, n_classes, "if it stays there, lower --lr-base or raise "
        "--warmup-epochs",
    )  # fmt: skip
    if validation.rows and validation.rows[-1]["Epoch"] == epoch:
        yield from _above_guessing(
            "validation", validation, n_classes, "if the training loss is lower, the statistics of "
            "batch norm do not fit: lower --lr-base, or give --precise-bn 8",
        )  # fmt: skip
        yield from _no_improvement(validation)


def _above_guessing(part: str, table: Table, n_classes: int, advice: str) -> Iterator[str]:
    """Warn in the first epoch whose mean loss is above that of equal probabilities."""
    guessing, losses = math.log(n_classes), table.column("Loss")
    above = [loss > guessing for loss in losses]
    if above and above[-1] and not any(above[:-1]):
        yield (
            f"the {part} loss, {losses[-1]:.3g}, is above that of guessing among {n_classes} "
            f"classes, {guessing:.3g}: {advice}"
        )


def _no_improvement(table: Table) -> Iterator[str]:
    """Warn once when `PATIENCE` validations in a row have improved neither loss nor accuracy."""
    top1, loss, epochs = table.column("Top1"), table.column("Loss"), table.column("Epoch")
    best = 0
    for i in range(1, len(top1)):
        if top1[i] > max(top1[:i]) or loss[i] < min(loss[:i]):
            best = i
    if len(top1) - 1 - best == PATIENCE:
        yield (
            f"validation has become no better in {PATIENCE} validations since epoch "
            f"{epochs[best]:.0f} (top1 {top1[best]:.2f}): the network may be learning the training "
            "clips by heart; best.pth keeps the best epoch, and more --augmentation, a larger "
            "--weight-decay or more videos may help"
        )
