"""Find likely wrong labels by the losses of the training videos, `train_losses.npy` of a run.

A network learns what most labels of a class have in common first, and wrong labels last or never.
So a video whose loss stays high over the epochs is likely to have a wrong label, or is a hard one.
The score of a video is the mean over the epochs of its loss minus the mean loss of all videos in
that epoch (O2U-Net: Huang et al., ICCV 2019, without its cyclical learning rate).
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.annotations.dataset_fingerprint import Fingerprint
from data.annotations.splits import open_split
from data.annotations.video_folders import Videos
from data.data_error import DataError
from data.dataset_defaults import dataset_spec
from data.file_writing import write_atomically
from train.report.run_files import RunFiles, read_run
from train.results.losses_file import NAME as LOSSES
from train.results.losses_file import open_losses

SHARE = 0.1  # of the videos that are listed
LISTED = "label_errors.csv"
PRINTED = 10  # videos
COLUMNS = ("row", "video", "label", "score", "likely_class", "epochs_predicted_otherwise")


class Suspect(NamedTuple):
    """A video whose label may be wrong."""

    index: int  # of the training video
    score: float
    likely: int | None  # number of the likely class; None if the network never chose another one
    otherwise: int  # epochs in which the network chose another class than the label


class LabelErrors(NamedTuple):
    """The videos of a run whose labels are the likeliest to be wrong, and what they come from."""

    run: RunFiles
    videos: Videos
    losses: np.ndarray  # (epochs, videos), see train.results.losses_file
    scores: np.ndarray  # float64 (videos,), NaN for a video that no epoch has shown
    suspects: list[Suspect]  # the highest scores first


def find_label_errors(
    folder: Path, *, dataset: Path | None = None, labels: Path | None = None
) -> LabelErrors:
    """Return the SHARE of a run's training videos that have the highest scores.

    Args:
        folder: the run's results.
        dataset: its dataset, if that has been moved.
        labels: its label csvs, if they have been moved.

    Raises:
        DataError: the folder has no run or no losses, or the labels are not those of the run.
    """
    run, losses = read_run(folder), open_losses(folder)
    if losses is None or not len(losses):
        raise DataError(
            f"{folder / LOSSES}: {'has no epoch yet' if losses is not None else 'is missing'}; "
            "a training writes it after each epoch"
        )
    config = run.config
    videos = open_split(
        dataset_spec(config.benchmark, config.variant),
        dataset or config.dataset,
        "train",
        labels=labels or config.labels or None,
        split=config.split,
        skip_bad=True,
    )
    trained = Fingerprint.parse(run.facts.get("fingerprint", "")).training
    if trained != videos.fingerprint() or losses.shape[1] != len(videos):
        raise DataError(
            f"{videos.source}: its videos or labels are not those of the training in {folder}; "
            "give the labels that it was trained with by --labels"
        )
    scores = scores_of(losses["loss"])
    return LabelErrors(run, videos, losses, scores, suspects_of(losses, videos.labels, scores))


def scores_of(losses: np.ndarray) -> np.ndarray:
    """Return the score of each video, float64 (videos,), NaN where no epoch has a loss.

    Args:
        losses: (epochs, videos), NaN where it is not known. Read one epoch at a time.
    """
    total, epochs = np.zeros(losses.shape[1]), np.zeros(losses.shape[1])
    for row in losses:
        known = np.isfinite(row)
        if known.any():
            loss = row[known].astype(np.float64)
            total[known] += loss - loss.mean()
            epochs += known
    return np.divide(total, epochs, out=np.full(len(total), np.nan), where=epochs > 0)


def suspects_of(losses: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> list[Suspect]:
    """Return the SHARE of the videos that have the highest scores."""
    known = np.flatnonzero(np.isfinite(scores))
    order = known[np.argsort(-scores[known], kind="stable")][: math.ceil(SHARE * len(known))]
    predicted = np.stack([row[order] for row in losses["predicted"]])  # (epochs, suspects)
    return [
        Suspect(index, float(scores[index]), *_likely(column, int(labels[index])))
        for index, column in zip(order.tolist(), predicted.T, strict=True)
    ]


def _likely(predicted: np.ndarray, label: int) -> tuple[int | None, int]:
    """Return the class that the network chose most often beside the label, and in how many epochs.

    Later epochs know more, so an epoch counts as often as the square of its number.
    """
    other = np.flatnonzero((predicted >= 0) & (predicted != label))
    if not len(other):
        return None, 0
    return int(np.bincount(predicted[other], weights=(other + 1.0) ** 2).argmax()), len(other)


def as_text(found: LabelErrors) -> str:
    """Return the first suspects as lines of text."""
    videos = found.videos
    lines = [
        f"{suspect.score:8.3f}  {videos.name(suspect.index)}  labelled "
        f"{videos.classes[videos.labels[suspect.index]]}"
        + ("" if suspect.likely is None else f", likely {videos.classes[suspect.likely]}")
        for suspect in found.suspects[:PRINTED]
    ]
    return "\n".join(["the likeliest wrong labels (score, video):", *lines])


def write_csv(path: Path, found: LabelErrors) -> None:
    """Write the suspects as csv, atomically. Bytes of names that are not UTF-8 stay as they are."""
    text, videos = io.StringIO(newline=""), found.videos
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for index, score, likely, otherwise in found.suspects:
        label = videos.classes[videos.labels[index]]
        other = "" if likely is None else videos.classes[likely]
        name = videos.name(index)
        writer.writerow((videos.rows[index], name, label, f"{score:.4g}", other, otherwise))
    content = text.getvalue().encode(errors="surrogateescape")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(content))
