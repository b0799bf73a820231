"""The protocol of an evaluation: how clips are taken from the videos and their scores averaged."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from data.clips.clip_dataset import ClipOptions

AVERAGING = "mean of the softmax probabilities of all clips of a video"
LONGEST = 60  # characters of a dataset's name in a folder's name


@dataclass(frozen=True)
class Protocol:
    """How clips are taken from each video."""

    views: int  # in time; a single one is in the centre of the video
    crops: int  # along the longer side of the frames; a single one is in the centre
    frames: int  # of a clip
    size: int  # height and width of a clip in pixels
    fps: float | None  # frames of a clip per second of the video
    interval: int | None  # frames of the video from one frame of a clip to the next
    short_side: int  # to which frames are resized, in pixels
    short_videos: str  # how clips of too short videos are filled
    order: str  # of the frames in a clip
    averaging: str = AVERAGING

    def as_dict(self) -> dict[str, object]:
        """Return plain values, as the result card holds them."""
        return asdict(self)

    def folder_name(self, checkpoint: Path, dataset: Path) -> str:
        """Return a name that tells what was evaluated, on which dataset and how."""
        rate = f"{self.fps:g}fps" if self.fps else f"interval{self.interval}"
        words = [
            checkpoint.stem.replace(":", "_"),  # of the name of pretrained weights
            dataset.absolute().name[:LONGEST],
            f"{self.frames}x{self.size}",
            rate,
            f"{self.views}view{'s' * (self.views > 1)}",
            f"{self.crops}crop{'s' * (self.crops > 1)}",
        ]
        return "-".join(words if self.order == "forward" else [*words, self.order])

    def __str__(self) -> str:
        rate = f"{self.fps:g} frames per second" if self.fps else f"frame interval {self.interval}"
        order = "" if self.order == "forward" else f", frames {self.order}"
        return (
            f"{self.views} {'views' if self.views > 1 else 'view'} x {self.crops} "
            f"{'crops' if self.crops > 1 else 'crop'} of {self.frames}x{self.size}x{self.size}, "
            f"{rate}, short side {self.short_side}{order}"
        )


def protocol_of(
    options: ClipOptions, *, frames: int, views: int, crops: int, order: str
) -> Protocol:
    """Return the protocol of clips with these options."""
    return Protocol(
        views=views,
        crops=crops,
        frames=frames,
        size=options.clip_size,
        fps=options.fps,
        interval=None if options.fps else options.intervals[0],
        short_side=options.short_side,
        short_videos=options.short_videos,
        order=order,
    )
