"""Load a clip from an mp4 file as users of torchcodec and of pytorchvideo would write it.

Both end with the usual augmentation, a random resized crop and a flip by torchvision, and a
normalised float tensor. That is less than the augmentation `readme` of the other ways does.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from pathlib import Path

import torch

Load = Callable[[Path, int, int], torch.Tensor]  # (mp4 file, frames, size) -> (3, T, S, S)


@functools.cache
def usual_transforms(size: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return torchvision's transforms of a clip, uint8 (T, 3, H, W) -> float (T, 3, S, S)."""
    from torchvision.transforms import v2

    return v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.5, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(mean=(0.45, 0.45, 0.45), std=(0.225, 0.225, 0.225)),
        ]
    )


def with_torchcodec(interval: int) -> Load:
    """Return a function that loads a clip with torchcodec's decoder and its random sampler."""
    from torchcodec.decoders import VideoDecoder
    from torchcodec.samplers import clips_at_random_indices

    def load(path: Path, frames: int, size: int) -> torch.Tensor:
        decoder = VideoDecoder(str(path))
        batch = clips_at_random_indices(
            decoder,
            num_clips=1,
            num_frames_per_clip=frames,
            num_indices_between_frames=interval,
        )
        return usual_transforms(size)(batch.data[0]).permute(1, 0, 2, 3)

    return load


def with_pytorchvideo(interval: int) -> Load:
    """Return a function that loads a clip with pytorchvideo's `EncodedVideo`.

    Its own transforms cannot be imported with a current torchvision, so torchvision's are used.
    """
    from pytorchvideo.data.encoded_video import EncodedVideo

    def load(path: Path, frames: int, size: int) -> torch.Tensor:
        video = EncodedVideo.from_path(str(path), decode_audio=False, decoder="pyav")
        rate = float(video._container.streams.video[0].average_rate)
        span = frames * interval / rate
        start = random.uniform(0, float(video.duration) - span)
        clip = video.get_clip(start, start + span)["video"]  # float (3, T, H, W), 0..255
        video.close()
        chosen = torch.linspace(0, clip.shape[1] - 1, frames).long()  # UniformTemporalSubsample
        pictures = clip[:, chosen].to(torch.uint8).permute(1, 0, 2, 3)
        return usual_transforms(size)(pictures).permute(1, 0, 2, 3)

    return load


WAYS = {"torchcodec": with_torchcodec, "pytorchvideo": with_pytorchvideo}
