"""What a run writes down for people: csv rows, curves, TensorBoard, the log, the configuration."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
import platform
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib import metadata
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

from train.config import Config
from train.errors import TrainError
from train.monitor import without_colours

log = logging.getLogger(__name__)

COLUMNS = ("Epoch", "Top1", "Top5", "Loss", "Lr", "Clips")
VERSIONS = ("torch", "torchvision", "numpy", "opencv-python", "imgaug")


def results_folder(config: Config) -> Path:
    """`<model-dir>/<network>_gates_<True|False>`, with `_<task-name>` behind it where given."""
    task = f"_{config.task_name}" if config.task_name else ""
    return Path(config.model_dir or "results") / f"{config.network}_gates_{config.gates}{task}"


def write_whole(path: Path, text: str) -> None:
    """Write a text file such that readers, and crashes, see the old one or the new one."""
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def write_config(folder: Path, config: Config, **facts: Any) -> None:
    """`config.json`: every option, the command, versions, and `facts` about the data."""
    content = {
        "options": asdict(config),
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "versions": {"python": platform.python_version(), **_versions()},
        **facts,
    }
    write_whole(folder / "config.json", json.dumps(content, indent=1) + "\n")


def _versions() -> dict[str, str]:
    found = {}
    for package in VERSIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


class PlainFormatter(logging.Formatter):
    """A formatter for files: it leaves out the colours of the speeds."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text without colours."""
        return without_colours(super().format(record))


@contextlib.contextmanager
def log_file() -> Iterator[Callable[[Path], None]]:
    """Collect the log from here on; the function given appends it, without colours, to a file.

    So the file also has what was logged before its folder could be made.
    """
    early = MemoryHandler(capacity=10_000, flushLevel=logging.CRITICAL + 1, flushOnClose=False)

    def write_to(path: Path) -> None:
        handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
        handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(message)s"))
        early.setTarget(handler)
        early.flush()
        early.capacity = 1  # from now on every line at once

    logging.getLogger().addHandler(early)
    try:
        yield write_to
    finally:
        logging.getLogger().removeHandler(early)
        if early.target:
            early.target.close()
        early.close()


class Table:
    """A csv with a row an epoch. A row of an epoch that is there already is replaced."""

    def __init__(self, path: Path, columns: tuple[str, ...] = COLUMNS):
        self.path, self.columns = path, columns
        self.rows: list[dict[str, str]] = []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                self.rows = list(csv.DictReader(file))

    def keep_until(self, epoch: int) -> None:
        """Forget the rows of all epochs after `epoch`."""
        self.rows = [row for row in self.rows if int(row["Epoch"]) <= epoch]

    def add(self, epoch: int, values: dict[str, float]) -> None:
        """Write the row of `epoch`; `values` by the columns' names."""
        self.keep_until(epoch - 1)
        self.rows.append({"Epoch": str(epoch), **{k: _number(v) for k, v in values.items()}})
        text = io.StringIO()
        names = [*self.columns, *(k for k in self.rows[-1] if k not in self.columns)]
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_whole(self.path, text.getvalue())

    def column(self, name: str) -> list[float]:
        """One column as numbers, NaN where a row has none."""
        return [float(row.get(name) or "nan") for row in self.rows]


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.6g}"


class Recorder:
    """The files of one run's folder that grow with every epoch."""

    def __init__(self, folder: Path, config: Config, *, first_epoch: int):
        self.folder, self.config = folder, config
        self.tables = {part: Table(folder / f"{part}_results.csv") for part in ("train", "val")}
        self.gates = Table(folder / "gates.csv", ("Epoch",))
        for table in (*self.tables.values(), self.gates):
            table.keep_until(first_epoch - 1)
        self._board = _tensorboard(folder, first_epoch) if config.tensorboard else None
        self._wandb = _wandb(config) if config.wandb else None

    def add_epoch(
        self,
        epoch: int,
        scores: dict[str, dict[str, float]],
        *,
        lr: float,
        gates: dict[str, float],
        speeds: dict[str, float],
    ) -> None:
        """Write down an epoch's `scores` by part, and the share of open gates by block.

        Parts are "train" and, where the epoch was validated, "val". Speeds, no function of the
        seed, go to TensorBoard and Weights & Biases only.
        """
        for part, values in scores.items():
            self.tables[part].add(epoch, _row(values, lr))
        if gates:
            self.gates.add(epoch, gates)
        scalars = {
            f"{part}/{name}": values[name]
            for part, values in scores.items()
            for name in ("top1", "top5", "loss")
        }
        scalars |= {"lr": lr, **{f"gates/{block}": rate for block, rate in gates.items()}}
        scalars |= {f"clips_per_second/{name}": speed for name, speed in speeds.items()}
        if self._board:
            for name, value in scalars.items():
                self._board.add_scalar(name, value, epoch)
            self._board.flush()
        if self._wandb:
            self._wandb.log(scalars, step=epoch)
        self.draw()

    def draw(self) -> None:
        """`curves.png`: loss and accuracy of training and validation, gates where there are any."""
        from matplotlib.figure import Figure

        panels = ["Loss", "Top1", "Top5"] + (["gates open"] if self.gates.rows else [])
        figure = Figure(figsize=(4.2 * len(panels), 3.6), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for axis, panel in zip(axes, panels, strict=True):
            if panel == "gates open":
                for block in [name for name in self.gates.rows[-1] if name != "Epoch"]:
                    axis.plot(self.gates.column("Epoch"), self.gates.column(block), label=block)
            else:
                for name, part in (("training", "train"), ("validation", "val")):
                    table = self.tables[part]
                    axis.plot(table.column("Epoch"), table.column(panel), marker=".", label=name)
            axis.set_title(panel if panel in ("Loss", "gates open") else f"{panel} (%)")
            axis.set_xlabel("epoch")
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.grid(alpha=0.3)
            axis.legend(fontsize="small")
        unfinished = self.folder / ".curves.png"
        figure.savefig(unfinished, dpi=110)
        unfinished.replace(self.folder / "curves.png")

    def close(self) -> None:
        """Finish what is being written elsewhere."""
        if self._board:
            self._board.close()
        if self._wandb:
            self._wandb.finish()


def _row(scores: dict[str, float], lr: float) -> dict[str, float]:
    return {
        "Top1": scores["top1"],
        "Top5": scores["top5"],
        "Loss": scores["loss"],
        "Lr": lr,
        "Clips": scores["clips"],
    }


def _tensorboard(folder: Path, first_epoch: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=first_epoch)


def _wandb(config: Config) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise TrainError("--wandb needs its package: pip install wandb") from error
    return wandb.init(project=config.wandb, config=asdict(config), resume="allow")
