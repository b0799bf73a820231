"""The recipes of `--recipe`: one row of option values for each way of training.

`train.recipe_choice` decides which row a run takes, and in which order options win.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: Below this number of optimiser steps `auto` takes `scratch`, and a run from random weights gets a
#: warning. HMDB-51, the smallest of the benchmarks that the original was made for, makes 2,300
#: steps with its recipe (3,570 clips, 100 epochs, multigrid); the other five make 6,600 and more.
ENOUGH_STEPS = 2_000

#: Warm-ups take at most one epoch in so many: those in the table are for runs of usual length.
EPOCHS_PER_WARMUP_EPOCH = 10


@dataclass(frozen=True)
class Recipe:
    """A row of option values, and when it is the right one."""

    name: str
    when: str  # one sentence for the log and the documents
    source: str  # where the values come from
    values: Mapping[str, object] = field(default_factory=dict)


_ORIGINAL = {
    "optimiser": "sgd",
    "weight_decay": 1e-4,
    "decay_norms": True,
    "lr_policy": "step",
    "warmup_epochs": 0.0,
    "label_smoothing": 0.0,
    "multigrid": "epoch",
    "augmentation": "readme",
    "flip": False,
    "fine_tune": False,
    "backbone_lr": 0.6,
    "recurrent_lr": 0.5,
    "head_epochs": 0.0,
    "freeze_until": "",
    "freeze_bn": False,
}  # batch size, learning rate and its steps: those of the dataset, see data.dataset_defaults
_SCRATCH = {
    **_ORIGINAL,
    "batch_size": 8,
    "lr_base": 5e-4,
    "optimiser": "adamw",
    "weight_decay": 0.05,
    "lr_policy": "cosine",
    "warmup_epochs": 5.0,
    "label_smoothing": 0.1,
    "multigrid": "off",  # won nowhere in the same time: docs/performance.md, run.benchmark budgets
    "flip": True,
}

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "original",
            "for the large benchmarks: SGD, large batches, multigrid",
            "the original code",
            _ORIGINAL,
        ),
        Recipe(
            "scratch",
            "for random weights and few clips: AdamW, batches of 8, no multigrid, so that a small "
            "dataset too gives many updates",
            "measured: docs/training.md, Recipes",
            _SCRATCH,
        ),
        Recipe(
            "finetune",
            "for weights that were trained on other videos: the classifier learns first and "
            "fastest",
            "usual practice in fine-tuning; not measured here",
            {
                **_SCRATCH,
                "fine_tune": True,
                "backbone_lr": 0.2,
                "recurrent_lr": 0.2,
                "head_epochs": 1.0,
            },
        ),
        Recipe(
            "probe",
            "to judge weights, or for very few clips: only the classifier learns",
            "usual practice for linear classifiers on fixed features; not measured here",
            {
                **_SCRATCH,
                "lr_base": 2e-3,
                "augmentation": "none",
                "freeze_until": "fc",
            },
        ),
    )
}

#: The options that a recipe sets if the user does not.
GOVERNED = tuple(_SCRATCH)
