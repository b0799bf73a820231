"""One clip of one video, as validation would take it, with the frames that it shows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from data.clips.clip_dataset import ClipDataset, ClipRequest
from data.data_error import DataError
from data.store import open_store
from run.given_videos import clips_of_video, frame_store
from run.trained_network import Trained

STARTS = 1_000_001  # places in a video, from its first clip to its last, where a clip can start


@dataclass(frozen=True)
class SingleClip:
    """A clip and where it comes from."""

    clip: Tensor  # uint8 (3, T, S, S), RGB
    frames: np.ndarray  # int64 (T,), numbers of its frames in the video, from 0
    times: np.ndarray | None  # float64 (T,), seconds in the video; None if its rate is not known

    def moments(self) -> list[str]:
        """Return when each frame is shown, as text: seconds, or else numbers of frames."""
        if self.times is None:
            return [f"frame {number}" for number in self.frames.tolist()]
        return [f"{second:.2f} s" for second in self.times.tolist()]

    def frames_per_second(self) -> float | None:
        """Return the frame rate of the clip; None if unknown or if a short video is looped."""
        if self.times is None or len(self.times) < 2 or self.times[-1] <= self.times[0]:
            return None
        return float((len(self.times) - 1) / (self.times[-1] - self.times[0]))


class ClipStarts:
    """Finds the clip of a video that starts at a given moment.

    Args:
        clips: the clips of the one video, taken as in validation.
        request: the shape of the clip.
        times: when each frame is shown, float64 (frames,), in seconds.
    """

    def __init__(self, clips: ClipDataset, request: ClipRequest, times: np.ndarray):
        self.request, self.times = request, times
        first, last = (
            times[clips.frame_numbers(request._replace(view=view, views=STARTS))[0]]
            for view in (0, STARTS - 1)
        )
        self.first, self.range = first, max(last - first, 1e-9)

    def request_at(self, seconds: float) -> ClipRequest:
        """Return the clip whose first frame is the next one that is shown from then on.

        A clip that would not fit before the end of the video starts earlier.
        """
        frame = min(int(np.searchsorted(self.times, seconds)), len(self.times) - 1)
        share = float(np.clip((self.times[frame] - self.first) / self.range, 0, 1))
        return self.request._replace(view=math.ceil(share * (STARTS - 1)), views=STARTS)


def read_clip(
    trained: Trained,
    source: Path,
    scratch: Path,
    *,
    start: float | None = None,
    short_side: int = 256,
    clip_fps: float | None = None,
) -> SingleClip:
    """Read one clip of a video.

    Args:
        trained: the network, and the options that it was trained with.
        source: a video file, or the folder of a frame store.
        scratch: a folder for a video file's frames, which must not exist.
        start: when the clip starts, in seconds; by default it is in the centre of the video. A clip
            that would not fit before the end starts earlier.
        short_side: of a video file's frames, in pixels.
        clip_fps: frames per second of the clip, instead of those of the training.

    Raises:
        DataError: the video cannot be read, or does not say its frame rate and `start` is given.
    """
    store = frame_store(source, scratch, short_side)
    config = trained.with_shape(None, None, clip_fps)
    clips = clips_of_video(trained, store, config)
    request = ClipRequest(0, 0, config.clip_length, config.clip_size)
    opened = open_store(store)
    times = None if opened.fps is None else opened.times()
    if start is not None:
        if times is None:
            raise DataError(f"{source}: does not say its frame rate, so --start cannot be found")
        request = ClipStarts(clips, request, times).request_at(start)
    numbers = clips.frame_numbers(request)
    clip = clips[request].clip
    return SingleClip(clip, numbers, None if times is None else times[numbers])
