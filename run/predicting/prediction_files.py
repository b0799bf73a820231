"""Write predictions as json, segments as csv and subtitles (srt), scores over time as csv.

docs/predict.md describes the json. Raise VERSION whenever a reader of older files would fail.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data.file_writing import write_atomically
from data.store import FrameStore
from run.predicting.annotated_film import write_film
from run.predicting.segments import ClassScore, Segment
from run.predicting.timeline import Timeline
from run.predicting.timeline_picture import draw_timeline
from run.worker_pool import printable

FORMAT, VERSION = "predictions", 1
JSON = "predictions.json"
#: The files of one video with a timeline.
FILES = ("annotated.mp4", "scores.csv", "segments.csv", "segments.srt", "timeline.png")


@dataclass(frozen=True)
class Prediction:
    """The answer to one video."""

    video: str
    duration: float | None  # seconds; None if the video does not say its frame rate
    fps: float | None  # frames per second, the mean if the rate varies
    top: tuple[ClassScore, ...]  # the likeliest classes of the whole video
    segments: tuple[Segment, ...]  # of a long video, in order; otherwise none
    timeline: Timeline | None = field(repr=False, default=None)  # of a long video

    def row(self) -> dict[str, object]:
        """Return the video's entry in the json."""
        return {
            "video": self.video,
            "duration": _rounded(self.duration),
            "fps": self.fps,
            "top": scores_row(self.top),
            "segments": [segment_row(segment) for segment in self.segments],
        }


def scores_row(scores: Iterable[ClassScore]) -> list[dict[str, object]]:
    """Return classes and their scores as the json has them."""
    return [{"class": name, "score": round(score, 6)} for name, score in scores]


def segment_row(segment: Segment) -> dict[str, object]:
    """Return a segment as the json has it."""
    return {
        "start": _rounded(segment.start),
        "end": _rounded(segment.end),
        "class": segment.name,
        "score": round(segment.score, 6),
        "top": scores_row(segment.top),
    }


def _rounded(seconds: float | None) -> float | None:
    """Return seconds to the millisecond, so that a segment begins exactly where another ends."""
    return None if seconds is None else round(seconds, 3)


def predictions_json(rows: Sequence[dict], checkpoint: str, network: str) -> str:
    """Return the json of some videos; see docs/predict.md."""
    facts = {"format": FORMAT, "version": VERSION, "checkpoint": checkpoint, "network": network}
    return json.dumps({**facts, "videos": list(rows)}, indent=1) + "\n"


def segments_csv(segments: Iterable[Segment]) -> str:
    """Return a csv with a row for each segment."""
    rows = [(f"{s.start:.3f}", f"{s.end:.3f}", s.name, f"{s.score:.4f}") for s in segments]
    return _csv([("start", "end", "class", "score"), *rows])


def segments_srt(segments: Iterable[Segment]) -> str:
    """Return subtitles in the format SubRip, which players show over the video."""
    return "".join(
        f"{number}\n{_srt_time(s.start)} --> {_srt_time(s.end)}\n"
        f"{' '.join(printable(s.name).split())} {s.score:.0%}\n\n"
        for number, s in enumerate(segments, start=1)
    )


def _srt_time(seconds: float) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    whole, milliseconds = divmod(milliseconds, 1000)
    return f"{hours:02d}:{minutes:02d}:{whole:02d},{milliseconds:03d}"


def scores_csv(timeline: Timeline, classes: Sequence[str]) -> str:
    """Return a csv with the smoothed scores of all classes, a row for each interval."""
    edges = timeline.edges.tolist()
    rows = (
        (f"{start:.3f}", f"{end:.3f}", *(f"{score:.4f}" for score in scores))
        for start, end, scores in zip(edges[:-1], edges[1:], timeline.scores.tolist(), strict=True)
    )
    return _csv([("start", "end", *classes), *rows])


def _csv(rows: Iterable[Sequence[str]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


def write_names(path: Path, text: str) -> None:
    """Write a text atomically in UTF-8; names that are not UTF-8 keep their bytes."""
    write_atomically(path, lambda file: file.write(text.encode(errors="surrogateescape")))


def write_timeline_files(
    folder: Path,
    prediction: Prediction,
    store: FrameStore,
    classes: Sequence[str],
    *,
    threshold: float,
    film: bool,
) -> list[str]:
    """Write the files of one video with a timeline into `folder`, all of them or none.

    Returns:
        The names of the files.

    Raises:
        DataError: a frame cannot be read, or ffmpeg cannot write the film.
        OSError: the folder cannot be written.
    """
    timeline, segments = prediction.timeline, prediction.segments
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unfinished-") as unfinished:
        draft = Path(unfinished).absolute()
        write_names(draft / "segments.csv", segments_csv(segments))
        write_names(draft / "segments.srt", segments_srt(segments))
        write_names(draft / "scores.csv", scores_csv(timeline, classes))
        shown = (timeline, segments, store, classes)
        title = printable(Path(prediction.video).name)
        draw_timeline(draft / "timeline.png", *shown, threshold=threshold, title=title)
        if film:
            write_film(draft / "annotated.mp4", *shown, title=title)
        names = sorted(path.name for path in draft.iterdir())
        for name in FILES:
            if name in names:
                (draft / name).replace(folder / name)
            else:
                (folder / name).unlink(missing_ok=True)  # of an earlier run
    return names
