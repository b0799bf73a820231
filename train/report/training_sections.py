"""The parts of the report about training: command, curves, schedule, time, gates."""

from __future__ import annotations

import math
from collections.abc import Iterator

from train.report.charts import line_chart, sparkline, stacked_chart
from train.report.page import escaped
from train.report.run_files import RunFiles
from train.run_clock import duration
from train.speed_monitor import READER_BOUND

#: Columns of train_results.csv: seconds of an epoch, and what they are spent on.
TIMES = {
    "Reading": "waiting for data",
    "Forward": "forward passes",
    "Backward": "backward passes and updates",
}
#: Curves of the schedule: title, and whether their axis is logarithmic.
SCHEDULE = {
    "clips": ("clips of a batch", True),
    "frames": ("frames of a clip", True),
    "pixels a side": ("pixels a side", False),
    "lr": ("learning rate", True),
}


def summary(run: RunFiles) -> str:
    """Return one paragraph: how far the run has come, and its best score."""
    words = [f"Epoch {run.epoch} of {run.epochs}"]
    if run.val.rows:
        best = max(run.val.rows, key=lambda row: row["Top1"])  # the first of equal ones
        last = run.val.rows[-1]
        words.append(
            f"best top-1 accuracy {best['Top1']:.1f} % (epoch {best['Epoch']}), "
            f"last {last['Top1']:.1f} % (top-5 {last['Top5']:.1f} %, loss {last['Loss']:.3g})"
        )
    seconds = sum(v for v in run.train.column("Seconds") if math.isfinite(v))
    if seconds:
        words.append(f"{duration(seconds)} so far")
    left = run.train.column("SecondsLeft")[-1:] or [0]
    if left[0] > 0:  # not NaN
        words.append(f"about {duration(left[0])} left")
    return f"<p>{escaped('; '.join(words))}.</p>"


def curves(run: RunFiles) -> Iterator[str]:
    """Yield the charts of loss and accuracy, and below them those of the schedule."""
    yield "<h2>Curves</h2>"
    if run.train.rows:
        yield '<div class="charts">'
        for column, title in (("Loss", "loss"), ("Top1", "top-1 (%)"), ("Top5", "top-5 (%)")):
            parts = {"training": run.train, "validation": run.val}
            yield line_chart(
                title,
                {
                    name: (table.column("Epoch"), table.column(column))
                    for name, table in parts.items()
                    if table.rows
                },
            )
        yield "</div>"
    if run.schedule:
        yield '<h3>Schedule of the whole run</h3><div class="charts schedule">'
        for name, (title, log) in SCHEDULE.items():
            lines = {title: (run.schedule["x"], run.schedule[name])}
            yield line_chart(title, lines, log=log, steps=True, until=run.epoch)
        yield "</div>"
    elif run.train.rows:  # of an earlier version
        lines = {"learning rate": (run.train.column("Epoch"), run.train.column("Lr"))}
        yield f'<div class="charts">{line_chart("learning rate", lines, log=True)}</div>'


def times(run: RunFiles) -> Iterator[str]:
    """Yield charts of how the time was spent, by epoch and in all; nothing without measurements."""
    rows = [row for row in run.train.rows if all(name in row for name in (*TIMES, "Seconds"))]
    if not rows:
        return
    validation = {row["Epoch"]: row.get("Seconds", 0.0) for row in run.val.rows}
    parts = {words: [row[name] for row in rows] for name, words in TIMES.items()}
    parts["validation"] = [validation.get(row["Epoch"], 0.0) for row in rows]
    known = [sum(values) for values in zip(*parts.values(), strict=True)]
    parts["the rest, such as saving"] = [
        max(0.0, row["Seconds"] - seconds) for row, seconds in zip(rows, known, strict=True)
    ]
    total = sum(map(sum, parts.values())) or 1.0
    steps = sum(sum(parts[words]) for words in TIMES.values()) or 1.0
    waiting = sum(parts[TIMES["Reading"]]) / steps
    yield "<h2>Time</h2>"
    advice = " More --workers may help." if waiting > READER_BOUND else ""
    yield f"<p>The steps waited for data during {waiting:.1%} of their time.{advice}</p>"
    yield '<div class="charts">'
    yield stacked_chart("seconds of an epoch", [row["Epoch"] for row in rows], parts)
    cells = "".join(
        f"<tr><td>{escaped(words)}</td><td>{duration(sum(values))}</td>"
        f"<td>{sum(values) / total:.1%}</td></tr>"
        for words, values in parts.items()
    )
    yield f"<table>{cells}</table></div>"


def gates(run: RunFiles) -> Iterator[str]:
    """Yield how often the gate of each SRTG block was open; nothing without gates."""
    if not run.gates.rows:
        return
    last = run.gates.rows[-1]
    yield f"<h2>SRTG gates</h2><p>Share of clips whose gate was open in epoch {last['Epoch']}, "
    yield "and over all epochs.</p>"
    for block in [name for name in last if name != "Epoch"]:
        share = last[block] if math.isfinite(last[block]) else 0.0
        yield (
            f'<div class="class gate"><span>{escaped(block)}</span>'
            f'<span><div class="bar" style="width:{100 * share:.1f}%"></div></span>'
            f"<span>{share:.0%}</span>{sparkline(run.gates.column(block))}</div>"
        )


def command_and_data(run: RunFiles) -> Iterator[str]:
    """Yield the command, the protocol of the validation, the dataset and the versions."""
    config, facts = run.config, run.facts
    yield "<h2>Command and data</h2>"
    yield f"<pre>{escaped(facts.get('command', 'unknown'))}</pre><dl>"
    spacing = (
        f"{config.clip_fps:g} frames per second"
        if config.clip_fps
        else f"every {_ordinal(config.val_frame_interval)} frame"
    )
    clips = run.val.rows[-1]["Clips"] if run.val.rows else math.nan
    recipe = facts.get("recipe", {})
    versions = facts.get("versions", {})
    items = {
        "dataset": config.dataset,
        "labels": f"{config.labels or 'found by their name'}, split {config.split}",
        "validation": f"one clip from the middle of each video: {config.clip_length} frames, "
        f"{spacing}, the square in the centre at {config.clip_size} × {config.clip_size} pixels"
        + (f"; {clips:,.0f} videos" if math.isfinite(clips) else "")
        + (f", {len(run.classes)} classes"),
        "recipe": recipe.get("name", "original"),
        "fingerprint of the dataset": facts.get("fingerprint", "unknown"),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    for name, words in items.items():
        yield f"<dt>{name}</dt><dd>{escaped(words)}</dd>"
    options = "".join(
        f"<dt>--{name.replace('_', '-')}</dt><dd>{escaped(value)}</dd>"
        for name, value in facts["options"].items()
        if value not in (None, "", [])
    )
    yield "</dl><details><summary>all options</summary>"
    yield f'<dl class="options">{options}</dl></details>'


def _ordinal(number: int) -> str:
    endings = {1: "st", 2: "nd", 3: "rd"}
    teen = 10 <= number % 100 < 20
    return "" if number == 1 else f"{number}{'th' if teen else endings.get(number % 10, 'th')}"
