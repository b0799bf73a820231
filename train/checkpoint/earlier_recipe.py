"""Read which recipe the run in a results folder has had, so that resuming keeps it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data.dataset_defaults import dataset_spec
from train.checkpoint.opening import load_checkpoint
from train.config import Config
from train.recipe_choice import EarlierRecipe
from train.recipes import GOVERNED, RECIPES
from train.results.results_folder import checkpoints, results_folder
from train.train_errors import TrainError


def earlier_recipe(config: Config) -> EarlierRecipe | None:
    """Return the recipe of the run that `config` resumes; None if it resumes none.

    It is read from config.json in the results folder, and where that is missing or damaged, from a
    checkpoint. Earlier versions had no recipes. Their runs get `original`, with the learning rate
    of the dataset, which was not scaled to the batch size then.
    """
    if config.resume != "auto" and not config.resume_epoch:
        return None
    folder = results_folder(config)
    paths = checkpoints(folder, config.network)
    if config.resume_epoch and config.pretrained_3d:
        paths.insert(0, Path(config.pretrained_3d))
    if not paths:
        return None
    found = _of_config_json(folder / "config.json", config)
    return found or next(filter(None, (_of_checkpoint(path, config) for path in paths)), None)


def _of_config_json(path: Path, config: Config) -> EarlierRecipe | None:
    try:
        content = json.loads(path.read_text())
        if "recipe" not in content:
            return _before_recipes(config) if "options" in content else None
        name, values = content["recipe"]["name"], content["recipe"]["values"]
        known = {option: value for option, value in values.items() if option in GOVERNED}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    if (
        not isinstance(name, str)
        or name not in RECIPES
        or any(not _fits(option, value) for option, value in known.items())
    ):
        return None
    return EarlierRecipe(name, known)


def _of_checkpoint(path: Path, config: Config) -> EarlierRecipe | None:
    try:
        options = load_checkpoint(path, to_resume=False)["config"]
    except TrainError:
        return None  # damaged, or of another project: resuming itself says so
    if "recipe" not in options:
        return _before_recipes(config)
    values = {option: options[option] for option in GOVERNED if option in options}
    return EarlierRecipe(options["recipe"], values)


def _before_recipes(config: Config) -> EarlierRecipe:
    spec = dataset_spec(config.benchmark, config.variant)
    values = {"batch_size": spec.batch, "lr_base": spec.lr, **RECIPES["original"].values}
    return EarlierRecipe("original", values)


def _fits(option: str, value: Any) -> bool:
    """Return whether a value has the option's type and is within its bounds or choices."""
    item = Config.__dataclass_fields__[option]
    bounds, choices = item.metadata.get("bounds"), item.metadata["choices"]
    kind = type(RECIPES["scratch"].values[option])
    if kind is float and type(value) is int:
        value = float(value)
    return (
        type(value) is kind
        and (not bounds or bounds.hold(value))
        and (not choices or value in choices)
    )
