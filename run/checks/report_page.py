"""Write the report of a dataset: one html file that asks for nothing else."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from data.file_writing import write_text
from run.checks.contact_sheets import Strip
from run.checks.finding import ERROR, LEVELS, NOTE, OK, WARNING, Finding, worst
from run.checks.labelled_parts import Labelled
from run.checks.store_facts import StoreFacts
from run.worker_pool import printable

LISTED = 200  # places of one finding; more are counted
BINS = 24
VERDICTS = {
    ERROR: "Training would fail",
    WARNING: "Training would run; look at the warnings",
    NOTE: "Nothing is wrong",
    OK: "Nothing is wrong",
}
STYLE = """
:root { color-scheme: light dark; --line: #8884; --bar: #4878a8; --pale: #8882; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 0 1rem 3rem;
  overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
.finding { border-left: .4rem solid var(--line); background: var(--pale); padding: .5rem .8rem;
  margin: .6rem 0; border-radius: .2rem; }
.error { border-color: #c62828; } .warning { border-color: #e39300; }
.note { border-color: #4878a8; } .ok { border-color: #3a8a3f; }
.level { font-weight: 600; } .remedy { margin: .2rem 0 0; }
ul.places { font-size: .85rem; padding-left: 1.2rem; margin: .4rem 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-weight: 600; } svg { width: 100%; height: auto; }
svg rect { fill: var(--bar); } svg text { font-size: 11px; fill: currentColor; }
.class { display: grid; grid-template-columns: minmax(0, 35%) 1fr 5rem; gap: .5rem;
  align-items: center; font-size: .9rem; }
.class .bar { background: var(--bar); height: .8rem; border-radius: .15rem; }
.strips { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; margin-bottom: .8rem; }
.strip { max-width: 100%; } .strip div { display: flex; flex-wrap: wrap; gap: 2px; }
.strip img { height: 5rem; max-width: 100%; } .strip small { display: block; opacity: .75; }
summary { cursor: pointer; }
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
        f"<h1>{_text(title)}</h1>",
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
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{STYLE}</style></head>\n<body>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page + "\n".join(parts) + "\n</body></html>\n")


def _text(words: object) -> str:
    """Return text for the page. Names that are not UTF-8 are escaped, as in the log."""
    return escape(printable(str(words)))


def _finding(finding: Finding) -> str:
    text = (
        f'<div class="finding {finding.level}"><span class="level">{finding.level}: '
        f"{_text(finding.subject)}.</span> {_text(finding.text)}"
    )
    if finding.remedy:
        text += f'<p class="remedy">&rarr; {_text(finding.remedy)}</p>'
    if finding.places:
        items = [f"<li>{_text(place)}</li>" for place in finding.places[:LISTED]]
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
        return f"<figure><figcaption>{_text(caption)}</figcaption></figure>"
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
        f'<svg viewBox="0 0 {width} {height + 34}" role="img" aria-label="{_text(title)}">'
        f"{''.join(bars + labels)}</svg>"
    )
    return f"<figure><figcaption>{_text(title)}</figcaption>{svg}</figure>"


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
            f'<div class="class"><span>{_text(first.classes[number])}</span>'
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
            f'<div class="strip"><div>{"".join(map(_image, strip.stored))}</div>'
            f"<div>{''.join(map(_image, strip.augmented))}</div>"
            f"<small>{_text(strip.name)}</small></div>"
            for strip in strips
        )
        yield (
            f'<details open><summary>{_text(name)}</summary><div class="strips">{shown}</div>'
            "</details>"
        )


def _image(jpeg: bytes) -> str:
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'
