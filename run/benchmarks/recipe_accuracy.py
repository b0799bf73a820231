"""Train small datasets without naming a recipe, and show the accuracy of each network and seed.

By default, the dataset is that of the demo, rendered below --root. With --rhythms, this module
renders classes that differ in what changes and how fast; no recipe was tuned for them. With
--dataset and --labels, it is one of your own.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import statistics
import time
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from data.store import write_store
from data.synthetic import draw_frame, draw_scene
from run import demo
from run.command_line import parse_config
from train.loop import train

#: Class -> (property that changes, periods of its change in one video).
RHYTHMS = {
    "sway_slowly": ("x", 1), "sway_fast": ("x", 3),
    "pulse_slowly": ("scale", 1), "pulse_fast": ("scale", 3),
    "flicker_slowly": ("light", 1), "flicker_fast": ("light", 3),
}  # fmt: skip
#: Number of videos of each rhythm, and the seed that they are rendered from, by part.
PARTS = {"train": (30, 3), "val": (12, 4)}
#: Options that no recipe sets, for the embedded dataset and for others.
EMBEDDED = (
    "--clip-length 8 --clip-size 40 --train-frame-interval 3 4 5 --val-frame-interval 4 "
    "--end-epoch 4"
)
OTHERS = "--clip-length 8 --clip-size 64 --end-epoch 15"


def measure(args: argparse.Namespace) -> list[dict]:
    """Return a row for each run, then one for each network: mean and spread over the seeds."""
    where, options = _data_options(args), args.options
    if options is None:
        options = OTHERS if args.dataset or args.rhythms else EMBEDDED
    runs = [(network, seed) for network in args.networks for seed in args.seeds]
    rows = [
        run_once([*where, *shlex.split(options)], network, seed)
        for network, seed in tqdm(runs, desc="trainings", disable=None)
    ]
    return rows + summary(rows)


def _data_options(args: argparse.Namespace) -> list[str]:
    if args.dataset:
        where, labels = args.dataset, args.labels or ""
    elif args.rhythms:
        where = args.root / "rhythms"
        labels = render_rhythms(where)
    else:
        where, labels = args.root, demo.prepare(args.root, scale=args.scale)
    folder = Path(where) / "benchmark_recipes"
    return ["--dataset", str(where), "--labels", str(labels), "--model-dir", str(folder)]


def run_once(options: list[str], network: str, seed: int) -> dict:
    """Train once, from the start; return network, seed, epochs, top-1 in percent and minutes."""
    own = ["--network", network, "--random-seed", str(seed), "--task-name", f"seed_{seed}"]
    since = time.monotonic()
    folder = train(
        parse_config("custom", [*options, *own, "--overwrite", "True", "--tensorboard", "False"])
    )
    with (folder / "val_results.csv").open(newline="") as file:
        top1 = [float(row["Top1"]) for row in csv.DictReader(file)]
    return {
        "network": network,
        "seed": seed,
        "epochs": len(top1),
        "top1_percent": top1[-1],
        "best_percent": max(top1),
        "wall_minutes": (time.monotonic() - since) / 60,
    }


def summary(rows: list[dict]) -> list[dict]:
    """Return the mean, the lowest and the highest top-1 of each network."""
    found = []
    for network in dict.fromkeys(row["network"] for row in rows):
        top1 = [row["top1_percent"] for row in rows if row["network"] == network]
        found.append(
            {
                "network": network,
                "seed": f"mean of {len(top1)}",
                "top1_percent": statistics.mean(top1),
                "lowest_percent": min(top1),
                "highest_percent": max(top1),
            }
        )
    return found


def render_rhythms(root: Path) -> Path:
    """Render the stores and label csvs of `RHYTHMS` below `root`; return the training csv."""
    (root / "labels").mkdir(parents=True, exist_ok=True)
    for part, (per_class, seed) in PARTS.items():
        rows = []
        for index, name in enumerate(RHYTHMS):
            for number in range(per_class):
                video = f"{part}_{name}_{number:03d}"
                rows.append((name, video, part))
                folder = root / "jpg" / name / video
                if not (folder / "frames.db").exists():
                    frames = rhythm_frames(name, (seed, index, number))
                    write_store(folder, video, [_jpeg(frame) for frame in frames])
        with (root / "labels" / f"rhythms_{part}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("label", "id", "split"), *rows])
    return root / "labels" / "rhythms_train.csv"


def rhythm_frames(name: str, seed: tuple[int, ...]) -> np.ndarray:
    """Render one video, uint8 (T, H, W, 3) RGB: one property goes to and fro, from a random phase.

    Raises:
        KeyError: the name is not one of RHYTHMS.
    """
    moving, periods = RHYTHMS[name]
    rng = np.random.default_rng(seed)
    scene = draw_scene(rng)
    begin = rng.uniform(0, 2 * np.pi)
    phases = np.sin(begin + np.linspace(0, 2 * np.pi * periods, scene.n_frames))
    return np.stack([draw_frame(scene, {**scene.constant, moving: phase}) for phase in phases])


def _jpeg(frame: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes()  # OpenCV wants BGR
