"""A run before it starts, as text: its phases, and what multigrid saves."""

from __future__ import annotations

from train.multigrid import Phase, Schedule

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
    return (
        f"{schedule.epochs} epochs of {schedule.n_clips:,} clips, {steps:,} steps; "
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
