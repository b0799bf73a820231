"""A run before it starts, as text and as a picture: its phases, and what multigrid saves."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from train.schedule.schedule import Phase, Schedule

HEADER = ("to epoch", "batch", "frames", "size", "lr", "steps", "clips", "work", "short cycle")


def plan_table(schedule: Schedule) -> str:
    """The phases as an aligned table, and the totals below it."""
    lines = [HEADER, *(_cells(phase) for phase in schedule.phases())]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    rows = [
        "  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in lines
    ]
    return "\n".join([*rows, "", summary(schedule)])


def summary(schedule: Schedule) -> str:
    """Totals of the run, beside those of a run without multigrid."""
    steps, baseline = schedule.total_steps, schedule.baseline_steps()
    smallest, largest = schedule.batch_range()
    return (
        f"{schedule.epochs} epochs of {schedule.n_clips:,} clips, {steps:,} steps of {smallest:,} "
        f"to {largest:,} clips; "
        f"without multigrid {schedule.baseline_epochs} epochs, {baseline:,} steps: "
        f"{baseline / steps:.2f} times the steps, "
        f"{schedule.baseline_work() / schedule.work():.2f} times the work (pixels of all clips)"
    )


def _cells(phase: Phase) -> tuple[str, ...]:
    others = [turn for turn in phase.turns if turn[1:] != (phase.frames, phase.size)]
    return (
        str(phase.end_epoch),
        str(phase.batch),
        str(phase.frames),
        str(phase.size),
        f"{phase.lr:.6g}",
        f"{phase.steps:,}",
        f"{phase.clips:,}",
        f"{phase.share:.1%}",
        ", ".join(f"{turn.batch} of {turn.size}" for turn in others) or "-",
    )


def draw_plan(schedule: Schedule, path: Path) -> None:
    """Draw batch, frames, side and learning rate over the run, and over its first epoch's work."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 9), layout="constrained")
    axes = figure.subplots(4, 2, sharex="col")
    columns = ((run_curves(schedule), "epochs"), (epoch_curves(schedule), "share of its work"))
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
    """The long cycles' shapes over the epochs: edges `x` (n + 1,) and n values of each curve."""
    begins, shapes, rates = [], [], []
    for epoch in range(1, schedule.epochs + 1):
        layout, first = schedule.layout(epoch), schedule.epoch_steps(epoch).start
        for i in np.flatnonzero(np.diff(layout.row, prepend=-1)):
            begins.append(epoch - 1 + layout.start[i] / schedule.n_clips)
            shapes.append(schedule.shapes[layout.row[i]].main)
            rates.append(schedule.lr(first + int(i)))
    batch, frames, size = np.array(shapes).T
    x = np.array([*begins, schedule.epochs])
    return {"x": x, "clips": batch, "frames": frames, "pixels a side": size, "lr": np.array(rates)}


def epoch_curves(schedule: Schedule) -> dict[str, np.ndarray]:
    """The first epoch's steps: edges `x` (steps + 1,), the share of work done; values a step."""
    layout = schedule.layout(1)
    work = (layout.batch * layout.frames * layout.size**2).cumsum()
    return {
        "x": np.concatenate([[0], work / work[-1]]),
        "clips": layout.batch,
        "frames": layout.frames,
        "pixels a side": layout.size,
        "lr": np.array([schedule.lr(step) for step in schedule.epoch_steps(1)]),
    }
