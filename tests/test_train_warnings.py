"""Warnings of a run that will not learn, each when it is due and only then."""

from pathlib import Path

import numpy as np
import pytest

from data.annotations.video_folders import Videos
from run.command_line import complete
from train.recipe_choice import complete_recipe
from train.results.history import History
from train.schedule.steps_table import make_schedule
from train.training_warnings import PATIENCE, warnings_after_epoch, warnings_before


def videos(*counts: int) -> Videos:
    labels = np.repeat(np.arange(len(counts)), counts)
    classes = tuple(f"class{i}" for i in range(len(counts)))
    return Videos(Path("jpg"), labels.astype(str), labels, classes, [], Path("rows.csv"))


def before(train=None, val=None, **options) -> list[str]:
    train, val = train or videos(90, 90), val or videos(5, 5)
    config, _ = complete_recipe(complete("custom", dataset="/d", **options), len(train))
    return list(warnings_before(config, make_schedule(config, len(train)), train, val))


def test_a_sound_run_has_none():
    assert before(end_epoch=100) == []


def test_few_steps_say_how_many_epochs_would_do():
    (line,) = before(end_epoch=15)
    assert "the run has 345 optimiser steps" in line and "--end-epoch to 87" in line
    assert "--recipe scratch" not in line  # it is scratch
    (line,) = before(recipe="original", end_epoch=15)
    assert "--recipe scratch" in line
    assert before(end_epoch=87) == []
    assert before(end_epoch=15, pretrained_3d="weights.pth") == []


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({"recipe": "original", "batch_size": 8, "lr_base": 0.1}, True),  # 4 times 0.025
        ({"recipe": "original", "batch_size": 8}, False),
        ({"recipe": "scratch", "optimiser": "adamw", "lr_base": 0.1}, True),
        ({"recipe": "scratch", "lr_base": 0.0009}, False),
        ({"recipe": "scratch", "lr_base": 0.0011}, True),
    ],
)
def test_a_rate_that_the_batch_does_not_carry(options, warned):
    lines = [line for line in before(end_epoch=999, **options) if line.startswith("--lr-base")]
    assert len(lines) == warned
    assert not warned or "give --lr-base" in lines[0]


def test_small_classes_are_named_and_counted():
    (line,) = before(videos(5, 4, 90, 90), videos(1, 1, 1, 1), end_epoch=999)
    assert line.startswith("rows.csv: 1 of 4 classes has fewer than 5 training videos: class1 (4)")
    (line,) = before(videos(*[2] * 9, 90), videos(*[1] * 10), end_epoch=999)
    assert "9 of 10 classes have" in line and line.count("(2)") == 5 and ", ...;" in line


def test_classes_without_validation_videos_are_named():
    (line,) = before(val=videos(3, 0), end_epoch=999)
    assert line.startswith("rows.csv: 1 of 2 classes has no validation videos: class1;")


def after(losses=(1.0,), top1=(), val_loss=()) -> list[str]:
    history = History()
    for epoch in range(max(len(losses), len(top1))):
        scores = {}
        if epoch < len(losses):
            scores["train"] = {"top1": 1, "top5": 1, "loss": losses[epoch], "clips": 9}
        if epoch < len(top1):
            scores["val"] = {"top1": top1[epoch], "top5": 1, "loss": val_loss[epoch], "clips": 9}
        history.add_epoch(epoch + 1, scores, lr=0.1, gates={})
    return list(warnings_after_epoch(history, max(len(losses), len(top1)), 10))


def test_a_loss_above_that_of_guessing():
    (line,) = after([2.31])
    assert "2.31, is above that of guessing among 10 classes, 2.3:" in line
    assert after([2.30]) == [] and after([2.0, 2.5]) and after([2.5, 2.6]) == []


def test_a_validation_loss_above_that_of_guessing():
    (line,) = after([2.0], top1=[10.0], val_loss=[6e10])
    assert "the validation loss, 6e+10, is above" in line and "--precise-bn" in line
    assert after([2.0, 1.9], top1=[10.0], val_loss=[6e10]) == []  # no validation in epoch 2


def test_validation_that_gets_no_better():
    best_then = [50.0] + [49.0] * PATIENCE
    assert after(top1=best_then[:-1], val_loss=[1.0] + [1.1] * (PATIENCE - 1)) == []
    (line,) = after(top1=best_then, val_loss=[1.0] + [1.1] * PATIENCE)
    unvalidated = [1.0] * (PATIENCE + 2)  # one epoch more than validations
    assert after(unvalidated, top1=best_then, val_loss=[1.0] + [1.1] * PATIENCE) == []
    assert "since epoch 1 (top1 50.00)" in line
    assert after(top1=[*best_then, 40.0], val_loss=[1.0] + [1.1] * (PATIENCE + 1)) == []  # once
    falling = [1.0 - 0.1 * i for i in range(PATIENCE + 1)]
    assert after(top1=best_then, val_loss=falling) == []  # the loss still improves
