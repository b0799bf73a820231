"""Compare multigrid's policies at equal time budgets: the accuracy that each reaches in N minutes.

Each run has `--max-minutes`, so its schedule, its learning rate included, is compressed to the
budget by timed steps. The videos are the demo's, rendered below --root, or with --dataset and
--labels your own. A run that is finished is kept in `budgets.json` in --root, so a benchmark that
was interrupted continues with the next run.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import shutil
import statistics
from pathlib import Path

from tqdm import tqdm

from data.file_writing import write_text
from run import demo
from run.benchmarks.multigrid_gain import BASELINE, MULTIGRID_RECIPE
from run.command_line import parse_config
from train.loop import train
from train.train_errors import TrainError

#: Small clips, so that one CPU core makes hundreds of updates in two minutes; the learning rate of
#: the recipe `scratch`. Batch norm's statistics are estimated at the full shape before the only
#: validation, that of the last epoch.
RECIPE = (
    "--clip-size 32 --batch-size 8 --lr-base 0.0005 --bn-clips 8 --precise-bn 8 --warmup-epochs 0.5"
)
#: With the paper's policy, larger batches have the higher learning rate that is usual with AdamW:
#: its full shape then has the rate of `scratch`, as without multigrid. The one long cycle ends
#: after 82 % of the run, as the paper's last one.
PAPER = "--multigrid-lr-power 0.5 --lr-steps 164"
#: More epochs than fit into any budget.
LONG = "--end-epoch 200 --val-frequency 200"
KEY = ("videos", "budget_minutes", "policy", "seed")


def measure(args: argparse.Namespace) -> list[dict]:
    """Return a row for each run, then one for each policy, number of videos and budget."""
    finished = args.root / "budgets.json"
    settings = {"options": f"{RECIPE} {PAPER} {args.options}", "dataset": str(args.dataset)}
    kept = json.loads(finished.read_text()) if finished.exists() else {**settings, "rows": []}
    if {name: kept.get(name) for name in settings} != settings:
        raise TrainError(f"{finished} has runs with other options or videos: give another --root")
    rows = kept["rows"]
    done = {tuple(row[name] for name in KEY) for row in rows}
    runs = [
        (scale, minutes, policy, seed)
        for scale in ([1.0] if args.dataset else args.scales)
        for minutes in args.minutes
        for seed in args.seeds
        for policy in dict.fromkeys((BASELINE, *args.policies))  # the policies take turns
    ]
    for scale, minutes, policy, seed in tqdm(runs, desc="trainings", disable=None):
        dataset, labels = _data(args, scale)
        with labels.open(newline="") as file:
            videos = sum(1 for _ in csv.DictReader(file))
        key = (videos, minutes, policy, seed)
        if key not in done:
            where = ["--dataset", str(dataset), "--labels", str(labels)]
            where += ["--model-dir", str(args.root / "results")]
            row = run_once([*where, *shlex.split(args.options)], minutes, policy, seed)
            rows.append(dict(zip(KEY, key, strict=True)) | row)
            write_text(finished, json.dumps(kept, indent=1))
    wanted = [row for row in rows if row["policy"] in (BASELINE, *args.policies)]
    return wanted + summary(wanted)


def _data(args: argparse.Namespace, scale: float) -> tuple[Path, Path]:
    """Return the dataset's folder and the csv of its training labels; render them if need be."""
    if args.dataset:
        if not args.labels:
            raise TrainError("--dataset: give --labels too, the csv of its training labels")
        return args.dataset, args.labels
    root = args.root / f"scale_{scale:g}"
    return root, demo.prepare(root, scale=scale, largest_val_scale=1)


def run_once(where: list[str], minutes: float, policy: str, seed: int) -> dict:
    """Train for so many minutes; return epochs, steps, clips, top-1 in percent and minutes used."""
    options = [*demo.RECIPE.split(), *RECIPE.split(), *LONG.split()]
    if policy != BASELINE:
        options += MULTIGRID_RECIPE.split()
    if policy == "paper":
        options += PAPER.split()
    options += ["--network", "r3d_18", "--multigrid", policy, "--random-seed", str(seed)]
    options += ["--max-minutes", f"{minutes:g}", "--task-name", f"{policy}_{minutes:g}_{seed}"]
    options += ["--overwrite", "True", "--tensorboard", "False"]
    folder = train(parse_config("custom", [*options, *where]))
    with (folder / "val_results.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    with (folder / "train_results.csv").open(newline="") as file:
        epochs = list(csv.DictReader(file))
    shutil.rmtree(folder)  # 0.9 GB of checkpoints
    seconds = sum(float(row["Seconds"]) for row in epochs) + float(last["Seconds"])
    return {
        "epochs": len(epochs),
        "clips": sum(int(row["Clips"]) for row in epochs),
        "top1_percent": float(last["Top1"]),
        "used_minutes": seconds / 60,
    }


def summary(rows: list[dict]) -> list[dict]:
    """Return the mean top-1 of each policy, number of videos and budget, lowest and highest."""
    groups: dict[tuple, list[float]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in KEY[:3]), []).append(row["top1_percent"])
    return [
        dict(zip(KEY, (*key, f"mean of {len(top1)}"), strict=True))
        | {
            "top1_percent": statistics.mean(top1),
            "lowest_percent": min(top1),
            "highest_percent": max(top1),
        }
        for key, top1 in groups.items()
    ]
