"""Write the report of a dataset: one html file that needs no other file and no network."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from data.file_writing import write_text
from run.checks.contact_sheets import Strip
from run.checks.finding import ERROR, LEVELS, NOTE, OK, WARNING, Finding, worst
from run.checks.labelled_parts import Labelled
from run.checks.store_facts import StoreFacts
from train.report.page import escaped, html_page, picture

LISTED = 200  # places of one finding; more are counted
BINS = 24
VERDICTS = {
    ERROR: "Training would fail",
    WARNING: "Training would run; look at the warnings",
    NOTE: "Nothing is wrong",
    OK: "Nothing is wrong",
}
STYLE = """
.finding { border-left: .4rem solid var(--line); background: var(--pale); padding: .5rem .8rem;
  margin: .6rem 0; border-radius: .2rem; }
.error { border-color: #c62828; } .warning { border-color: #e39300; }
.note { border-color: #4878a8; } .ok { border-color: #3a8a3f; }
.level { font-weight: 600; } .remedy { margin: .2rem 0 0; }
ul.places { font-size: .85rem; padding-left: 1.2rem; margin: .4rem 0; }
"""


def write_report(
    path: Path,
    *,
    title: str,
    findings: Sequence[Finding],
    machine: Sequence[Finding],
    labelled: Labelled,
    facts: Mapping[str, StoreFacts],
    sheets: Mapping[str, Sequence[Strip]],
) -> None:
    """Write the page. Raises OSError if the disk is full or the folder cannot be written."""
    good = [fact for fact in facts.values() if not fact.error]
    level = worst(findings)
    counts = [f"{name}s: {sum(f.level == name for f in findings)}" for name in LEVELS[::-1][:3]]
    parts = [
        f"<h1>{escaped(title)}</h1>",
        f'<p class="finding {level}"><span class="level">{VERDICTS[level]}.</span> '
        f"{', '.join(counts)}. {len(facts):,} videos, {sum(f.n_frames for f in good):,} frames. "
        f"{datetime.datetime.now().strftime('%d %B %Y, %H:%M')}</p>",
        "<h2>Findings</h2>",
        *map(_finding, findings),
        "<h2>Lengths, sizes and frame rates</h2>",
        '<div class="charts">',
        histogram("frames of a video", [fact.n_frames for fact in good]),
        histogram("seconds of a video", [fact.n_frames / fact.fps for fact in good if fact.fps]),
        histogram("short side in pixels", [min(fact.height, fact.width) for fact in good]),
        histogram("frames per second", [fact.fps for fact in good if fact.fps]),
        "</div>",
        "<h2>Classes</h2>",
        _classes(labelled),
        *_sheets(sheets),
        "<h2>This machine</h2>",
        *map(_finding, machine),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, html_page(title, parts, style=STYLE))


def _finding(finding: Finding) -> str:
    text = (
        f'<div class="finding {finding.level}"><span class="level">{finding.level}: '
        f"{escaped(finding.subject)}.</span> {escaped(finding.text)}"
    )
    if finding.remedy:
        text += f'<p class="remedy">&rarr; {escaped(finding.remedy)}</p>'
    if finding.places:
        items = [f"<li>{escaped(place)}</li>" for place in finding.places[:LISTED]]
        if len(finding.places) > LISTED:
            items.append(f"<li>and {len(finding.places) - LISTED:,} more</li>")
        listed = f"<ul class='places'>{''.join(items)}</ul>"
        text += f"<details><summary>{len(finding.places):,} listed</summary>{listed}</details>"
    return text + "</div>"


def histogram(title: str, values: Sequence[float]) -> str:
    """Return a figure with the histogram of some numbers; nothing if there are none."""
    if not len(values):
        return ""
    numbers = np.asarray(values, np.float64)
    low, high = numbers.min(), numbers.max()
    if low == high:
        caption = f"{title}: {low:,.4g} in all {len(numbers):,}"
        return f"<figure><figcaption>{escaped(caption)}</figcaption></figure>"
    bins: int | np.ndarray = BINS
    if (numbers == np.rint(numbers)).all():  # as many whole numbers in each bar
        width = np.ceil((high - low + 1) / BINS)
        bins = np.arange(low - 0.5, high + width, width)
    counts, edges = np.histogram(numbers, bins=bins)
    width, height = 320, 110
    step = width / len(counts)
    bars = [
        f'<rect x="{i * step + 0.5:.1f}" y="{14 + height - bar:.1f}" width="{step - 1:.1f}" '
        f'height="{bar:.1f}">'
        f"<title>{edges[i]:,.4g} to {edges[i + 1]:,.4g}: {count:,}</title></rect>"
        for i, count in enumerate(counts.tolist())
        for bar in [height * count / counts.max()]
    ]
    median = f"median {np.median(numbers):,.4g}"
    labels = [
        f'<text x="0" y="11">{counts.max():,}</text>',
        f'<text x="0" y="{height + 28}">{low:,.4g}</text>',
        f'<text x="{width / 2}" y="{height + 28}" text-anchor="middle">{median}</text>',
        f'<text x="{width}" y="{height + 28}" text-anchor="end">{high:,.4g}</text>',
    ]
    svg = (
        f'<svg viewBox="0 0 {width} {height + 34}" role="img" aria-label="{escaped(title)}">'
        f"{''.join(bars + labels)}</svg>"
    )
    return f"<figure><figcaption>{escaped(title)}</figcaption>{svg}</figure>"


def _classes(labelled: Labelled) -> str:
    """Return a bar for each class with the numbers of its videos in the parts, largest first."""
    first = next(iter(labelled.parts.values()), None)
    if first is None:
        return "<p>No part of the dataset can be used.</p>"
    counts = [
        np.bincount(videos.labels, minlength=len(first.classes))
        for videos in labelled.parts.values()
    ]
    rows = []
    for number in np.argsort(-counts[0], kind="stable").tolist():
        share = 100 * counts[0][number] / max(1, counts[0].max())
        numbers = " + ".join(f"{count[number]:,}" for count in counts)
        rows.append(
            f'<div class="class"><span>{escaped(first.classes[number])}</span>'
            f'<span><div class="bar" style="width:{share:.1f}%"></div></span>'
            f"<span>{numbers}</span></div>"
        )
    heading = f"videos of each class: {' + '.join(labelled.parts)}"
    return (
        f"<details open><summary>{heading} ({len(rows):,} classes)</summary>"
        f"{''.join(rows)}</details>"
    )


def _sheets(sheets: Mapping[str, Sequence[Strip]]) -> Iterable[str]:
    if not sheets:
        return
    yield "<h2>Contact sheets</h2><p>Of some videos of each class: frames as they are stored, and "
    yield "frames of one training clip, cropped and augmented.</p>"
    for name, strips in sheets.items():
        shown = "".join(
            f'<div class="strip"><div>{"".join(map(picture, strip.stored))}</div>'
            f"<div>{''.join(map(picture, strip.augmented))}</div>"
            f"<small>{escaped(strip.name)}</small></div>"
            for strip in strips
        )
        yield (
            f'<details open><summary>{escaped(name)}</summary><div class="strips">{shown}</div>'
            "</details>"
        )
