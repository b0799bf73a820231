"""A schedule as text and as a picture: its phases, and how much work multigrid saves."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from train.schedule.epoch_table import cut
from train.schedule.steps_table import Schedule, work_of
from train.text_table import text_table

HEADER = ("to epoch", "batch", "frames", "size", "lr", "steps", "clips", "work", "short cycle")


def plan_table(schedule: Schedule) -> str:
    """Return the phases as an aligned table with the totals of the run below it."""
    lines = [HEADER, *(_cells(phase) for phase in schedule.phases())]
    return f"{text_table(lines)}\n\n{summary(schedule)}"


def summary(schedule: Schedule) -> str:
    """Return the totals of the run, compared with those of a run without multigrid."""
    steps, epochs, full = schedule.total_steps, schedule.epochs_without_multigrid, schedule.full
    steps_without = epochs * len(cut(schedule.n_clips, [full.batch])[1])
    work_without = epochs * schedule.n_clips * full.frames * full.size**2
    smallest, largest = schedule.batch_range()
    return (
        f"{schedule.epochs} epochs of {schedule.n_clips:,} clips, {steps:,} steps of {smallest:,} "
        f"to {largest:,} clips; "
        f"without multigrid {epochs} epochs, {steps_without:,} steps: "
        f"{steps_without / steps:.2f} times the steps, "
        f"{work_without / work_of(schedule.table).sum():.2f} times the work (pixels of all clips)"
    )


def _cells(phase: dict) -> tuple[str, ...]:
    others = [
        f"{shape['batch']} of {shape['size']}"
        for shape in phase["short_cycle"]
        if (shape["frames"], shape["size"]) != (phase["frames"], phase["size"])
    ]
    return (
        str(phase["end_epoch"]),
        str(phase["batch"]),
        str(phase["frames"]),
        str(phase["size"]),
        f"{phase['lr']:.6g}",
        f"{phase['steps']:,}",
        f"{phase['clips']:,}",
        f"{phase['share']:.1%}",
        ", ".join(others) or "-",
    )


def draw_plan(schedule: Schedule, path: Path) -> None:
    """Draw batch, frames, size and learning rate over the run and over its first epoch.

    Args:
        schedule: what to draw.
        path: the picture; its suffix names the format.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 9), layout="constrained")
    axes = figure.subplots(4, 2, sharex="col")
    columns = ((run_curves(schedule), "epochs"), (epoch_curves(schedule), "part of its work"))
    for column, (curves, label) in enumerate(columns):
        x = curves.pop("x")
        for axis, (name, values) in zip(axes[:, column], curves.items(), strict=True):
            axis.stairs(values, x, baseline=None, linewidth=1.2)
            axis.set_ylabel(name)
            axis.grid(alpha=0.3)
        axes[0, column].set_yscale("log", base=2)
        axes[3, column].set_yscale("log")
        axes[3, column].set_xlabel(label)
    axes[0, 0].set_title("the run (long cycles)")
    axes[0, 1].set_title("its first epoch (every step)")
    figure.suptitle(summary(schedule), fontsize=9)
    figure.savefig(path, dpi=120)


def run_curves(schedule: Schedule) -> dict[str, np.ndarray]:
    """Return step curves of the run, with one value for each schedule phase of each epoch.

    `x` (n + 1,) is in epochs, each curve has n values. Shapes are those of the long cycle.
    """
    table = schedule.table
    starts = np.flatnonzero(
        np.diff(table["epoch"], prepend=0) | np.diff(table["phase"], prepend=-1)
    )
    first_steps = table[starts]
    shapes = [schedule.phase_shapes[phase].shape for phase in first_steps["phase"]]
    batch, frames, size = np.array(shapes).T
    x = first_steps["epoch"] - 1 + first_steps["start"] / schedule.n_clips
    return {
        "x": np.append(x, schedule.epochs),
        "clips": batch,
        "frames": frames,
        "pixels a side": size,
        "lr": first_steps["lr"],
    }


def epoch_curves(schedule: Schedule) -> dict[str, np.ndarray]:
    """Return curves of the first epoch: one value for each step, between the edges `x`.

    `x` (steps + 1,) is the part of the epoch's work that is done.
    """
    steps = schedule.table[: schedule.epoch_steps(1).stop]
    work = work_of(steps).cumsum()
    return {
        "x": np.append(0, work / work[-1]),
        "clips": steps["batch"],
        "frames": steps["frames"],
        "pixels a side": steps["size"],
        "lr": steps["lr"],
    }
