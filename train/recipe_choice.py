"""Decide which recipe a run takes, and the value of every option that a recipe sets.

The value of an option comes from the first of these that has one: the options given by the user; if
the run is resumed, the values that it had before; the recipe's row in `train.recipes`, adapted to
the run; the defaults of the dataset.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from data.dataset_defaults import dataset_spec
from train.config import Config
from train.recipes import ENOUGH_STEPS, EPOCHS_PER_WARMUP_EPOCH, GOVERNED, RECIPES, Recipe
from train.schedule.learning_rate import batch_size_factor
from train.schedule.steps_table import make_schedule
from train.train_errors import TrainError

#: Words of class names whose videos turn into those of another class when they are mirrored.
SIDED = {"left", "right", "leftwards", "rightwards", "clockwise", "counterclockwise"}


@dataclass(frozen=True)
class RecipeChoice:
    """The recipe of a run: its name, why it was taken, and the values that come from it."""

    name: str
    why: str
    values: Mapping[str, Any]  # options that were not given
    given: Mapping[str, Any]  # options that the user has set instead of the recipe
    notes: Sequence[str] = ()  # how the values differ from the recipe's row

    def facts(self) -> dict[str, Any]:
        """Return the entries for config.json, from which a resumed run reads the values again."""
        return {"name": self.name, "why": self.why, "values": dict(self.values)}

    def lines(self) -> list[str]:
        """Return what the log says: the reason, the values, what was given instead, the notes."""
        in_use = {name: value for name, value in self.values.items() if value not in (0.0, "")}
        said = [f"recipe {self.name}: {self.why}", f"  it sets {_written(in_use)}"]
        if self.given:
            said.append(f"  given instead: {_written(self.given)}")
        return [*said, *(f"  {note}" for note in self.notes)]


@dataclass(frozen=True)
class EarlierRecipe:
    """The recipe of the run that is resumed; values that it recorded are kept as they are."""

    name: str
    values: Mapping[str, Any]


def complete_recipe(
    config: Config, clips: int, classes: Sequence[str] = (), earlier: EarlierRecipe | None = None
) -> tuple[Config, RecipeChoice]:
    """Return the configuration with the values of its recipe, and what was chosen.

    Args:
        config: `config.given` names the options that the user has set.
        clips: number of training clips.
        classes: names of the classes; if one says left or right, no recipe mirrors clips.
        earlier: the recipe of the run that is resumed, which is kept.

    Raises:
        TrainError: the options contradict the recipe's purpose or one another.
    """
    name, why = _choose(config, clips, earlier)
    if name in ("finetune", "probe") and not (config.pretrained_3d or earlier):
        raise TrainError(
            f"--recipe {name} needs trained weights, and there is no run to resume: give "
            "--pretrained-3d FILE"
        )
    notes: list[str] = []
    if earlier and earlier.name == name:
        values = dict(earlier.values)
    else:
        values = recipe_values(config, RECIPES[name], classes)
        notes = _notes(config, values, RECIPES[name], classes)
    values = {option: value for option, value in values.items() if option not in config.given}
    config = replace(config, recipe=name, **values)
    config.check()
    given = {option: getattr(config, option) for option in GOVERNED if option in config.given}
    for option in ("backbone_lr", "recurrent_lr"):
        if not config.fine_tune:
            values.pop(option, None)  # they have no effect
        if option in given and not config.fine_tune:
            raise TrainError(
                f"--{option.replace('_', '-')} has an effect only if --fine-tune is True, as in "
                "--recipe finetune"
            )
    return config, RecipeChoice(name, why, values, given, notes)


def _choose(config: Config, clips: int, earlier: EarlierRecipe | None) -> tuple[str, str]:
    """Return the name of the recipe, and why it is the one."""
    if config.recipe != "auto":
        return config.recipe, RECIPES[config.recipe].when
    if earlier:
        return earlier.name, "as in the run that is resumed"
    if config.pretrained_3d and not config.resume_epoch:
        return "finetune", f"the run starts from weights; finetune is {RECIPES['finetune'].when}"
    steps = original_steps(config, clips)
    name = "original" if steps >= ENOUGH_STEPS else "scratch"
    return name, (
        f"the original's options need {ENOUGH_STEPS:,} optimiser steps, and {clips:,} clips give "
        f"{steps:,}; {name} is {RECIPES[name].when}"
    )


def original_steps(config: Config, clips: int) -> int:
    """Return the optimiser steps that the run would make with the recipe `original`."""
    values = recipe_values(config, RECIPES["original"])
    values = {option: value for option, value in values.items() if option not in config.given}
    return make_schedule(replace(config, **values), clips).total_steps


def recipe_values(config: Config, recipe: Recipe, classes: Sequence[str] = ()) -> dict[str, Any]:
    """Return a value for each option that recipes set, adapted to the options that were given.

    If the user gives another optimiser, the learning rate is that for it; so is the weight decay,
    except with `original`. If the user gives a batch size, the learning rate is scaled to it.
    Warm-ups are shortened in short runs.
    """
    spec = dataset_spec(config.benchmark, config.variant)
    values = {"batch_size": spec.batch, "lr_base": spec.lr, **recipe.values}
    batch = config.batch_size if "batch_size" in config.given else values["batch_size"]
    if "optimiser" in config.given and config.optimiser != values["optimiser"]:
        values["lr_base"] = reference_rate(config, config.optimiser, batch)
        if recipe.name != "original":
            values["weight_decay"] = _row_of(config.optimiser)["weight_decay"]
    elif batch != values["batch_size"]:
        ratio = batch / values["batch_size"]
        values["lr_base"] *= batch_size_factor(
            replace(config, optimiser=values["optimiser"]), ratio
        )
    longest = config.end_epoch / EPOCHS_PER_WARMUP_EPOCH
    for option in ("warmup_epochs", "head_epochs"):
        values[option] = min(values[option], longest)
    values["flip"] = values["flip"] and not sided_classes(classes)
    return values


def _notes(
    config: Config, values: Mapping[str, Any], recipe: Recipe, classes: Sequence[str]
) -> list[str]:
    """Return sentences on how `recipe_values` has fitted the recipe to this run."""
    notes, sided = [], sided_classes(classes)
    if "lr_base" not in config.given:
        what = [
            f"--{name.replace('_', '-')}"
            for name in ("optimiser", "batch_size")
            if name in config.given
        ]
        if what:
            notes.append(f"the learning rate follows {' and '.join(what)}: {values['lr_base']:.4g}")
    if recipe.values["flip"] and sided and "flip" not in config.given:
        notes.append(
            f"clips are not mirrored: class names say left or right ({', '.join(sided[:3])})"
        )
    return notes


def reference_rate(config: Config, optimiser: str, batch: int) -> float:
    """Return the usual learning rate for batches of `batch` clips when training from scratch.

    For SGD it is the dataset's rate in the original, for AdamW that of the recipe `scratch`.
    """
    spec, row = dataset_spec(config.benchmark, config.variant), _row_of(optimiser)
    ratio = batch / row.get("batch_size", spec.batch)
    return row.get("lr_base", spec.lr) * batch_size_factor(
        replace(config, optimiser=optimiser, multigrid_lr_power=None), ratio
    )


def _row_of(optimiser: str) -> Mapping[str, Any]:
    return RECIPES["original" if optimiser == "sgd" else "scratch"].values


def sided_classes(classes: Sequence[str]) -> list[str]:
    """Return the classes whose names say left or right, such as `move_left` or `TurnRight`."""
    words = {name: re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name) for name in classes}
    return [name for name, parts in words.items() if SIDED & {part.lower() for part in parts}]


def _written(values: Mapping[str, Any]) -> str:
    """Return options as a user would write them."""
    return " ".join(
        f"--{name.replace('_', '-')} {f'{value:.4g}' if isinstance(value, float) else value}"
        for name, value in values.items()
    )
