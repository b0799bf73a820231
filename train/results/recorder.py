"""Write a run's csv rows, curves, TensorBoard events and configuration."""

from __future__ import annotations

import contextlib
import json
import logging
import platform
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from data.file_writing import naming, write_atomically, write_text
from train.config import Config
from train.results.history import History
from train.train_errors import TrainError

log = logging.getLogger(__name__)

VERSIONS = ("torch", "torchvision", "numpy", "opencv-python", "imgaug")


def write_config(folder: Path, config: Config, **facts: Any) -> None:
    """Write `config.json`: every option, the command, versions, and `facts` about the data."""
    content = {
        "options": asdict(config),
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "versions": {"python": platform.python_version(), **_versions()},
        **facts,
    }
    write_text(folder / "config.json", json.dumps(content, indent=1) + "\n")


def _versions() -> dict[str, str]:
    found = {}
    for package in VERSIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


class Recorder:
    """Writes the files of the results folder that grow with every epoch."""

    def __init__(
        self,
        folder: Path,
        config: Config,
        history: History,
        *,
        first_epoch: int,
        report: Callable[[], None] | None = None,
    ):
        self.folder, self.config, self.history = folder, config, history
        history.write(folder)  # a run that ended between a checkpoint and its csv rows lacks them
        self._board = _tensorboard(folder, first_epoch) if config.tensorboard else None
        self._wandb = _wandb(config) if config.wandb else None
        self._report = report  # writes report.html
        self._undrawn = False

    def write_epoch(
        self,
        epoch: int,
        scores: dict[str, dict[str, float]],
        *,
        lr: float,
        gates: dict[str, float],
        speeds: dict[str, float],
        draw: bool = True,
    ) -> None:
        """Write an epoch of the history to the csv files, TensorBoard, wandb and the curves.

        With `draw` false the curves are drawn later, at the latest by `close`. Speeds differ from
        run to run, so they go to TensorBoard and Weights & Biases only.
        """
        self.history.write(self.folder)
        scalars = {
            f"{part}/{name}": values[name]
            for part, values in scores.items()
            for name in ("top1", "top5", "loss")
        }
        scalars |= {"lr": lr, **{f"gates/{block}": rate for block, rate in gates.items()}}
        scalars |= {f"clips_per_second/{name}": speed for name, speed in speeds.items()}
        if self._board:
            with naming(self.folder / "tensorboard"):
                for name, value in scalars.items():
                    self._board.add_scalar(name, value, epoch)
                self._board.flush()
        if self._wandb:
            self._wandb.log(scalars, step=epoch)
        self._undrawn = not draw
        if draw:
            self.draw()

    def draw(self) -> None:
        """Draw loss, accuracy and gate rates over the epochs into `curves.png`.

        Then write the report.
        """
        from matplotlib.figure import Figure

        gates = self.history.tables["gates.csv"]
        panels = ["Loss", "Top1", "Top5"] + (["gates open"] if gates.rows else [])
        figure = Figure(figsize=(4.2 * len(panels), 3.6), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for axis, panel in zip(axes, panels, strict=True):
            if panel == "gates open":
                for block in [name for name in gates.rows[-1] if name != "Epoch"]:
                    axis.plot(gates.column("Epoch"), gates.column(block), label=block)
            else:
                for name, part in (("training", "train"), ("validation", "val")):
                    table = self.history.tables[f"{part}_results.csv"]
                    axis.plot(table.column("Epoch"), table.column(panel), marker=".", label=name)
            axis.set_title(panel if panel in ("Loss", "gates open") else f"{panel} (%)")
            axis.set_xlabel("epoch")
            axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            axis.grid(alpha=0.3)
            axis.legend(fontsize="small")
        write_atomically(
            self.folder / "curves.png", lambda file: figure.savefig(file, format="png", dpi=110)
        )
        if self._report:
            self._report()

    def close(self) -> None:
        """Draw the curves if they lack an epoch; close TensorBoard and Weights & Biases."""
        if self._undrawn:
            with contextlib.suppress(OSError):  # the run may be ending with an error of the disk
                self.draw()
        if self._board:
            self._board.close()
        if self._wandb:
            self._wandb.finish()


def _tensorboard(folder: Path, first_epoch: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    with naming(folder / "tensorboard"):
        return SummaryWriter(str(folder / "tensorboard"), purge_step=first_epoch)


def _wandb(config: Config) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise TrainError("--wandb needs its package: pip install wandb") from error
    return wandb.init(project=config.wandb, config=asdict(config), resume="allow")
