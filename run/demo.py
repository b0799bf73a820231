"""Try the project on rendered videos: convert, train, evaluate, explain, predict a long video.

`make demo` runs it. The demo calls the commands that a user calls. Files from an earlier demo are
kept, so that a second demo does not train again. Options of training can be added at the end, such
as `--end-epoch 2`.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import math
import sys
import time
from pathlib import Path

from data.file_writing import write_text
from data.synthetic import ACTIONS, write_long_video, write_videos
from run import convert, evaluate, explain, predict
from run.command_line import Parser, parse_config
from run.exit_codes import command
from train.option_bounds import Bounds, within

log = logging.getLogger(__name__)

#: Number of videos of each class, and the seed that they are rendered from, by part.
PARTS = {"train": (150, 1), "val": (30, 2)}
NETWORK = "srtg_r3d_18"
#: Options of training. A short training from scratch learns more with AdamW. Each rendered video
#: is random, so none needs augmentation.
RECIPE = (
    "--recipe original --clip-length 8 --clip-size 40 --batch-size 32 "
    "--train-frame-interval 3 4 5 --val-frame-interval 4 --multigrid off "
    "--optimiser adamw --lr-base 0.0015 --weight-decay 0.02 --lr-policy cosine "
    "--warmup-epochs 0.7 --bn-clips 0 --end-epoch 4 --augmentation none --log-interval 10"
)
#: Folders in the results: of one validation video, and of a long video of several actions.
EXPLAINED, PREDICTED = "explained", "predicted"
LONG_SECONDS, LONG_SEED = 4.0, 3  # of each action in the long video, and the seed of its scene


def label_csv(root: Path, part: str) -> Path:
    """Return the path of the label csv of one part, `train` or `val`."""
    return root / "labels" / f"motion_{part}.csv"


def prepare(root: Path, *, scale: float = 1.0, largest_val_scale: float = math.inf) -> Path:
    """Render and convert the videos below `root`, write label csvs, return the training csv.

    Args:
        root: folder of videos, stores and labels.
        scale: number of videos relative to the full demo.
        largest_val_scale: upper limit of `scale` for the validation videos.
    """
    scales = {"train": scale, "val": min(scale, largest_val_scale)}
    for part, (per_class, seed) in PARTS.items():
        videos = write_videos(
            root / "videos", max(2, round(per_class * scales[part])), seed=seed, prefix=part
        )
        labels = label_csv(root, part)
        labels.parent.mkdir(parents=True, exist_ok=True)
        with labels.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("label", "id", "split"))
            writer.writerows((action, video, part) for action, video in videos)
    convert.main(["--videos", str(root / "videos"), "--dataset", str(root)])
    return label_csv(root, "train")


def predict_long_video(root: Path, checkpoint: Path, out: Path, *, scale: float) -> float:
    """Render a long video, predict its timeline, and return for how much of its time it is right.

    Returns:
        Percent; what is called unknown counts as wrong.
    """
    video, seconds = root / "long_video.mp4", max(2.0, LONG_SECONDS * min(1.0, scale))
    parts = write_long_video(video, tuple(ACTIONS), seed=LONG_SEED, seconds=seconds)
    predict.main([
        "--checkpoint", str(checkpoint), "--out", str(out), "--every", "0.5",
        "--smoothing", "0.3", str(video),
    ])  # fmt: skip
    (answer,) = json.loads((out / "predictions.json").read_text())["videos"]
    right = sum(
        max(0.0, min(end, segment["end"]) - max(start, segment["start"]))
        for start, end, action in parts
        for segment in answer["segments"]
        if segment["class"] == action
    )
    return 100 * right / parts[-1][1]


def main(argv: list[str] | None = None) -> None:
    """Run the demo, print the scores and which files to look at."""
    parser = Parser(
        prog="python -m run.demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--root", type=Path, default=Path("demo"), help="folder (default: demo)")
    parser.add_argument(
        "--scale",
        type=within(Bounds(0.01, 100), float),
        default=1.0,
        help="number of videos, and the length of the long one, relative to the full demo "
        "(default: 1)",
    )
    args, training_options = parser.parse_known_args(argv)
    where = ["--dataset", str(args.root), "--labels", str(label_csv(args.root, "train"))]
    options = [
        *where,
        "--model-dir",
        str(args.root / "results"),
        "--network",
        NETWORK,
        *RECIPE.split(),
    ]
    config = parse_config("custom", [*options, "--resume", "auto", *training_options])
    from train.loop import train  # imports torch
    from train.results.results_folder import results_folder

    since = time.monotonic()
    prepare(args.root, scale=args.scale)
    folder = results_folder(config)
    train(config)
    scores = evaluate.main(["--checkpoint", str(folder / "last.pth"), *where, "--order", "all"])
    explain.main([
        "--checkpoint", str(folder / "last.pth"), "--out", str(folder / EXPLAINED),
        str(args.root / "videos" / "move_left" / "val_move_left_0001.mp4"),
    ])  # fmt: skip
    timeline = predict_long_video(
        args.root, folder / "last.pth", folder / PREDICTED, scale=args.scale
    )
    summary = report(scores, timeline, folder, minutes=(time.monotonic() - since) / 60)
    write_text(folder / "demo.txt", summary)
    print(summary)


def report(
    scores: dict[str, dict[str, float]], timeline: float, folder: Path, *, minutes: float
) -> str:
    """Return the demo's scores and its list of files to look at, as text."""
    chance = 100 / len(ACTIONS)
    return f"""
top-1 on {scores["forward"]["clips"]:.0f} validation videos, {len(ACTIONS)} actions:
  frames in order   {scores["forward"]["top1"]:5.1f} %
  frames shuffled   {scores["shuffled"]["top1"]:5.1f} %   (chance is {chance:.1f} %)
  frames reversed   {scores["reversed"]["top1"]:5.1f} %   (a reversed action is of another class)
timeline of a long video of all actions: right for {timeline:.0f} % of its time (where one action
  follows another, a clip shows both)
{minutes:.1f} minutes. Look at, in {folder}:
  report.html       all about the training on one page, with the worst predictions as film strips
  curves.png        loss and accuracy by epoch
  evaluation/       which actions are confused with which, the worst mistakes, what is left
                    without motion: confusion.png, mistakes.png, time_probe.png
  {EXPLAINED}/        where the network looks in one video: film_strip.png, explanation.mp4
  {PREDICTED}/        the actions in a long video: timeline.png, annotated.mp4 and segments.csv
                    in long_video/
  train.log         the log of the training
  last.pth          the checkpoint, for run.evaluate and --pretrained-3d
"""


if __name__ == "__main__":
    sys.exit(command(main))
