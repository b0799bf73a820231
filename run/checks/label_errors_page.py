"""Write the page of likely wrong labels: film strips, the losses, the method."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data.file_writing import write_text
from run.checks.label_errors import LISTED, LabelErrors
from run.checks.report_page import histogram
from train.report.charts import line_chart
from train.report.film_strips import film, film_strips
from train.report.page import RUN_STYLE, escaped, html_page

SHOWN = 60  # film strips
METHOD = (
    "A network learns first what most videos of a class have in common, and wrong labels last or "
    "never. The score of a video is the mean over the epochs of its training loss minus the mean "
    "loss of all videos in that epoch (O2U-Net, Huang et al., ICCV 2019, here without its cyclical "
    "learning rate). Hard videos score high too: look at them before you change a label."
)
MIXED = (
    "The clips of this training were mixed with others (--mixup, --cutmix), so each loss also "
    "depends on another video, and the scores say less."
)


def write_label_errors(path: Path, found: LabelErrors) -> None:
    """Write the page atomically. Raises OSError if it cannot be written."""
    title = f"Likely wrong labels of {Path(found.run.config.dataset).name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, html_page(title, _parts(title, found), style=RUN_STYLE))


def _parts(title: str, found: LabelErrors) -> Iterator[str]:
    config, epochs = found.run.config, len(found.losses)
    yield f"<h1>{escaped(title)}</h1>"
    yield f"<p>By the losses of {len(found.videos):,} training videos in {epochs} epochs of "
    yield f"{escaped(found.run.folder)}. {LISTED} beside this page lists the "
    yield f"{len(found.suspects):,} videos with the highest scores.</p><p>{METHOD}</p>"
    if config.mixup or config.cutmix:
        yield f"<p>{MIXED}</p>"
    yield '<div class="charts">'
    yield histogram("score of a video", found.scores[np.isfinite(found.scores)])
    yield _curves(found)
    yield "</div>"
    shown = found.suspects[:SHOWN]
    yield f"<h2>The {len(shown)} highest scores</h2>"
    videos = found.videos
    strips = film_strips(config, videos, [suspect.index for suspect in shown])
    yield '<div class="films">'
    for number, (index, score, likely, otherwise) in enumerate(shown, 1):
        said = f"{number}. labelled {videos.classes[videos.labels[index]]}"
        if likely is not None:
            said += f", likely {videos.classes[likely]}"
        how = f"score {score:.3g}; another class was chosen in {otherwise} of {epochs} epochs"
        row = f"{videos.source.name}:{videos.rows[index]}"
        yield film(videos.name(index), [said, how, row], strips.get(index, ()))
    yield "</div>"


def _curves(found: LabelErrors) -> str:
    """Return a chart of the mean loss by epoch of the suspects and of the other videos."""
    listed = np.zeros(len(found.videos), bool)
    listed[[suspect.index for suspect in found.suspects]] = True
    means: dict[str, list[float]] = {"listed videos": [], "the others": []}
    for row in found.losses["loss"]:
        loss = row.astype(np.float64)
        for name, which in zip(means, (listed, ~listed), strict=True):
            known = loss[which & np.isfinite(loss)]
            means[name].append(float(known.mean()) if len(known) else np.nan)
    epochs = range(1, len(found.losses) + 1)
    return line_chart("mean loss", {name: (epochs, values) for name, values in means.items()})
