"""Flip some labels of the demo's dataset, train as the demo does, and count how many are found.

They are looked for by the losses of the training videos, as by `run.check --losses`.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import time
from pathlib import Path

import numpy as np

from data.synthetic import ACTIONS
from run import demo
from run.checks.label_errors import LabelErrors, find_label_errors
from run.command_line import parse_config
from train.loop import train

SHARES = (0.05, 0.1)  # of the videos, the highest scores first


def measure(args: argparse.Namespace) -> list[dict]:
    """Return a row for each seed, of the labels that are flipped and of the training."""
    demo.prepare(args.root, scale=args.scale)
    return [run_once(args, seed) for seed in args.seeds]


def run_once(args: argparse.Namespace, seed: int) -> dict:
    """Flip labels, train, and return how many of them are found."""
    root, since = args.root / "flipped", time.monotonic()
    right = flipped_dataset(args.root, root, args.share, seed)
    words = [
        "--dataset", str(root), "--labels", str(demo.label_csv(root, "train")),
        "--model-dir", str(root / "results"), "--task-name", f"seed_{seed}", "--overwrite", "True",
        "--network", demo.NETWORK, "--random-seed", str(seed), *demo.RECIPE.split(),
    ]  # fmt: skip
    found = find_label_errors(train(parse_config("custom", [*words, *args.options.split()])))
    return {
        "seed": seed,
        "videos": len(found.videos),
        "flipped": len(right),
        **counts(found, right),
        "wall_minutes": (time.monotonic() - since) / 60,
    }


def counts(found: LabelErrors, right: dict[str, str]) -> dict[str, int]:
    """Count the flipped labels among the highest scores, and those whose right class was found."""
    videos = found.videos
    named = [str(videos.folders[suspect.index]) for suspect in found.suspects]
    likely = [None if s.likely is None else videos.classes[s.likely] for s in found.suspects]
    listed = {
        f"found_in_first_{share:.0%}": sum(
            name in right for name in named[: round(share * len(videos))]
        )
        for share in SHARES
    }
    pairs = zip(named, likely, strict=True)
    return listed | {"right_class_named": sum(right.get(name) == c for name, c in pairs if c)}


def flipped_dataset(demo_root: Path, root: Path, share: float, seed: int) -> dict[str, str]:
    """Make a dataset of the demo's videos in which a share of the training labels is wrong.

    A video's store is not in a folder of its class, since it would then have to be in a wrong one.

    Returns:
        The right label of each video whose label is wrong.
    """
    rng, right = np.random.default_rng(seed), {}
    shutil.rmtree(root / "jpg", ignore_errors=True)
    (root / "jpg").mkdir(parents=True)
    (root / "labels").mkdir(exist_ok=True)
    for part in demo.PARTS:
        with demo.label_csv(demo_root, part).open(newline="") as file:
            header, *rows = csv.reader(file)
        for label, video, _ in rows:
            store = (demo_root / "jpg" / label / video).absolute()
            (root / "jpg" / video).symlink_to(store, target_is_directory=True)
        chosen = rng.permutation(len(rows))[: round(share * len(rows))] if part == "train" else []
        for row in sorted(chosen):
            label, video, _ = rows[row]
            right[video] = label
            rows[row][0] = str(rng.choice([name for name in ACTIONS if name != label]))
        with demo.label_csv(root, part).open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])
    return right
