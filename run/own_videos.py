"""Train on a folder of videos by one command: convert, label, check, train, evaluate.

Each step is a command of its own, and what an earlier call has done is used: videos that are
converted, label csvs, a run that was interrupted.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from data.annotations.own_labels import (
    SplitOptions,
    check_classes,
    csv_path,
    label_by_csvs,
    label_own_videos,
)
from data.annotations.tree_labels import parts_are_given
from data.annotations.video_tree import TreeVideo, videos_in_tree
from data.data_error import DataError
from run import check, convert, evaluate
from run.command_line import Parser, build_parser, config_of, given_options, start_training
from run.exit_codes import BAD_INPUT, command
from run.labels import GROUP
from train.config import Config
from train.input_check import check_names
from train.option_bounds import Bounds, within
from train.train_errors import TrainError

log = logging.getLogger(__name__)

STEPS = ("convert", "label", "check", "train", "evaluate")
#: Results that the last lines name.
SHOWN = ("report.html", "curves.png", "evaluation", "train.log")
#: The options of this module, and their defaults.
DEFAULTS: dict[str, Any] = {"videos": None, "group": None, "val_fraction": 0.2, "short_side": 256}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for a folder of videos to the parser of `train_custom.py`."""
    group = parser.add_argument_group("your own videos")
    group.add_argument(
        "--videos",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="DIR",
        help="folder of one folder of videos for each class, perhaps inside train/ and val/, or of "
        "videos and a label csv: convert them into --dataset, write label csvs, check, train and "
        "evaluate; repeat the command to continue after an interruption",
    )
    group.add_argument("--group", default=argparse.SUPPRESS, **GROUP)
    group.add_argument(
        "--val-fraction",
        type=within(Bounds(0.01, 0.9), float),
        default=DEFAULTS["val_fraction"],
        metavar="X",
        help="share of each class for validation, chosen by --random-seed",
    )
    group.add_argument(
        "--short-side",
        type=within(Bounds(16, 4096)),
        default=DEFAULTS["short_side"],
        metavar="PIXELS",
        help="short side of the stored frames",
    )


def build_custom_parser() -> Parser:
    """Return the parser of `train_custom.py`."""
    parser = build_parser("custom")
    add_options(parser)
    return parser


def main() -> NoReturn:
    """Run `train_custom.py`: read the command line, train, exit with the exit code."""

    def train_from_command_line() -> None:
        options = given_options(build_custom_parser())
        own = {name: options.pop(name, default) for name, default in DEFAULTS.items()}
        config = config_of("custom", options)
        if own["videos"] is None:
            start_training(config)
        else:
            train_on_videos(config, **own)

    sys.exit(command(train_from_command_line))


def train_on_videos(
    config: Config, *, videos: Path, group: Any, val_fraction: float, short_side: int
) -> None:
    """Convert, label and check the videos of a folder, train on them and evaluate the result.

    Raises:
        DataError, TrainError: something cannot be used. The results of finished steps stay.
        SystemExit: a step was interrupted, or training would fail as the check says.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise TrainError(
            "--videos prepares a dataset, which one process does: give it once with --plan and "
            "without torchrun, then leave it out"
        )
    check_names(config)  # now, because the next steps may take hours
    dataset = Path(config.dataset)
    split = SplitOptions(val_fraction, config.random_seed, group, config.skip_bad)
    found, csvs = look_at(videos, config, split)
    _announce("convert", f"the videos of {videos}")
    convert_videos(videos, dataset, short_side, skip_bad=config.skip_bad)
    _announce("label", f"the videos in {dataset}")
    if label(dataset, found, csvs, split, config):
        config = replace(config, labels=None)  # training finds the csvs in the dataset
    if config.resume == "no" and not (config.resume_epoch or config.overwrite):
        config = replace(config, resume="auto")
    from train.results.results_folder import results_folder  # imports torch

    if not (results_folder(config) / "last.pth").exists():
        _announce("check", f"the frames in {dataset}")
        check_dataset(config)
    _announce("train", config.network)
    folder = start_training(config)
    if config.plan:
        return
    if config.seeds:  # which are compared in this folder; each run has one of its own beside it
        print(f"results: {folder}")
        return
    best = next(path for name in ("best", "last") if (path := folder / f"{name}.pth").exists())
    _announce("evaluate", str(best))
    evaluate.main(evaluation_options(config, best))
    there = ", ".join(name for name in SHOWN if (folder / name).exists())
    print(f"results: {folder} ({there})")
    print(f"predict: python -m run.predict --checkpoint {best} VIDEO_OR_FOLDER")


def _announce(step: str, what: str) -> None:
    log.info("step %d of %d, %s: %s", STEPS.index(step) + 1, len(STEPS), step, what)


def look_at(
    videos: Path, config: Config, split: SplitOptions
) -> tuple[list[TreeVideo], list[Path]]:
    """List the videos, and the label csvs of videos without class folders, before any work.

    Raises:
        DataError: there are no videos, or their classes are not known or too few.
    """
    if not videos.is_dir():
        raise DataError(f"{videos}: no such folder; give --videos the folder of your videos")
    found = videos_in_tree(videos, [])
    if not found:
        raise DataError(f"{videos}: no videos in it, nor in the folders in it")
    flat = [video for video in found if not video.label]
    if len(flat) < len(found):
        if flat:
            log.warning(
                "%d videos lie in no class folder and are left out, such as %s",
                len(flat), flat[0].path,
            )  # fmt: skip
        found = [video for video in found if video.label]
        if not parts_are_given(found):
            check_classes(found)
        return found, []
    if config.labels:
        path = Path(config.labels)
        if not path.exists():
            raise DataError(f"{path}: no such label csv or folder of label csvs (--labels)")
        csvs = [path] if path.is_file() else _csvs_in(path)
    else:
        csvs = _csvs_in(videos)
    if not csvs:
        raise DataError(
            f"{videos}: neither class folders nor a csv say what the videos show; put those of "
            "each class into a folder of its own, or a csv with the columns label,id beside them"
        )
    labelled = label_by_csvs(csvs, found, split)
    if not parts_are_given(labelled):
        check_classes(labelled)
    return found, csvs


def _csvs_in(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.csv"), *folder.glob("*.csv.gz")])


def convert_videos(videos: Path, dataset: Path, short_side: int, *, skip_bad: bool) -> None:
    """Convert the videos that are not converted yet.

    Raises:
        DataError: some cannot be converted, unless `skip_bad`.
    """
    where = ["--videos", str(videos), "--dataset", str(dataset)]
    try:
        convert.main([*where, "--short-side", str(short_side)])
    except SystemExit as end:
        if end.code != BAD_INPUT:
            raise
        if not skip_bad:
            raise DataError(
                f"{dataset / 'broken.csv'}: lists the videos that cannot be converted; correct or "
                "remove them, or leave them out by --skip-bad"
            ) from None


def label(
    dataset: Path,
    videos: list[TreeVideo],
    csvs: list[Path],
    split: SplitOptions,
    config: Config,
) -> bool:
    """Write the dataset's label csvs unless the user has some; return whether they were written."""
    if config.labels and not csvs:
        log.info("the labels are those of %s", config.labels)
        return False
    others = [
        path for path in _csvs_in(dataset / "labels")
        if path not in {csv_path(dataset, part) for part in ("train", "val", "test")}
    ]  # fmt: skip
    if others and not csvs:
        log.info("the labels are those in %s", dataset / "labels")
        return False
    for path, count in label_own_videos(dataset, videos, csvs, split).items():
        log.info("%s: %d rows", path, count)
    return True


def check_dataset(config: Config) -> None:
    """Check stores and labels. Raises DataError if training would fail, unless `--skip-bad`."""
    words = [config.dataset, "--defaults", "custom"]
    if config.labels:
        words += ["--labels", config.labels]
    try:
        check.main(words)
    except SystemExit as end:
        if end.code != BAD_INPUT:
            raise
        if not config.skip_bad:
            raise DataError(
                f"{config.dataset}: training would fail, for the reasons above; correct them, or "
                "leave out what cannot be used by --skip-bad"
            ) from None


def evaluation_options(config: Config, checkpoint: Path) -> list[str]:
    """Return the words of `run.evaluate` for the run's own validation videos."""
    words = ["--checkpoint", str(checkpoint), "--dataset", config.dataset]
    if config.labels:
        words += ["--labels", config.labels]
    if config.gpus is not None:
        words += ["--gpus", str(config.gpus)]
    if config.workers is not None:
        words += ["--workers", str(config.workers)]
    return [
        *words,
        "--batch-size",
        str(min(16, config.batch_size)),
        f"--skip-bad={config.skip_bad}",
    ]
