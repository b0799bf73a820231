"""Print what a camera or stream shows while it runs, and write the files: `run.predict --live`."""

from __future__ import annotations

import argparse
import contextlib
import csv
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from data.data_error import DataError
from data.file_writing import write_text
from run.predicting.live import LiveAnswer
from run.predicting.prediction_files import (
    JSON,
    Prediction,
    predictions_json,
    segments_csv,
    segments_srt,
    write_names,
)
from run.predicting.segments import UNKNOWN, SegmentMerger, best_classes
from run.predicting.stream_reader import shown_source
from run.predicting.timeline_picture import clock
from run.recogniser import Recogniser
from run.worker_pool import printable
from train.signals import caught_signals

log = logging.getLogger(__name__)

FOLDER = "live"  # in --out
HEADER = ("seconds", "class", "score", "latency", "read", "dropped")


def predict_live(args: argparse.Namespace) -> None:
    """Print an answer every `--every` seconds until the stream ends or a signal arrives.

    With `--out`, live/answers.csv gets a row for each answer at once; the segments and the json are
    written at the end.

    Raises:
        DataError: the stream cannot be opened or gives no frame.
        SystemExit: SIGINT or SIGTERM came, after the files were written; the exit code is 128 +
            signal.
    """
    recogniser = Recogniser.from_options(args)
    watching = _Watching(recogniser, shown_source(args.live), args.top)
    with caught_signals() as signals, contextlib.ExitStack() as opened:
        answers = recogniser.watch(args.live, stopped=lambda: bool(signals.number))
        opened.enter_context(contextlib.closing(answers))
        write = None
        for answer in answers:
            # opened here, so that a stream that cannot be read leaves no file
            write = write or opened.enter_context(_answers_csv(args.out and args.out / FOLDER))
            write(watching.row(answer))
            print(watching.line(answer), flush=True)
            if signals.number or (args.seconds and answer.moment >= args.seconds):
                break
        if watching.answers:
            watching.write(args.out, args.json)
    if signals.number:
        raise SystemExit(128 + signals.number)
    if not watching.answers:
        raise DataError(f"{watching.source}: gives no frame")


@contextlib.contextmanager
def _answers_csv(folder: Path | None) -> Iterator[Callable[[tuple], None]]:
    """Yield a function that adds a row to answers.csv at once; without a folder it does nothing."""
    if folder is None:
        yield lambda row: None
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "answers.csv").open(
        "w", encoding="utf-8", errors="surrogateescape", newline=""
    ) as file:
        writer = csv.writer(file, lineterminator="\n")

        def write(row: tuple) -> None:
            writer.writerow(row)
            file.flush()

        write(HEADER)
        yield write


class _Watching:
    """What is known of a stream so far."""

    def __init__(self, recogniser: Recogniser, source: str, top: int):
        self.recogniser, self.source, self.top = recogniser, source, top
        self.classes = recogniser.trained.classes
        self.merger = SegmentMerger(self.classes, recogniser.threshold, top)
        self.answers = 0
        self._last: LiveAnswer | None = None
        self._sum = np.zeros(len(self.classes))  # of scores times seconds

    def row(self, answer: LiveAnswer) -> tuple:
        """Take in an answer, and return its row of answers.csv."""
        end = max(answer.moment, answer.start + 1e-3)  # the stream may have a single frame
        self.merger.add(answer.start, end, answer.scores)
        self.answers, self._last = self.answers + 1, answer
        self._sum += answer.scores * (end - answer.start)
        name, score = self._named(answer.scores)
        numbers = (f"{score:.4f}", f"{answer.latency:.3f}", answer.read, answer.dropped)
        return (f"{answer.moment:.3f}", name, *numbers)

    def line(self, answer: LiveAnswer) -> str:
        """Return the line that is printed for an answer."""
        name, _ = self._named(answer.scores)
        others = best_classes(answer.scores, self.classes, min(self.top, 3))
        named = ", ".join(f"{printable(one.name)} {one.score:.0%}" for one in others)
        first = f"{printable(name)} ({named})" if name == UNKNOWN else named
        return (
            f"{clock(answer.moment):>8}  {first}  [{answer.latency:.2f} s behind, "
            f"{answer.dropped} of {answer.read} frames dropped]"
        )

    def _named(self, scores: np.ndarray) -> tuple[str, float]:
        label = self.merger.label(scores)
        return UNKNOWN if label is None else self.classes[label], float(scores.max())

    def write(self, out: Path | None, json: Path | None) -> None:
        """Write the segments and the json, each file as a whole."""
        segments, last = self.merger.segments(), self._last
        seconds = segments[-1].end if segments else 0.0
        mean = self._sum / seconds if seconds else self._sum
        prediction = Prediction(
            video=self.source,
            duration=seconds,
            fps=round((last.read - 1) / last.moment, 3) if last and last.moment > 0 else None,
            top=best_classes(mean, self.classes, self.top) if segments else (),
            segments=tuple(segments),
        )
        content = predictions_json(
            [prediction.row()], self.recogniser.checkpoint, self.recogniser.config.network
        )
        if out:
            write_names(out / FOLDER / "segments.csv", segments_csv(segments))
            write_names(out / FOLDER / "segments.srt", segments_srt(segments))
            log.info("the answers are in %s", printable(out))
        for path in filter(None, (out and out / JSON, json)):
            write_text(path, content)
