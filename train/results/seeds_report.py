"""Compare the runs of several seeds: a table of mean and spread, and curves with a band."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.file_writing import naming, write_atomically, write_text
from train.results.history import History
from train.text_table import text_table

COLUMNS = ("seed", "epochs", "best_top1", "best_epoch", "top1", "top5", "loss", "train_loss")
BAND = 0.2  # opacity


class SeedResult(NamedTuple):
    """The scores of a finished run."""

    seed: int
    history: History

    def row(self) -> dict[str, float]:
        """Return the best validation, the scores of the last epoch, and the number of epochs."""
        train, val = (self.history.tables[f"{part}_results.csv"].rows for part in ("train", "val"))
        best = max(val, key=lambda row: row["Top1"])  # the first of equal ones
        last = val[-1]
        return {
            "seed": self.seed,
            "epochs": train[-1]["Epoch"],
            "best_top1": best["Top1"],
            "best_epoch": best["Epoch"],
            "top1": last["Top1"],
            "top5": last["Top5"],
            "loss": last["Loss"],
            "train_loss": train[-1]["Loss"],
        }


def summarised(results: Sequence[SeedResult]) -> dict[str, dict[str, float]]:
    """Return mean and sample standard deviation of each column; the latter is 0 for one run."""
    rows = [result.row() for result in results]
    columns = {name: [float(row[name]) for row in rows] for name in COLUMNS[1:]}
    return {
        "mean": {name: float(np.mean(values)) for name, values in columns.items()},
        "std": {
            name: float(np.std(values, ddof=len(values) > 1)) for name, values in columns.items()
        },
    }


def seeds_table(results: Sequence[SeedResult]) -> str:
    """Return the runs, their mean and their standard deviation as an aligned table."""
    rows = [list(COLUMNS)]
    for row in _rows(results):
        rows.append(
            [_cell(value, decimals=4 if "loss" in name else 2) for name, value in row.items()]
        )
    return text_table(rows)


def _rows(results: Sequence[SeedResult]) -> list[dict[str, float | str]]:
    summary = summarised(results)
    return [result.row() for result in results] + [
        {"seed": name, **values} for name, values in summary.items()
    ]


def _cell(value: float | str, *, decimals: int) -> str:
    return f"{value:.{decimals}f}" if isinstance(value, float) else str(value)


def write_report(folder: Path, results: Sequence[SeedResult]) -> str:
    """Write seeds.txt, seeds.csv, seeds.json and curves.png into `folder`; return the table."""
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
    table = seeds_table(results)
    write_text(folder / "seeds.txt", table + "\n")
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(results))
    write_text(folder / "seeds.csv", text.getvalue())
    content = {"seeds": [result.row() for result in results], **summarised(results)}
    write_text(folder / "seeds.json", json.dumps(_without_nan(content), indent=1) + "\n")
    draw_seeds(results, folder / "curves.png")
    return table


def _without_nan(value: Any) -> Any:
    """Return a copy with None for numbers that are not finite, which JSON does not have."""
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def draw_seeds(results: Sequence[SeedResult], path: Path) -> None:
    """Draw loss and accuracy of all runs: mean, a band of one standard deviation, each run thin."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.6, 3.6), layout="constrained")
    axes = figure.subplots(1, 3)
    for axis, panel in zip(axes, ("Loss", "Top1", "Top5"), strict=True):
        for number, (name, part) in enumerate((("training", "train"), ("validation", "val"))):
            epochs, mean, spread = mean_curve(results, part, panel)
            colour = f"C{number}"
            for result in results:
                table = result.history.tables[f"{part}_results.csv"]
                axis.plot(
                    table.column("Epoch"), table.column(panel), color=colour, lw=0.6, alpha=0.5
                )
            axis.plot(epochs, mean, color=colour, marker=".", label=f"{name}, mean")
            axis.fill_between(epochs, mean - spread, mean + spread, color=colour, alpha=BAND, lw=0)
        axis.set_title(panel if panel == "Loss" else f"{panel} (%)")
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    seeds = ", ".join(str(result.seed) for result in results)
    figure.suptitle(f"seeds {seeds}: mean, and band of one standard deviation", fontsize=9)
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=110))


def mean_curve(
    results: Sequence[SeedResult], part: str, column: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the epochs that any run has, and mean and standard deviation over the runs, (n,)."""
    values: dict[int, list[float]] = {}
    for result in results:
        table = result.history.tables[f"{part}_results.csv"]
        for epoch, value in zip(table.column("Epoch"), table.column(column), strict=True):
            values.setdefault(epoch, []).append(value)
    epochs = sorted(values)
    return (
        np.array(epochs),
        np.array([np.mean(values[epoch]) for epoch in epochs]),
        np.array([np.std(values[epoch], ddof=len(values[epoch]) > 1) for epoch in epochs]),
    )
