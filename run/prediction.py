"""Predict what the options of `run.predict` ask for, print the answers and write the files."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from data.data_error import DataError
from data.file_writing import write_text
from run.given_videos import videos_of
from run.predicting.prediction_files import JSON, Prediction, predictions_json
from run.predicting.timeline_picture import clock
from run.recogniser import Recogniser
from run.worker_pool import printable

log = logging.getLogger(__name__)


def predict_videos(args: argparse.Namespace) -> None:
    """Predict, print and write what the options of `run.predict` ask for.

    The json is also written if the command is interrupted, with the videos so far.

    Raises:
        DataError: a video could not be predicted. All others are predicted first.
    """
    recogniser = Recogniser.from_options(args)
    sources = [source for given in args.videos for source in videos_of(given)]
    rows: list[dict[str, object]] = []
    try:
        for source, name in zip(sources, folder_names(sources), strict=True):
            rows.append(_predict(recogniser, source, args.out and args.out / name, film=args.film))
    finally:
        content = predictions_json(rows, recogniser.checkpoint, recogniser.config.network)
        for path in filter(None, (args.out and args.out / JSON, args.json)):
            write_text(path, content)
    if args.out:
        log.info("%s and the files of long videos are in %s", JSON, printable(args.out))
    failed = sum("error" in row for row in rows)
    if failed:
        raise DataError(f"{failed} of {len(sources)} videos failed, see the errors above")


def _predict(
    recogniser: Recogniser, source: Path, out: Path | None, *, film: bool
) -> dict[str, object]:
    """Predict one video, print the answer or its error, return its entry in the json."""
    try:
        prediction = recogniser.predict(source, out, film=film)
    except DataError as error:
        reason = str(error) if str(source) in str(error) else f"{source}: {error}"
        log.error("%s", reason)
        return {"video": str(source), "error": reason}
    for line in lines_of(prediction):
        print(line)
    return prediction.row()


def lines_of(prediction: Prediction) -> Iterator[str]:
    """Yield the lines that are printed for a video: its likeliest classes, then its segments."""
    named = ", ".join(f"{printable(name)} {score:.1%}" for name, score in prediction.top)
    yield f"{printable(prediction.video)}: {named}"
    for segment in prediction.segments:
        ends = f"{clock(segment.start):>7} - {clock(segment.end):>7}"
        yield f"  {ends}  {printable(segment.name)} {segment.score:.1%}"


def folder_names(sources: Iterable[Path]) -> list[str]:
    """Return a name for the folder of each video's files: its own, numbered where it recurs."""
    names: list[str] = []
    taken: set[str] = {JSON}
    for source in sources:
        stem = source.absolute().stem or "video"
        name, number = stem, 1
        while name in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name)
        names.append(name)
    return names
