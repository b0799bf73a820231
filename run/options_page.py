"""Print docs/options.md, the options of every command: `make options` writes the file.

The tables come from the parsers themselves; a test checks that the page is up to date.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from pathlib import Path

from data.dataset_defaults import dataset_spec
from run import (
    check,
    compare,
    convert,
    doctor,
    download,
    evaluate,
    explain,
    export,
    features,
    labels,
    networks,
    own_videos,
    plan,
    predict,
    report,
    tune,
)
from run.command_line import BY_RECIPE, build_parser, dataset_defaults
from run.exit_codes import command
from train.config import Config
from train.recipes import GOVERNED

ROOT = Path(__file__).parent.parent

INTRODUCTION = """\
# Options

`make options` writes this page from the commands themselves. Every command prints the same with
`--help`, together with the values that are used when an option is left out.

In the names of options, `-` and `_` mean the same. An option that is True or False may be written
`--flip True`, `--flip False`, or `--flip` alone for True. Lists are written `40,60,75` or
`40 60 75`.

- [Training](#training): the `train_<dataset>.py` scripts
- [Preparing data](#preparing-data): `run.convert`, `run.check`, `run.download`, `run.labels`
- [Before a run](#before-a-run): `run.doctor`, `run.networks`, `run.plan`, `run.tune`
- [Looking at a training](#looking-at-a-training): `run.report`
- [Using a trained network](#using-a-trained-network): `run.evaluate`, `run.predict`,
  `run.explain`, `run.features`, `run.compare`, `run.export`
"""
TRAINING = """\
## Training

All `train_<dataset>.py` scripts have the same options; only `train_kinetics.py` has `--variant`,
and only `train_custom.py` those of the last table. "by dataset": the README has a table of these
defaults. "by recipe": `docs/training.md` has a table of recipes.
"""
#: For each heading of the page, the functions that make the parsers of its commands.
COMMANDS: dict[str, tuple[Callable[[], argparse.ArgumentParser], ...]] = {
    "Preparing data": (
        convert.build_parser,
        check.build_parser,
        download.build_parser,
        labels.build_parser,
    ),
    "Before a run": (
        doctor.build_parser,
        networks.build_parser,
        lambda: plan.build_parser([]),
        lambda: tune.build_parser([]),
    ),
    "Looking at a training": (report.build_parser,),
    "Using a trained network": (
        evaluate.build_parser,
        predict.build_parser,
        explain.build_parser,
        features.build_parser,
        compare.build_parser,
        export.build_parser,
    ),
}


def options_page() -> str:
    """Return the whole page, as Markdown."""
    lines = [INTRODUCTION, TRAINING, *_training_tables()]
    for heading, parsers in COMMANDS.items():
        lines.append(f"## {heading}\n")
        for parser in (make() for make in parsers):
            lines.append(f"### {parser.prog.removeprefix('python -m ')}\n")
            lines.append(f"{parser.description.strip().splitlines()[0]}\n")
            lines += _command_tables(parser)
    return "\n".join(lines)


def _training_tables() -> Iterator[str]:
    """Yield a table for each group of training options."""
    by_dataset = dataset_defaults(dataset_spec("kinetics")).keys() - {"model_dir"}
    defaults = dict.fromkeys(by_dataset, "by dataset")
    parser = build_parser("kinetics")  # the only one with --variant
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.dest != "help"]
        for action in actions:
            if action.dest in GOVERNED:
                action.help = action.help.replace(BY_RECIPE, "").replace(" (by --recipe)", "")
                original = defaults.get(action.dest) or _default(action) or "none"
                defaults[action.dest] = f"by recipe; original: {original}"
        if actions:
            yield f"### {group.title.capitalize()}\n"
            yield _table(actions, defaults)
    own = argparse.ArgumentParser(add_help=False)
    own_videos.add_options(own)
    yield "### Your own videos (train_custom.py)\n"
    yield _table(own._actions)


def _command_tables(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the table of a command, or one for each of its sub-commands."""
    trained = (
        {field.name for field in fields(Config)}
        if parser.prog.endswith(("plan", "tune"))
        else set()
    )
    actions = [action for action in parser._actions if action.dest not in {"help", *trained}]
    for action in actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help for choice in action._choices_actions}
            for name, sub in action.choices.items():
                yield f"`{sub.prog}`: {helps[name]}\n"
                yield _table(option for option in sub._actions if option.dest != "help")
            return
    if trained:
        free = "" if parser.prog.endswith("tune") else ", except that `--dataset` may be left out"
        yield f"Also all options of training{free}.\n"
    yield _table(actions)


def _table(actions: Iterable[argparse.Action], defaults: dict[str, str] | None = None) -> str:
    """Return a Markdown table of options; `defaults` replace the parser's own defaults."""
    lines = ["| option | what it does | default |", "|---|---|---|"]
    for action in actions:
        name = action.option_strings[-1] if action.option_strings else str(action.dest).upper()
        meaning = (action.help or "") % {"default": action.default}
        words = re.findall(r"[\w-]+", meaning)
        listed = action.choices is None or isinstance(action.choices, range)
        if not listed and not {str(choice) for choice in action.choices} <= set(words):
            meaning += f" ({', '.join(map(str, action.choices))})"
        default = (defaults or {}).get(action.dest) or _default(action)
        if action.required and action.option_strings:
            default = "required"
        cells = (f"`{name}`", meaning.strip(), default)
        lines.append(f"| {' | '.join(cells)} |".replace("  |", " |"))
    return "\n".join(lines) + "\n"


def _default(action: argparse.Action) -> str:
    """Return the default as a user would write it; empty if there is none or the help says it."""
    value = action.default
    if value in (None, argparse.SUPPRESS, "", []) or "default" in (action.help or ""):
        return ""
    if isinstance(value, Path):
        value = value.relative_to(ROOT) if value.is_absolute() else value
    return f"`{' '.join(map(str, value)) if isinstance(value, list | tuple) else value}`"


def main(argv: list[str] | None = None) -> None:
    """Print the page."""
    argparse.ArgumentParser(prog="python -m run.options_page", description=__doc__).parse_args(argv)
    print(options_page(), end="")


if __name__ == "__main__":
    sys.exit(command(main))
