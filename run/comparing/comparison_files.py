"""Write a comparison: comparison.md to read, and csv tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data.file_writing import write_text
from run.comparing.class_changes import ClassChange
from run.comparing.comparison import Comparison, Difference, Scores
from run.comparing.configurations import Compared
from run.comparing.paired_bootstrap import RESAMPLES, Interval
from run.comparing.pictures import draw_changes, draw_comparison
from run.tables import markdown_table, write_csv
from run.worker_pool import printable

PAGE = "comparison.md"
LISTED = 10  # classes of each kind on the page
TITLES = {"top1": "top-1", "mean_class_accuracy": "mean class accuracy"}


def write_comparison(folder: Path, compared: Compared, comparison: Comparison) -> None:
    """Write all files of a comparison into an empty folder."""
    write_text(folder / PAGE, comparison_page(compared, comparison))
    write_csv(folder / "scores.csv", (one.row() for one in comparison.scores))
    write_csv(folder / "differences.csv", map(_difference_row, comparison.differences))
    write_csv(
        folder / "classes.csv",
        (
            {"first": first, "second": second, **change._asdict(), "net": change.net}
            for (first, second), changes in comparison.changes.items()
            for change in changes
        ),
    )
    draw_comparison(comparison, folder / "comparison.png")
    for number, (pair, changes) in enumerate(comparison.changes.items(), 1):
        name = "classes.png" if len(comparison.changes) == 1 else f"classes_{number}.png"
        draw_changes(changes, *pair, folder / name)


def _difference_row(one: Difference) -> dict[str, object]:
    runs = one.over_runs
    return {
        "first": one.first,
        "second": one.second,
        "score": one.score,
        "difference": one.over_videos.value,
        "low": one.over_videos.low,
        "high": one.over_videos.high,
        "low_over_runs": runs.low if runs else None,
        "high_over_runs": runs.high if runs else None,
        "mcnemar_p": one.p,
        "verdict": one.verdict,
    }


def comparison_page(compared: Compared, comparison: Comparison) -> str:
    """Return comparison.md."""
    levels = "All at 95 %."
    if len(comparison.changes) > 1:
        level = f"{100 * comparison.level:.4g} %"
        levels = f"Each at {level}, so that those of all pairs hold together with 95 %."
    lines = [
        f"# {len(comparison.scores)} configurations on {printable(compared.dataset)}",
        "",
        f"{len(compared.labels):,} videos of {len(compared.classes):,} classes. "
        + ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in compared.protocol.items() if v)
        + ".",
        "",
    ]
    if compared.unlike:
        lines += [f"**The protocols differ**: {compared.unlike}.", ""]
    lines += [*scores_table(comparison.scores), "", *differences_table(comparison), ""]
    lines += [
        "Differences are in percentage points. Over the videos: percentiles of a paired bootstrap "
        f"({RESAMPLES:,} samples); over the runs: Welch's t-test; p: McNemar's exact test. "
        f"{levels} Intervals over videos do not say how much another training would change the "
        "result: only several runs of each configuration do.",
        "",
    ]
    for (first, second), changes in comparison.changes.items():
        lines += [f"## Classes: {printable(second)} against {printable(first)}", ""]
        lines += [*_changes_table(changes), ""]
    return "\n".join(lines)


def scores_table(scores: Sequence[Scores]) -> list[str]:
    """Return the scores of all configurations as a Markdown table."""
    rows = []
    for one in scores:
        cells = [printable(one.name), str(len(one.top1))]
        row = one.row()
        for name in TITLES:
            if len(one.top1) > 1:
                low, high = row[f"{name}_low"], row[f"{name}_high"]
                spread = f" ± {row[f'{name}_std']:.2f} ({low:.2f} to {high:.2f})"
            elif name == "top1" and one.interval:
                spread = f" [{one.interval.low:.2f}, {one.interval.high:.2f}]"
            else:
                spread = ""
            cells.append(f"{row[name]:.2f} %{spread}")
        rows.append(cells)
    return markdown_table(["configuration", "runs", *TITLES.values()], rows)


def differences_table(comparison: Comparison) -> list[str]:
    """Return the differences of all pairs as a Markdown table."""
    rows = [
        [
            f"{printable(one.second)} against {printable(one.first)}",
            TITLES[one.score],
            str(one.over_videos),
            _ends(one.over_runs),
            "" if one.p is None else f"{one.p:.3g}",
            printable(one.verdict),
        ]
        for one in comparison.differences
    ]
    heads = ["pair", "score", "difference, over the videos", "over the runs", "p", "verdict"]
    return markdown_table(heads, rows)


def _ends(interval: Interval | None) -> str:
    return f"[{interval.low:+.2f}, {interval.high:+.2f}]" if interval else "single runs"


def _changes_table(changes: Sequence[ClassChange]) -> list[str]:
    """Return the classes that change most."""
    shown = [one for one in changes if one.net > 0][:LISTED]
    shown += [one for one in changes if one.net < 0][-LISTED:]
    if not shown:
        return ["No class gains or loses."]
    rows = [
        [
            printable(one.name),
            str(one.videos),
            f"{one.before:.1f} %",
            f"{one.after:.1f} %",
            f"{one.gained:.3g}",
            f"{one.lost:.3g}",
            f"{one.net:+.3g}",
        ]
        for one in shown
    ]
    return markdown_table(["class", "videos", "before", "after", "gained", "lost", "net"], rows)
