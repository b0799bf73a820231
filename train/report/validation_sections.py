"""The parts of the report about the last validation: classes, confusion, the worst predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from train.report.charts import confusion_figure
from train.report.film_strips import film
from train.report.page import escaped
from train.report.prediction_scores import (
    confidently_wrong,
    confused_pairs,
    confusion_matrix,
    hardest,
    wilson_interval,
)
from train.report.run_files import RunFiles
from train.results.val_predictions import ValPredictions

PAIRS = 20
STRIPS = 12  # of each kind
OPEN = 60  # classes up to which the list of classes is unfolded


def shown_clips(found: ValPredictions) -> tuple[list[int], list[int]]:
    """Return the positions of the most confident errors, and of the hardest other clips."""
    wrong = confidently_wrong(found, STRIPS)
    return wrong, hardest(found, STRIPS, besides=wrong)


def validation(run: RunFiles, strips: Mapping[int, Sequence[bytes]]) -> Iterator[str]:
    """Yield the parts about `run.predictions`.

    Args:
        run: a run that has predictions.
        strips: JPEGs of the frames of clips, by their position in the predictions.
    """
    found = run.predictions
    matrix = confusion_matrix(found.labels, found.predicted, len(run.classes))
    right = 100 * (~found.is_wrong).mean()
    yield f"<h2>Validation after epoch {found.epoch}</h2>"
    yield f"<p>{len(found.videos):,} videos, top-1 accuracy {right:.1f} %. All predictions are in "
    yield "val_predictions.csv.</p>"
    yield from classes(run, matrix)
    yield f"<h3>Confusion matrix</h3>{confusion_figure(matrix, run.classes)}"
    yield from pairs(run, matrix)
    wrong, hard = shown_clips(found)
    yield from films(run, strips, wrong, "Most confidently wrong", "Wrong predictions, the highest "
                     "probabilities first. Look for wrong labels here.")  # fmt: skip
    yield from films(run, strips, hard, "Hardest of the others", "The lowest probabilities of the "
                     "label first.")  # fmt: skip


def classes(run: RunFiles, matrix: np.ndarray) -> Iterator[str]:
    """Yield the accuracy of each class, the lowest first."""
    clips, hits = matrix.sum(1), matrix.diagonal()
    low, high = wilson_interval(hits, clips)
    share = hits / np.maximum(clips, 1)
    order = [i for i in np.argsort(share, kind="stable").tolist() if clips[i]]
    mean = 100 * share[order].mean() if order else 0.0
    yield f"<details{' open' if len(order) <= OPEN else ''}><summary>Top-1 accuracy of each class "
    yield f"({len(order):,} classes, mean {mean:.1f} %)</summary><p><small>The thin line is the "
    yield "95 % interval (Wilson) for as many videos.</small></p>"
    for i in order:
        yield (
            f'<div class="class"><span>{escaped(run.classes[i])}</span><span class="track">'
            f'<div class="bar" style="width:{100 * share[i]:.1f}%"></div>'
            f'<i style="left:{100 * low[i]:.1f}%;width:{100 * (high[i] - low[i]):.1f}%"></i></span>'
            f"<span>{100 * share[i]:.0f} % of {clips[i]}</span></div>"
        )
    yield "</details>"


def pairs(run: RunFiles, matrix: np.ndarray) -> Iterator[str]:
    """Yield the table of the most confused pairs of classes."""
    found = confused_pairs(matrix, PAIRS)
    yield "<h3>Most confused pairs</h3>"
    if not found:
        yield "<p>No video was given a wrong class.</p>"
        return
    rows = "".join(
        f"<tr><td>{escaped(run.classes[pair.label])}</td>"
        f"<td>{escaped(run.classes[pair.predicted])}</td>"
        f"<td>{pair.clips:,} of {pair.of:,}</td></tr>"
        for pair in found
    )
    yield "<table><tr><th>label</th><th>predicted as</th><th>videos</th></tr>"
    yield f"{rows}</table>"


def films(
    run: RunFiles,
    strips: Mapping[int, Sequence[bytes]],
    indices: Sequence[int],
    title: str,
    words: str,
) -> Iterator[str]:
    """Yield film strips with label, prediction and probabilities."""
    if not indices:
        return
    found = run.predictions
    yield f'<h3>{title}</h3><p>{words}</p><div class="films">'
    for index in indices:
        label, predicted = (run.classes[c[index]] for c in (found.labels, found.predicted))
        said = f"{label}: {found.label_probability[index]:.1%}"
        if found.is_wrong[index]:
            said += f"; predicted {predicted}: {found.probability[index]:.1%}"
        yield film(found.name(index), [said], strips.get(index, ()))
    yield "</div>"
