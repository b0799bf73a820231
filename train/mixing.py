"""Mixup and CutMix of whole clips, by torchvision."""

from __future__ import annotations

from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from train.config import Config


def mixed(clips: Tensor, labels: Tensor, num_classes: int, config: Config) -> tuple[Tensor, Tensor]:
    """Mix float (B, 3, T, H, W) clips with one another where `config` asks for it.

    Of mixup (Zhang et al., 2018) and CutMix (Yun et al., 2019), one is drawn a batch where both
    are on. Draws from torch's global generator, which the caller seeds.

    Returns:
        The clips, and their targets: (B,) labels, or (B, num_classes) shares of each class.
    """
    choices = [
        transform(alpha=alpha, num_classes=num_classes)
        for transform, alpha in ((v2.MixUp, config.mixup), (v2.CutMix, config.cutmix))
        if alpha > 0
    ]
    if not choices or len(labels) < 2:
        return clips, labels
    video = tv_tensors.Video(clips.transpose(1, 2))  # (B, T, 3, H, W)
    video, targets = v2.RandomChoice(choices)(video, labels)
    return video.as_subclass(Tensor).transpose(1, 2), targets


def heavier_labels(targets: Tensor) -> Tensor:
    """The class with the largest share of each clip, int64 (B,): what training accuracy counts.

    Args:
        targets: as `mixed` returns them, (B,) labels or (B, num_classes) shares of each class.
    """
    return targets if targets.ndim == 1 else targets.argmax(1)


def scoring_note(config: Config) -> str | None:
    """One sentence for the log on what training's top1 and top5 count where clips are mixed."""
    if not (config.mixup or config.cutmix):
        return None
    return (
        "top1 and top5 of training count the class that has the larger share of a mixed clip "
        "(--mixup, --cutmix); those of validation are of clips that are not mixed"
    )
