"""Make one clip, which depends on the seed and the request only.

The same request therefore gives the same clip with any number of workers, and in a resumed run.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from data.annotations.segments import segment_frames
from data.annotations.video_folders import Videos
from data.augment.crop import Crop, draw_crop
from data.augment.erasing import erase_box
from data.augment.program import Program, load_augmentation
from data.clips.frame_sampling import frame_indices, frames_at_rate
from data.data_error import DataError
from data.store import FrameStore, open_store

# Numbers of the streams of random numbers; data.clips.loader has a third one, ORDER.
CLIP, REPLACEMENT = 1, 2
REPLACEMENTS = 20  # unreadable videos, one after another, after which --skip-bad gives up

log = logging.getLogger(__name__)

Colour = tuple[float, float, float]  # a value of R, G and B


class ClipRequest(NamedTuple):
    """Which clip to make, and in which shape."""

    index: int  # of the video
    epoch: int
    frames: int
    size: int  # height and width in pixels
    stretch: float = 1.0  # how many times longer a frame interval may get (multigrid)
    view: int = 0  # in validation: number of the view
    views: int = 1  # in validation: how many views are spread over the video
    crop: int = 0  # in validation: number of the crop
    crops: int = 1  # in validation: how many crops are spread over the longer side of the frames


class Sample(NamedTuple):
    """One clip and what it shows."""

    clip: torch.Tensor  # uint8 (3, T, S, S), RGB; the channels are last in memory
    label: int
    index: int  # of the video shown
    replaced: int  # index of the unreadable video that this one replaces, or -1


@dataclass(frozen=True)
class ClipOptions:
    """Options of all the clips of a run. The command line has options of the same names."""

    intervals: tuple[int, ...]  # frame intervals to draw from
    # A clip shows a square of clip_size / short_side of the frame's short side, whatever its size
    # in pixels is then.
    short_side: int
    clip_size: int
    augmentation: str = "readme"
    flip: bool = False
    crop: str = "random"  # or "multiscale"
    erase: float = 0.0
    start: str = "uniform"  # or "normal"
    short_videos: str = "loop"  # or "hold"
    skip_bad: bool = False
    fps: float | None = None  # frames per second of a clip, which replaces `intervals`
    erase_colour: Colour = (0.5, 0.5, 0.5)  # R, G, B in 0..1

    @property
    def share(self) -> float:
        """Return the side of the crop relative to the frame's short side."""
        return min(1.0, self.clip_size / self.short_side)


class ClipDataset(Dataset):
    """The clips of some videos.

    In training, position, crop and augmentation are random. Otherwise a clip is the centre crop of
    the centre of the video, or one of several views and crops of it, and is not augmented.

    Raises:
        DataError: there is no augmentation `options.augmentation`.
    """

    def __init__(self, videos: Videos, options: ClipOptions, *, training: bool, seed: int):
        self.videos, self.options = videos, options
        self.training, self.seed = training, seed
        self._decoded: tuple[ClipRequest, np.ndarray] | None = None
        if training:
            load_augmentation(options.augmentation)  # so that an error is raised here, not later

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, request: ClipRequest) -> Sample:
        """Return the clip that is asked for.

        With the option `skip_bad`, a clip of another video replaces that of an unreadable video.

        Raises:
            DataError: the video cannot be read. With `skip_bad`: REPLACEMENTS other videos cannot
                be read either.
        """
        try:
            return self._sample(request, replaced=-1)
        except DataError as error:
            if not self.options.skip_bad:
                raise
            return self._replacement(request, error)

    def _sample(self, request: ClipRequest, replaced: int) -> Sample:
        clip = torch.from_numpy(self._read(request)).permute(3, 0, 1, 2)  # (3, T, S, S)
        return Sample(clip, int(self.videos.labels[request.index]), request.index, replaced)

    def _read(self, request: ClipRequest) -> np.ndarray:
        """Read, crop and augment the frames: uint8 (T, S, S, 3)."""
        rng, options = self._generator(request), self.options
        store = open_store(self.videos.path(request.index))
        indices = self._frame_numbers(request, store, rng)
        crop, program = Crop(options.share), Program([])
        if rng is not None:
            multiscale = options.crop == "multiscale"
            crop = draw_crop(options.share, rng, multiscale=multiscale, flip=options.flip)
            program = load_augmentation(options.augmentation).draw(rng, request.size)
        if request.crops > 1:
            frames = self._frames_of_crops(request, store, indices, crop)
            crop = crop.beside(request.crop / (request.crops - 1), *frames.shape[1:3])
        else:
            frames = store.read_at_least(indices, crop.short_side(request.size))  # (T, h, w, 3)
        clip = program.render(frames, crop, request.size)  # (T, S, S, 3)
        if rng is not None and rng.random() < options.erase:
            erase_box(clip, rng, colour=options.erase_colour)
        return clip

    def _frames_of_crops(
        self, request: ClipRequest, store: FrameStore, indices: np.ndarray, crop: Crop
    ) -> np.ndarray:
        """Return the frames of a view, which are decoded once for the crops that follow it."""
        view = request._replace(crop=0)
        if self._decoded is None or self._decoded[0] != view:
            self._decoded = view, store.read_at_least(indices, crop.short_side(request.size))
        return self._decoded[1]

    def frame_numbers(self, request: ClipRequest) -> np.ndarray:
        """Return which frames of its video a clip shows, numbered from 0: int64 (T,).

        Raises:
            DataError: the video cannot be read.
        """
        store = open_store(self.videos.path(request.index))
        return self._frame_numbers(request, store, self._generator(request))

    def _frame_numbers(
        self, request: ClipRequest, store: FrameStore, rng: np.random.Generator | None
    ) -> np.ndarray:
        how = {
            "rng": rng,
            "stretch": request.stretch,
            "start": self.options.start,
            "view": request.view,
            "views": request.views,
            "short_videos": self.options.short_videos,
        }
        span = self._span(store, request.index)
        if self.options.fps is not None:
            return frames_at_rate(store, self.options.fps, request.frames, span=span, **how)
        indices = frame_indices(len(span), request.frames, self.options.intervals, **how)
        return indices + span.start

    def _span(self, store: FrameStore, index: int) -> range:
        """Return the frames that the clip is taken from: those of a segment, or all."""
        times = self.videos.times
        if times is None or np.isnan(times[index, 0]):
            return range(store.n_frames)
        start, end = times[index].tolist()
        seconds = store.times()
        if start >= store.duration:
            raise DataError(
                f"{store.path}: has {store.duration:.1f} s; the segment from {start:g} to {end:g} "
                "s lies outside of it"
            )
        return segment_frames(seconds, start, end)

    def _generator(self, request: ClipRequest) -> np.random.Generator | None:
        if not self.training:
            return None
        return np.random.default_rng((self.seed, request.epoch, request.index, CLIP))

    def _replacement(self, request: ClipRequest, error: DataError) -> Sample:
        """Return a clip of another video, which also depends on seed, epoch and index only."""
        log.warning("skipped: %s", error)
        rng = np.random.default_rng((self.seed, request.epoch, request.index, REPLACEMENT))
        for index in rng.integers(len(self), size=REPLACEMENTS).tolist():
            try:
                return self._sample(request._replace(index=index), replaced=request.index)
            except DataError as another:
                error = another
        raise DataError(f"{REPLACEMENTS} videos drawn at random cannot be read; the last: {error}")


def normalise(
    clips: torch.Tensor, mean: Colour, std: Colour, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Normalise clips for a network, on their device: subtract the mean, divide by the deviation.

    Args:
        clips: uint8 (B, 3, T, H, W).
        mean: of R, G and B in 0..1.
        std: of R, G and B in 0..1.
        dtype: of the result.

    Returns:
        dtype (B, 3, T, H, W), in the memory format of `clips`.
    """
    subtracted, factors = _constants(mean, std, clips.device)
    return ((clips.to(torch.float32) - subtracted) * factors).to(dtype)


@functools.cache
def _constants(
    mean: Colour, std: Colour, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return 255 mean and 1 / (255 std) on the device, cached because a copy would wait for it."""
    factors = [1 / (255 * one) for one in std]
    return (
        torch.tensor(mean, device=device).view(3, 1, 1, 1) * 255,
        torch.tensor(factors, device=device).view(3, 1, 1, 1),
    )
