"""The sources of torchvision's video weights, read from its own tables."""

from __future__ import annotations

import re

from torchvision.models import get_model_weights

from network.input_profile import InputProfile
from network.pretrained.source import Source
from network.variants import VARIANTS

#: Networks that torchvision took over from other repositories, with the licence of the repository.
PORTED = {"mvit": "Apache-2.0 (repository)", "swin": "Apache-2.0 (repository)"}


def torchvision_source(name: str, network: str, entry: str) -> Source:
    """Return the facts about one file of weights of torchvision.

    Args:
        name: the source's name.
        network: name of the network in torchvision.
        entry: name of the weights in torchvision's table for that network.
    """
    weights = get_model_weights(network)[entry]
    meta, transforms = weights.meta, weights.transforms()
    # frame rate and clip length are published in the text only
    said = {
        word: re.search(rf"{word}=([\d.]*\d)", meta["_docs"])[1]
        for word in ("frame_rate", "clip_len", "clips_per_video")
    }
    resize = tuple(transforms.resize_size)
    ours = network in VARIANTS
    return Source(
        name=name,
        network=network if ours else f"torchvision:{network}",
        url=weights.url,
        layout="torchvision",
        profile=InputProfile(
            mean=tuple(transforms.mean),
            std=tuple(transforms.std),
            frames=int(said["clip_len"]),
            fps=float(said["frame_rate"]),
            resize=resize if len(resize) == 2 else resize[0],
            crop=transforms.crop_size[0],
        ),
        trained_on=" ".join(
            {"KINETICS400": "Kinetics-400", "IMAGENET22K": "(backbone: ImageNet-22k)"}.get(part, "")
            for part in entry.split("_")
        ).strip(),
        classes=len(meta["categories"]),
        parameters=meta["num_params"],
        top1=f"{meta['_metrics']['Kinetics-400']['acc@1']:.2f} ({said['clips_per_video']})",
        licence=PORTED.get(network[:4], "BSD-3-Clause (repository)"),
        class_names=tuple(meta["categories"]),
    )
