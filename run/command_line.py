"""The command line of the training scripts.

Each field of `train.config.Config` is an option; some defaults depend on the dataset. This module
imports no torch: options are read, and the files that they name are looked for, before torch is
imported.
"""

from __future__ import annotations

import argparse
import difflib
import functools
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, NoReturn

from data.dataset_defaults import DATASETS, DatasetSpec, dataset_spec
from run.exit_codes import BAD_INPUT, command, set_up_logging
from train.config import Config
from train.input_check import check_inputs
from train.recipes import GOVERNED
from train.train_errors import TrainError

log = logging.getLogger(__name__)

#: Added to the help texts of the options that recipes set.
BY_RECIPE = " (by --recipe; original: %(default)s)"


class HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Keeps the line breaks of the description, and adds the default to an option's help text."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        says_it = action.default in (None, False, [], "") or "default" in (action.help or "")
        return action.help if says_it else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An argument parser with one-line errors that takes `_` for `-` in the names of options.

    Its help has the line breaks of the description and the default of each option.
    """

    def __init__(self, *, formatter_class: type = HelpFormatter, **settings: Any):
        super().__init__(formatter_class=formatter_class, **settings)

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with code 2."""
        self.exit(BAD_INPUT, f"error: {message} (see --help)\n")

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[override]
        """Parse `args`, in which options may be written with `-` or `_`."""
        words = [_dashed(word) for word in (sys.argv[1:] if args is None else args)]
        for word in words:
            # argparse would read the value of `--name=--` as an empty list
            if word.startswith("--") and word.endswith("=--"):
                self.error(f"argument {word.removesuffix('=--')}: -- is not a value")
        return super().parse_known_args(words, namespace)

    def _check_value(self, action: argparse.Action, value: object) -> None:
        """Raise ArgumentError for a word that is none of the choices, naming the nearest one."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            choices = [str(choice) for choice in action.choices or ()]
            near = difflib.get_close_matches(str(value), choices, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise argparse.ArgumentError(action, f"{error.message}{hint}") from None

    def parse_args(self, args=None, namespace=None):  # type: ignore[override]
        """Parse `args`. The error for an unknown option names the most similar ones."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            known = [name for action in self._actions for name in action.option_strings]
            near = difflib.get_close_matches(unknown[0].split("=")[0], known, n=3)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            self.error(f"unrecognised {' '.join(unknown)}{hint}")
        return parsed


def _dashed(word: str) -> str:
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value


def boolean(text: str) -> bool:
    """Read `True`/`False`, in upper or lower case, yes/no or 1/0.

    Raises:
        ArgumentTypeError: the text is none of these.
    """
    if text.lower() in ("true", "yes", "1"):
        return True
    if text.lower() in ("false", "no", "0"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")


#: The arguments of an option that is True or False, for `add_argument`.
BOOLEAN = {"type": boolean, "nargs": "?", "const": True, "metavar": "True|False"}


class IntegerList(argparse.Action):
    """An action that reads a list of integers: `40,60,75`, `40 60 75` or `[40, 60, 75]`."""

    def __call__(self, parser, namespace, values, option_string=None):  # type: ignore[override]
        """Store the list in `namespace`."""
        words = " ".join(values).replace(",", " ").strip("[]() ").split()
        try:
            setattr(namespace, self.dest, [int(word) for word in words])
        except ValueError:
            parser.error(f"{option_string} {' '.join(values)}: not a list of integers")


def dataset_defaults(spec: DatasetSpec) -> dict[str, object]:
    """Return the dataset's own values for the fields of Config whose default is None."""
    return {
        "clip_length": spec.clip_length,
        "clip_size": spec.clip_size,
        "train_frame_interval": list(spec.train_intervals),
        "val_frame_interval": spec.val_interval,
        "batch_size": spec.batch,
        "end_epoch": spec.epochs,
        "lr_base": spec.lr,
        "lr_steps": list(spec.lr_steps),
        "model_dir": f"results/{spec.results_name}",
    }


def build_parser(dataset: str) -> Parser:
    """Return the parser of one dataset's training script, with the groups of options of Config."""
    parser = Parser(
        description=f"Train a 3D CNN on {dataset_spec(dataset).results_name}.",
        allow_abbrev=False,
    )
    add_options(parser, dataset)
    return parser


def parser_with_defaults(
    prog: str, description: str, argv: Sequence[str] | None
) -> tuple[Parser, Callable[..., None]]:
    """Return a parser with `--defaults DATASET`, and a function that adds that dataset's options.

    The function is `add_options` without its first two arguments. Options that are added to the
    parser before it is called come first in the help.
    """
    parser = Parser(
        prog=prog,
        description=description,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument(
        "--defaults",
        choices=tuple(DATASETS),
        default="custom",
        help="dataset whose defaults the training options below have",
    )
    chosen, _ = parser.parse_known_args(argv)
    parser.add_argument("-h", "--help", action="help", help="show this help message and exit")
    return parser, functools.partial(add_options, parser, chosen.defaults)


def add_options(parser: Parser, dataset: str, *, needs_data: bool = True) -> None:
    """Add the options of a dataset's training script.

    Args:
        parser: gets the options.
        dataset: name of the dataset, whose defaults the options get.
        needs_data: whether `--dataset` is required.
    """
    defaults = dataset_defaults(dataset_spec(dataset))
    del defaults["model_dir"]  # depends on the variant
    groups: dict[str, argparse._ArgumentGroup] = {}
    for item in fields(Config):
        if item.metadata.get("hidden") or (item.name == "variant" and dataset != "kinetics"):
            continue
        group = item.metadata["group"]
        groups.setdefault(group, parser.add_argument_group(group))
        required = item.name == "dataset" and needs_data
        _add_option(groups[group], item, defaults.get(item.name), required=required)


def _add_option(
    group: argparse._ArgumentGroup, item: Field, dataset_default: object, *, required: bool
) -> None:
    default = dataset_default
    if default is None:
        default = item.default if item.default_factory is MISSING else item.default_factory()
    # instead of "default: None", the help texts of these options say in words what the default is
    settings: dict = {
        "default": default if default not in (None, "") else argparse.SUPPRESS,
        "help": item.metadata["help"],
        "dest": item.name,
    }
    if item.name in GOVERNED:
        settings["help"] += BY_RECIPE if default not in (None, "") else " (by --recipe)"
    kind = str(item.type).removesuffix(" | None")
    if kind == "bool":
        settings.update(BOOLEAN)
    elif kind == "list[int]":
        settings.update(nargs="+", action=IntegerList, metavar="N")
    else:
        settings.update(type={"int": int, "float": float, "str": str}[kind])
        settings["metavar"] = {"int": "N", "float": "X", "str": "TEXT"}[kind]
        if item.metadata["choices"]:
            settings["choices"] = item.metadata["choices"]
            del settings["metavar"]
    settings["required"] = required
    group.add_argument(f"--{item.name.replace('_', '-')}", **settings)


def parse_config(dataset: str, argv: Sequence[str] | None = None) -> Config:
    """Return the configuration that the words of the command line ask for.

    Raises:
        SystemExit: with exit code 2, for an unknown option or a wrong value.
        TrainError, DataError: options that are missing, out of bounds or contradict each other.
    """
    return config_of(dataset, given_options(build_parser(dataset), argv))


def config_of(dataset: str, options: dict[str, object]) -> Config:
    """Return the configuration of the options that were given. Raises as `complete` does."""
    config = complete(dataset, **options)
    if not config.dataset:
        raise TrainError("--dataset is empty: give the folder that holds jpg/")
    return config


def given_options(parser: Parser, argv: Sequence[str] | None = None) -> dict[str, object]:
    """Return the options that the words of the command line give, without any defaults.

    Afterwards `parser` has no defaults.

    Raises:
        SystemExit: with exit code 2, for an unknown option or a wrong value.
    """
    parser.parse_args(argv)  # prints the help, which shows the defaults, if that is asked for
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    return vars(parser.parse_args(argv))


def complete(benchmark: str, /, **options: object) -> Config:
    """Return the checked configuration of `options`, with the dataset's defaults for the others.

    Options that `train.recipe_choice` sets once the data are known have the values of the recipe
    `original` until then.

    Raises:
        TrainError, DataError: options that are missing, out of bounds or contradict each other.
        TypeError: an option does not exist.
    """
    config = Config(benchmark=benchmark, given=sorted(options), **options)
    config = config.with_defaults(**dataset_defaults(dataset_spec(benchmark, config.variant)))
    config.check()
    return config


def start_training(config: Config) -> Path:
    """Check what the options name, then train; return the results folder.

    Raises as `train.loop.train`.
    """
    if config.debug_mode:
        set_up_logging(debug=True)
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        check_inputs(config)  # otherwise the ranks check together, so that all of them end
    from train.loop import train  # imports torch, which takes seconds
    from train.seeds import train_seeds

    return train_seeds(config) if config.seeds and not config.plan else train(config)


def main(dataset: str) -> NoReturn:
    """Run `train_<dataset>.py`: read the command line, train, exit with the exit code."""

    def train_from_command_line() -> None:
        start_training(parse_config(dataset))

    sys.exit(command(train_from_command_line))
