"""Mixup and CutMix of whole clips, with torchvision."""

from __future__ import annotations

from torch import Tensor

from train.config import Config


def mixed(clips: Tensor, labels: Tensor, num_classes: int, config: Config) -> tuple[Tensor, Tensor]:
    """Mix float (B, 3, T, H, W) clips with one another, if `config` asks for it.

    If both mixup (Zhang et al., 2018) and CutMix (Yun et al., 2019) are on, one of them is drawn
    for each batch, from torch's global generator, which the caller seeds.

    Returns:
        The clips and their targets: (B,) labels, or the (B, num_classes) share of each class.
    """
    if not (config.mixup or config.cutmix) or len(labels) < 2:
        return clips, labels
    # here, as torchvision takes 160 MB of memory
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    choices = [
        transform(alpha=alpha, num_classes=num_classes)
        for transform, alpha in ((v2.MixUp, config.mixup), (v2.CutMix, config.cutmix))
        if alpha > 0
    ]
    video = tv_tensors.Video(clips.transpose(1, 2))  # (B, T, 3, H, W)
    video, targets = v2.RandomChoice(choices)(video, labels)
    return video.as_subclass(Tensor).transpose(1, 2), targets


def heavier_labels(targets: Tensor) -> Tensor:
    """Return the class with the largest share of each clip, int64 (B,), for training accuracy.

    Args:
        targets: as `mixed` returns them, (B,) labels or (B, num_classes) shares of each class.
    """
    return targets if targets.ndim == 1 else targets.argmax(1)


def scoring_note(config: Config) -> str | None:
    """Return a note on what training top1 and top5 mean if clips are mixed, else None."""
    if not (config.mixup or config.cutmix):
        return None
    return (
        "training top1 and top5 count the class that has the larger share of a mixed clip "
        "(--mixup, --cutmix); validation clips are not mixed"
    )
