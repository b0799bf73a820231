"""Name the actions in videos: `python -m run.predict --checkpoint best.pth clip.mp4 ...`.

Takes video files and folders of frame stores. Clips are cut from them exactly as validation does.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from data.clips import ClipDataset
from data.datasets import dataset_spec
from data.errors import DataError
from data.extract import extract_jpegs
from data.frames import DATABASE, write_store
from data.loading import validation_loader
from data.videos import Videos
from run.checkpoints import Trained, open_checkpoint
from run.cli import Parser, command
from run.jobs import positive
from train.devices import Devices, open_devices
from train.engine import predictions
from train.job import clip_options


def build_parser() -> Parser:
    """The command's options."""
    parser = Parser(
        prog="python -m run.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("videos", nargs="+", type=Path, help="video files or frame stores' folders")
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--views", type=positive, default=3, help="clips a video, averaged (default 3)"
    )
    parser.add_argument("--top", type=int, default=5, help="classes to name (default 5)")
    parser.add_argument("--short-side", type=int, default=256, help="of frames that are decoded")
    parser.add_argument("--gpus", type=int, help="0 is the CPU; default: one if there is one")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all probabilities there")
    return parser


def gather(sources: list[Path], scratch: Path, short_side: int) -> list[Path]:
    """The frame store of each source; those of video files are made below `scratch`.

    Raises:
        DataError: a source is missing, or is no video.
    """
    folders = []
    for number, source in enumerate(sources):
        if (source / DATABASE).is_file():
            folders.append(source.absolute())
        elif source.is_file():
            folder = scratch / str(number)
            write_store(folder, source.stem, extract_jpegs(source, short_side=short_side))
            folders.append(folder)
        else:
            raise DataError(f"{source}: is neither a video file nor a folder with {DATABASE}")
    return folders


def probabilities(
    trained: Trained, folders: list[Path], devices: Devices, *, views: int
) -> np.ndarray:
    """float (videos, classes): the mean over the views of each video."""
    config = trained.config
    videos = Videos(
        root=Path("/"),
        folders=np.array([str(folder) for folder in folders]),
        labels=np.zeros(len(folders), np.int64),
        classes=trained.classes,
        rejected=[],
        source=Path(),
    )
    options = clip_options(config, dataset_spec(config.benchmark, config.variant), training=False)
    clips = ClipDataset(videos, options, training=False, seed=config.random_seed)
    loader = validation_loader(
        clips, max(8, views), config.clip_length, config.clip_size, workers=0, views=views
    )
    logits = [logits for logits, _ in predictions(trained.net, loader, devices, title="predicting")]
    return torch.cat(logits).softmax(1).cpu().numpy()


def main(argv: list[str] | None = None) -> None:
    """Print each video's most likely classes."""
    args = build_parser().parse_args(argv)
    gpus = min(1, torch.cuda.device_count()) if args.gpus is None else args.gpus
    with open_devices(gpus, args.precision) as devices, tempfile.TemporaryDirectory() as scratch:
        trained = open_checkpoint(args.checkpoint, devices)
        folders = gather(args.videos, Path(scratch), args.short_side)
        likely = probabilities(trained, folders, devices, views=args.views)
    for source, row in zip(args.videos, likely, strict=True):
        best = np.argsort(-row)[: args.top]
        print(f"{source}: " + ", ".join(f"{trained.classes[i]} {row[i]:.1%}" for i in best))
    if args.json:
        rows = [
            {"video": str(source), **dict(zip(trained.classes, row.tolist(), strict=True))}
            for source, row in zip(args.videos, likely, strict=True)
        ]
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(command(main))
