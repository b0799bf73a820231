"""One clip from (seed, request): nothing else decides what it looks like, so that any number of
workers, and a resumed run, give the same bytes.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from data.annotations.video_folders import Videos
from data.augment.program import Program, load_augmentation
from data.clips.crop import Crop, draw_crop
from data.clips.erasing import erase_box
from data.clips.frame_sampling import frame_indices
from data.data_error import DataError
from data.store import open_store

MEAN = (124 / 255, 117 / 255, 104 / 255)  # of R, G, B in 0..1
STD = 1 / (0.0167 * 255)
CLIP, REPLACEMENT = 1, 2  # streams of random numbers; data.clips.loader has a third
REPLACEMENTS = 20  # unreadable videos in a row after which --skip-bad gives up

log = logging.getLogger(__name__)


class ClipRequest(NamedTuple):
    """Which clip, in which shape."""

    index: int  # of the video
    epoch: int
    frames: int
    size: int  # height and width in pixels
    stretch: float = 1.0  # intervals may grow this many times (multigrid)
    view: int = 0  # validation: which of
    views: int = 1  # so many, spread over the video


class Sample(NamedTuple):
    """One clip and what it is."""

    clip: torch.Tensor  # uint8 (3, T, S, S), RGB; in memory the channels come last
    label: int
    index: int  # of the video that it shows
    replaced: int  # of the unreadable video in whose place it stands, or -1


@dataclass(frozen=True)
class ClipOptions:
    """What all the clips of a run have in common."""

    intervals: tuple[int, ...]  # frames from one of the clip to its next, to draw from
    short_side: int  # the frames are thought to be resized to this short side, and
    clip_size: int  # of that a square of this side is a clip, whatever size it is then given
    augmentation: str = "readme"
    flip: bool = False
    crop: str = "random"  # or "multiscale"
    erase: float = 0.0
    start: str = "uniform"  # or "normal"
    short_videos: str = "loop"  # or "hold"
    skip_bad: bool = False

    @property
    def share(self) -> float:
        """Side of the crop relative to the frame's short side."""
        return min(1.0, self.clip_size / self.short_side)


class ClipDataset(Dataset):
    """Clips of `videos`: random and augmented in training, else centred (or views) and plain.

    Raises:
        DataError: `options.augmentation` is unknown.
    """

    def __init__(self, videos: Videos, options: ClipOptions, *, training: bool, seed: int):
        self.videos, self.options = videos, options
        self.training, self.seed = training, seed
        if training:
            load_augmentation(options.augmentation)  # to fail here, not in a worker

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, request: ClipRequest) -> Sample:
        """The clip asked for.

        Raises:
            DataError: the video cannot be read; with `skip_bad`, nor can many others.
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
        """uint8 (T, S, S, 3)."""
        rng, options = self._generator(request), self.options
        store = open_store(self.videos.path(request.index))
        indices = frame_indices(
            store.n_frames,
            request.frames,
            options.intervals,
            rng=rng,
            stretch=request.stretch,
            start=options.start,
            view=request.view,
            views=request.views,
            short_videos=options.short_videos,
        )
        crop, program = Crop(options.share), Program([])
        if rng is not None:
            multiscale = options.crop == "multiscale"
            crop = draw_crop(options.share, rng, multiscale=multiscale, flip=options.flip)
            program = load_augmentation(options.augmentation).draw(rng, request.size)
        frames = store.read_at_least(indices, crop.short_side(request.size))  # (T, h, w, 3)
        clip = program.render(frames, crop, request.size)  # (T, S, S, 3)
        if rng is not None and rng.random() < options.erase:
            erase_box(clip, rng, colour=MEAN)
        return clip

    def _generator(self, request: ClipRequest) -> np.random.Generator | None:
        if not self.training:
            return None
        return np.random.default_rng((self.seed, request.epoch, request.index, CLIP))

    def _replacement(self, request: ClipRequest, error: DataError) -> Sample:
        """A clip of another video, drawn by (seed, epoch, index) too."""
        log.warning("skipped: %s", error)
        rng = np.random.default_rng((self.seed, request.epoch, request.index, REPLACEMENT))
        for index in rng.integers(len(self), size=REPLACEMENTS).tolist():
            try:
                return self._sample(request._replace(index=index), replaced=request.index)
            except DataError as another:
                error = another
        raise DataError(f"{REPLACEMENTS} videos in a row cannot be read, the last one: {error}")


def normalise(clips: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """uint8 (B, 3, T, H, W) clips as the network takes them, on the device where they are.

    Returns:
        dtype (B, 3, T, H, W): values in 0..1, less MEAN, divided by STD; memory order kept.
    """
    return ((clips.to(torch.float32) - _mean(clips.device)) * (1 / (255 * STD))).to(dtype)


@functools.cache
def _mean(device: torch.device) -> torch.Tensor:
    """MEAN in units of a pixel's value, kept on the device: copying it there would wait for it."""
    return torch.tensor(MEAN, device=device).view(3, 1, 1, 1) * 255
