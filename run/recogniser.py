"""Name the actions in videos from a script or notebook; `run.predict` is the same as a command.

from run.recogniser import Recogniser
recogniser = Recogniser("best.pth")
recogniser.predict("clip.mp4").top
"""

from __future__ import annotations

import argparse
import inspect
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from data.clips.clip_dataset import ClipDataset
from data.clips.loader import validation_loader
from data.data_error import DataError
from data.dataset_defaults import dataset_spec
from data.store import FrameStore, close_store, open_store
from run.given_videos import clips_of_video, frame_store
from run.predicting.live import LiveAnswer, watch
from run.predicting.prediction_files import Prediction, write_timeline_files
from run.predicting.segments import SegmentMerger, best_classes
from run.predicting.timeline import Timeline, read_timeline
from run.trained_network import open_checkpoint
from run.worker_pool import printable
from train.config import Config
from train.devices import open_devices
from train.evaluation import predictions
from train.setup import clip_options

log = logging.getLogger(__name__)

LONG = 30.0  # seconds; longer videos get a timeline
EVERY = 0.5  # seconds from one clip of a timeline to the next


class Recogniser:
    """A trained network that names the actions in videos.

    A short video has one answer, the mean of a few clips spread over it. A video of more than LONG
    seconds gets a timeline: a clip every half second, smoothed over time, and the segments in which
    the likeliest class stays the same.

    Args:
        checkpoint: the checkpoint of the network.
        gpus: number of GPUs, 0 for the CPU; by default one GPU if there is one.
        precision: auto, fp32, bf16 or fp16.
        views: clips of a video without a timeline.
        every: seconds from one clip of a timeline to the next. If it is given, every video gets a
            timeline; 0 means that none does.
        smoothing: standard deviation of the Gaussian that smooths the scores, in seconds.
        threshold: below this score a segment's class is "unknown".
        top: number of classes in an answer.
        clip_fps: frames per second of a clip, instead of the checkpoint's frame rate or interval.
        short_side: to which the frames of video files are resized, in pixels.

    Raises:
        TrainError, NetworkError: the checkpoint cannot be used, or there are fewer GPUs.
    """

    def __init__(
        self,
        checkpoint: str | os.PathLike,
        *,
        gpus: int | None = None,
        precision: str = "auto",
        views: int = 3,
        every: float | None = None,
        smoothing: float = 1.0,
        threshold: float = 0.5,
        top: int = 5,
        clip_fps: float | None = None,
        short_side: int = 256,
    ):
        with open_devices(gpus, precision, most=1) as self.devices:
            self.trained = open_checkpoint(Path(checkpoint), self.devices)
        self.config = self.trained.with_shape(None, None, clip_fps)
        self.checkpoint, self.views, self.every = printable(str(checkpoint)), views, every
        self.smoothing, self.threshold = smoothing, threshold
        self.top, self.short_side = top, short_side

    @classmethod
    def from_options(cls, args: argparse.Namespace) -> Recogniser:
        """Return the recogniser that the options of `run.predict` ask for. Raises as above."""
        names = inspect.signature(cls).parameters
        return cls(**{name: getattr(args, name) for name in names})

    def predict(
        self,
        video: str | os.PathLike,
        out: str | os.PathLike | None = None,
        *,
        film: bool = True,
    ) -> Prediction:
        """Return the likeliest classes of a video and, if it is long, its segments.

        Args:
            video: a video file, or the folder of a frame store.
            out: a folder. If it is given, the files of a video with a timeline are written into it.
            film: whether annotated.mp4 is among them.

        Raises:
            DataError: the video is missing, is no video, cannot be decoded to its end, needs a
                frame rate and does not say it, or the network's answer is not finite.
        """
        source = Path(video)
        # a long video needs disk space, of which the folder for temporary files may have little
        near = out and next(p for p in (Path(out), *Path(out).absolute().parents) if p.is_dir())
        with tempfile.TemporaryDirectory(dir=near, prefix=".unfinished-") as scratch:
            folder = frame_store(source, Path(scratch) / "video", self.short_side)
            try:
                return self._predict(source, folder, out and Path(out), film)
            finally:
                close_store(folder)

    def watch(
        self, source: str | int, *, stopped: Callable[[], bool] = lambda: False
    ) -> Iterator[LiveAnswer]:
        """Yield answers to the newest clips of a stream until it ends.

        Args:
            source: number of a camera, address of a network stream, or a file, which is read at the
                speed at which it would be shown.
            stopped: is asked several times a second whether to end.

        Raises:
            DataError: the source cannot be opened, or the network's answer is not finite.
        """
        config = self.config
        spec = dataset_spec(config.benchmark, config.variant)
        return watch(
            self.trained.net,
            str(source),
            config,
            clip_options(config, spec, training=False),
            self.devices,
            every=EVERY if self.every is None else self.every,
            smoothing=self.smoothing,
            short_side=self.short_side,
            stopped=stopped,
        )

    def _predict(self, source: Path, folder: Path, out: Path | None, film: bool) -> Prediction:
        clips, store = clips_of_video(self.trained, folder, self.config), open_store(folder)
        every, timeline, segments = self._interval(source, store), None, ()
        title = printable(source.name)
        if every:
            timeline = read_timeline(
                self.trained,
                clips,
                self.config,
                self.devices,
                every=every,
                smoothing=self.smoothing,
                title=title,
            )
            segments = self._segments(timeline)
            scores = timeline.mean
        else:
            scores = self._mean_of_views(clips, title)
        prediction = Prediction(
            video=str(source),
            duration=store.duration,
            fps=store.fps,
            top=best_classes(scores, self.trained.classes, self.top),
            segments=segments,
            timeline=timeline,
        )
        if timeline and out:
            write_timeline_files(
                out, prediction, store, self.trained.classes, threshold=self.threshold, film=film
            )
        return prediction

    def _interval(self, source: Path, store: FrameStore) -> float:
        """Return the seconds from one clip of the timeline to the next; 0 for no timeline."""
        if self.every is not None:
            return max(self.every, 1 / store.fps) if self.every and store.fps else self.every
        if store.duration is None or store.duration <= LONG:
            return 0
        log.info(
            "%s lasts %.0f s, more than %.0f, so it gets a timeline with a clip every %g s "
            "(--every)", printable(source), store.duration, LONG, EVERY,
        )  # fmt: skip
        return EVERY

    def _segments(self, timeline: Timeline) -> tuple:
        merger = SegmentMerger(self.trained.classes, self.threshold, self.top)
        edges = timeline.edges.tolist()
        for start, end, scores in zip(edges[:-1], edges[1:], timeline.scores, strict=True):
            merger.add(start, end, scores)
        return tuple(merger.segments())

    def _mean_of_views(self, clips: ClipDataset, title: str) -> np.ndarray:
        """Return the probabilities of a video, the mean of its views as in validation."""
        config: Config = self.config
        loader = validation_loader(
            clips, self.views, config.clip_length, config.clip_size, workers=0, views=self.views
        )
        (answer,) = predictions(self.trained.net, loader, self.devices, title=title)
        scores = answer.logits.softmax(1)[0].cpu().numpy()
        if not np.isfinite(scores).all():
            raise DataError("the network's answer is not finite; try --precision fp32")
        return scores
