"""The table of all benchmarks and their options, read before a benchmark and torch are imported."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


def networks(parser: ArgumentParser) -> None:
    """Add the options of `network_speed`."""
    _add_shape(parser, (4, 8, 112))
    parser.add_argument("--rounds", type=int, default=15, help="steps to time for each network")
    parser.add_argument("--threads", type=int, help="torch's threads (default: torch's own choice)")
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu measures CPU time, which other programs disturb less; use it with --threads 1",
    )
    parser.add_argument("--gpus", type=int, default=0, choices=(0, 1), help="1: run on the GPU")
    parser.add_argument("--networks", nargs="+", help="names of the networks (default: all)")
    parser.add_argument("--peer", type=Path, help="folder of another implementation to compare")


def export(parser: ArgumentParser) -> None:
    """Add the options of `export_speed`."""
    _add_shape(parser, (1, 8, 112))
    parser.add_argument("--rounds", type=int, default=15, help="answers to time for each way")
    parser.add_argument("--threads", type=int, help="threads (default: torch's own choice)")
    parser.add_argument(
        "--networks", nargs="+", default=["r3d_18", "srtg_r3d_18"], help="names of the networks"
    )


def recipes(parser: ArgumentParser) -> None:
    """Add the options of `recipe_accuracy`."""
    _add_videos(parser, scale=1.0)
    parser.add_argument(
        "--rhythms", action="store_true", help="render videos of another kind, and train on these"
    )
    parser.add_argument(
        "--networks", nargs="+", default=["r3d_18", "srtg_r3d_18"], help="names of the networks"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="one run for each")
    parser.add_argument(
        "--options", help="training options of all runs (default: small clips and few epochs)"
    )


def label_errors(parser: ArgumentParser) -> None:
    """Add the options of `label_errors`."""
    parser.add_argument(
        "--root", type=Path, default=Path("demo"), help="folder for the rendered videos"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="share of the videos to render")
    parser.add_argument("--share", type=float, default=0.05, help="of the labels to flip")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="one run for each")
    parser.add_argument("--options", default="", help="more options of the training")


def step(parser: ArgumentParser) -> None:
    """Add the options of `step_overhead`."""
    _add_training_data(parser, scale=0.1)
    _add_shape(parser, (8, 8, 112))
    parser.add_argument(
        "--epochs", type=int, default=3, help="epochs to measure, after a first one to warm up"
    )
    parser.add_argument("--workers", type=int, default=1, help="loader workers")


def multigrid(parser: ArgumentParser) -> None:
    """Add the options of `multigrid_gain`."""
    _add_training_data(parser, scale=1.0)
    parser.add_argument(
        "--policies",
        nargs="+",
        default=["epoch", "paper"],
        help="values of --multigrid to compare with --multigrid off",
    )
    parser.add_argument("--epochs", type=int, default=12, help="epochs without multigrid")
    parser.add_argument(
        "--epoch-factor",
        type=float,
        default=1.5,
        help="epochs with --multigrid epoch, relative to --epochs",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="one run for each")
    parser.add_argument(
        "--options", default="", help='training options of all runs, such as "--flip True"'
    )
    parser.add_argument(
        "--multigrid-options", default="", help="training options of the runs with multigrid"
    )
    parser.add_argument(
        "--changes-only", action="store_true", help="only measure the cost of shape changes"
    )
    parser.add_argument(
        "--png", type=Path, default=Path("multigrid.png"), help="file for the picture"
    )


def budgets(parser: ArgumentParser) -> None:
    """Add the options of `multigrid_budget`."""
    parser.add_argument(
        "--root",
        type=Path,
        default=Path("demo/budgets"),
        help="folder for rendered videos and finished runs",
    )
    parser.add_argument(
        "--scales",
        type=float,
        nargs="+",
        default=[1.0, 8.34],
        help="share of the demo's videos to render, one dataset for each (1: 1,200 for training); "
        "not with --dataset",
    )
    parser.add_argument(
        "--minutes", type=float, nargs="+", default=[2.0, 6.0], help="the time budgets"
    )
    parser.add_argument(
        "--policies",
        nargs="+",
        default=["epoch", "paper"],
        help="values of --multigrid to compare with --multigrid off",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="one run for each")
    parser.add_argument(
        "--dataset", type=Path, help="frame stores of your own, instead of rendered videos"
    )
    parser.add_argument("--labels", type=Path, help="with --dataset: its csv of training labels")
    parser.add_argument("--options", default="", help="training options of all runs")


def init(parser: ArgumentParser) -> None:
    """Add the options of `recurrent_start`."""
    parser.add_argument("--clips", type=int, default=1000, help="training clips")
    parser.add_argument("--validation", type=int, default=160, help="validation clips")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of training")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each network")
    parser.add_argument("--frames", type=int, default=8, help="frames of a clip")
    parser.add_argument("--size", type=int, default=40, help="height and width in pixels")
    parser.add_argument("--batch", type=int, default=16, help="clips of a step")
    parser.add_argument(
        "--lr", type=float, default=1e-3, help="AdamW's learning rate after the warm-up"
    )
    parser.add_argument("--curves", nargs="+", help="labels of the curves (default: all)")
    parser.add_argument("--plot", type=Path, default=Path("init.png"), help="file for the picture")


def srtg(parser: ArgumentParser) -> None:
    """Add the options of `srtg_transfer`."""
    parser.add_argument("--clips", type=int, default=320, help="training clips of all actions")
    parser.add_argument("--validation", type=int, default=160, help="validation clips")
    parser.add_argument(
        "--pretraining-epochs", type=int, default=8, help="epochs on the first half"
    )
    parser.add_argument("--epochs", type=int, default=5, help="epochs on the second half")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each network")
    parser.add_argument("--frames", type=int, default=8, help="frames of a clip")
    parser.add_argument("--size", type=int, default=32, help="height and width in pixels")
    parser.add_argument("--batch", type=int, default=16, help="clips of a step")
    parser.add_argument("--lr", type=float, default=1e-3, help="AdamW's learning rate")


def loader(parser: ArgumentParser) -> None:
    """Add the options of `loader_speed`."""
    parser.add_argument("--videos", type=Path, help="folder of videos (default: rendered ones)")
    parser.add_argument("--count", type=int, default=10, help="videos to use, evenly spread")
    parser.add_argument("--clips", type=int, default=100, help="clips to time for each row")
    parser.add_argument(
        "--companion",
        type=int,
        nargs="+",
        default=[],
        help="also store the frames with these short sides, as --companion of run.convert does",
    )


def augment(parser: ArgumentParser) -> None:
    """Add the options of `augmentation_speed`."""
    parser.add_argument("--repeats", type=int, default=30, help="clips to time for each row")
    parser.add_argument("--video", type=Path, help="a video file (default: a rendered video)")
    parser.add_argument("--augmentation", default="readme", help="augmentation that --png draws")
    parser.add_argument(
        "--png", type=Path, metavar="FILE", help="draw a clip and four augmented ones"
    )


def storage(parser: ArgumentParser) -> None:
    """Add the options of `storage_speed`."""
    parser.add_argument("--videos", type=Path, help="folder of videos (default: rendered ones)")
    parser.add_argument("--count", type=int, default=12, help="videos to read from")
    parser.add_argument("--repeats", type=int, default=60, help="clips to time for each row")
    parser.add_argument("--convert", type=int, default=40, help="videos to convert; 0: none")
    parser.add_argument(
        "--peer", type=Path, help="python of an environment in which dataset2database is installed"
    )
    parser.add_argument(
        "--scratch", type=Path, help="folder on the disk to measure (default: the system's)"
    )
    parser.add_argument(
        "--million",
        type=int,
        default=1_000_000,
        help="videos of the simulated dataset in shards, which takes some minutes; 0: none",
    )


def labels(parser: ArgumentParser) -> None:
    """Add the options of `label_csv_speed`."""
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the csv")
    parser.add_argument("--workers", type=int, default=2, help="forked workers that read the rows")
    parser.add_argument("--repeats", type=int, default=3, help="how often each way loads the csv")


def startup(parser: ArgumentParser) -> None:
    """Add the options of `startup_time`."""
    parser.add_argument("--repeats", type=int, default=5, help="how often each command is started")


def gpu(parser: ArgumentParser) -> None:
    """Add the options of `gpu_page`."""
    parser.add_argument(
        "--root", type=Path, default=Path("demo"), help="folder for the rendered videos"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/gpu.md"), help="the page")
    parser.add_argument("--tests", type=Path, help="pytest's --junit-xml of the tests marked gpu")


def _add_training_data(parser: ArgumentParser, *, scale: float) -> None:
    """Add the options for the videos and the network of a training."""
    _add_videos(parser, scale=scale)
    parser.add_argument("--network", default="r3d_18", help="name of the network")


def _add_videos(parser: ArgumentParser, *, scale: float) -> None:
    """Add the options for the videos of a training."""
    parser.add_argument("--dataset", type=Path, help="folder with jpg/ (default: rendered videos)")
    parser.add_argument("--labels", type=Path, help="label csv of the training videos in --dataset")
    parser.add_argument(
        "--root", type=Path, default=Path("demo"), help="folder for the rendered videos"
    )
    parser.add_argument(
        "--scale", type=float, default=scale, help="share of the demo's videos to render"
    )


def _add_shape(parser: ArgumentParser, default: tuple[int, int, int]) -> None:
    parser.add_argument(
        "--shape",
        type=int,
        nargs=3,
        default=default,
        metavar=("B", "T", "S"),
        help="clips of a batch, frames of a clip, height and width in pixels",
    )


class Benchmark(NamedTuple):
    """One benchmark: its module in run/benchmarks, its options, and what it measures."""

    module: str
    add_options: Callable[[ArgumentParser], None]
    summary: str


#: By the name that the command line takes.
BENCHMARKS = {
    "networks": Benchmark(
        "network_speed", networks, "forward passes and training steps of the networks"
    ),
    "export": Benchmark(
        "export_speed", export, "the answers of exported networks, compared with torch"
    ),
    "step": Benchmark(
        "step_overhead", step, "the time that the training loop adds to the network's own"
    ),
    "multigrid": Benchmark("multigrid_gain", multigrid, "training with and without multigrid"),
    "budgets": Benchmark(
        "multigrid_budget", budgets, "what each multigrid policy learns in N minutes"
    ),
    "recipes": Benchmark(
        "recipe_accuracy", recipes, "the accuracy on small datasets if no recipe is named"
    ),
    "label-errors": Benchmark(
        "label_errors", label_errors, "how many flipped labels are found by the losses of videos"
    ),
    "init": Benchmark(
        "recurrent_start",
        init,
        "training from each initialisation of the recurrent layers",
    ),
    "srtg": Benchmark(
        "srtg_transfer",
        srtg,
        "new classes for a pretrained network, with and without added SRTG blocks",
    ),
    "loader": Benchmark(
        "loader_speed", loader, "loading a training clip, compared with other ways"
    ),
    "augment": Benchmark(
        "augmentation_speed", augment, "the compiled augmentation, compared with imgaug"
    ),
    "storage": Benchmark(
        "storage_speed", storage, "reading and converting videos, compared with other ways"
    ),
    "labels": Benchmark("label_csv_speed", labels, "loading a label csv of a million rows"),
    "startup": Benchmark(
        "startup_time", startup, "`--help` of the commands, compared with importing torch"
    ),
    "gpu": Benchmark(
        "gpu_page", gpu, "the tests and benchmarks that need a GPU, written to docs/gpu.md"
    ),
}
