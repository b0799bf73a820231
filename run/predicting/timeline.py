"""The scores of a long video over time: clips at regular intervals, from its start to its end.

Frames are read in the order of the video. Only those of the current clips are kept, so memory does
not grow with the length of the video, and each frame is decoded at most once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from data.augment.crop import Crop
from data.augment.program import Program
from data.clips.clip_dataset import ClipDataset, ClipRequest, Sample
from data.clips.loader import Batch, collate
from data.data_error import DataError
from data.store import FrameStore, open_store
from run.predicting.segments import interval_edges, smooth
from run.single_clip import ClipStarts
from run.trained_network import Trained
from train.config import Config
from train.devices import Devices
from train.evaluation import predictions

BATCH = 8  # clips


@dataclass(frozen=True)
class Timeline:
    """The scores of a video over time."""

    edges: np.ndarray  # float64 (n + 1,), seconds between which the n intervals lie
    scores: np.ndarray  # float64 (n, classes), smoothed probabilities
    mean: np.ndarray  # float64 (classes,), of the video: the mean before smoothing

    def at(self, seconds: float) -> int:
        """Return the number of the interval in which a moment lies."""
        number = int(np.searchsorted(self.edges, seconds, side="right")) - 1
        return min(max(number, 0), len(self.scores) - 1)


def read_timeline(
    trained: Trained,
    clips: ClipDataset,
    config: Config,
    devices: Devices,
    *,
    every: float,
    smoothing: float,
    title: str,
) -> Timeline:
    """Compute the scores of one video over time.

    Args:
        trained: the network.
        clips: the clips of the one video.
        config: the clips' shape and frame rate.
        devices: the device to compute on.
        every: seconds from one clip to the next.
        smoothing: standard deviation of the Gaussian that smooths the scores, in seconds.
        title: of the progress bar.

    Raises:
        DataError: the video cannot be read or does not say its frame rate, or an answer of the
            network is not finite.
    """
    store = open_store(clips.videos.path(0))
    store.check_rate()
    edges = interval_edges(store.duration, every)
    batches = ClipsInOrder(clips, config, edges)
    found = [
        answer.logits.softmax(1).cpu()
        for answer in predictions(trained.net, batches, devices, title=title)
    ]
    scores = torch.cat(found).double().numpy()
    if not np.isfinite(scores).all():
        raise DataError("the network's answer is not finite; try --precision fp32")
    mean = np.average(scores, axis=0, weights=np.diff(edges))
    return Timeline(edges, smooth(scores, smoothing / every), mean)


class ClipsInOrder:
    """Batches of one clip for each interval of a video, centred on it where that is possible.

    The first clips begin at the first frame and the last ones end at the last frame. All frames are
    cropped as in validation.
    """

    def __init__(self, clips: ClipDataset, config: Config, edges: np.ndarray):
        self.clips, self.config = clips, config
        self.middles = (edges[:-1] + edges[1:]) / 2
        self.crop = Crop(clips.options.share)

    def __len__(self) -> int:
        return -(-len(self.middles) // BATCH)

    def __iter__(self) -> Iterator[Batch]:
        samples: list[Sample] = []
        for number, clip in enumerate(self._clips()):
            pixels = torch.from_numpy(clip).permute(3, 0, 1, 2)  # (3, T, S, S)
            samples.append(Sample(pixels, 0, number, -1))
            if len(samples) == BATCH or number == len(self.middles) - 1:
                yield collate(samples)
                samples = []

    def frame_numbers(self) -> Iterator[np.ndarray]:
        """Yield the numbers of each clip's frames, int64 (T,); the first one never falls."""
        config, options = self.config, self.clips.options
        store = open_store(self.clips.videos.path(0))
        step = 1 / options.fps if options.fps else options.intervals[0] / store.fps
        half = (config.clip_length - 1) * step / 2
        request = ClipRequest(0, 0, config.clip_length, config.clip_size)
        starts = ClipStarts(self.clips, request, store.times())
        for middle in self.middles:
            yield self.clips.frame_numbers(starts.request_at(middle - half))

    def _clips(self) -> Iterator[np.ndarray]:
        """Yield each clip: uint8 (T, S, S, 3)."""
        kept: dict[int, np.ndarray] = {}
        for numbers in self.frame_numbers():
            kept = {number: frame for number, frame in kept.items() if number >= numbers.min()}
            new = [number for number in np.unique(numbers).tolist() if number not in kept]
            if new:
                store = open_store(self.clips.videos.path(0))
                kept.update(zip(new, self._read(store, new), strict=True))
            yield np.stack([kept[number] for number in numbers.tolist()])

    def _read(self, store: FrameStore, numbers: list[int]) -> np.ndarray:
        size = self.config.clip_size
        frames = store.read_at_least(numbers, self.crop.short_side(size))
        return Program([]).render(frames, self.crop, size)
