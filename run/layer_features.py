"""Average the outputs of a layer over space and time, which gives features of each clip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from data.clips.loader import Batch
from network.classifier import classifier_name
from run.layer_outputs import Shapes, as_maps, tensors_of, token_frames
from train.devices import Devices
from train.evaluation import predictions


def features_of(
    net: nn.Module,
    batches: Iterable[Batch],
    devices: Devices,
    *,
    layer: str | None,
    shapes: Shapes,
    title: str,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (numbers of the videos int64 (V,), features float32 (V * views, C)) of each batch.

    A layer's output is averaged over all positions in space and time; where a layer gives several
    tensors, as an MTConv block does, their means are joined.

    Args:
        net: the network.
        batches: clips, the views of a video in succession.
        devices: the device to compute on.
        layer: name of the layer; None is what the classifier gets.
        shapes: see `output_shapes`.
        title: of the progress bar.
    """
    modules, seen = dict(net.named_modules()), []
    tokens = token_frames(shapes)

    def note(name: str, output: object) -> None:
        # recurrent layers have time first
        recurrent = isinstance(modules[name], nn.RNNBase) and not modules[name].batch_first
        parts = [p.transpose(0, 1) if recurrent else p for p in tensors_of(output)]
        seen[:] = [torch.cat([_mean(part, tokens) for part in parts], 1)]

    if layer is None:
        classifier = modules[classifier_name(net)]
        handle = classifier.register_forward_pre_hook(lambda _, given: note("", given[0]))
    else:
        handle = modules[layer].register_forward_hook(lambda _, __, output: note(layer, output))
    try:
        for answer in predictions(net, batches, devices, title=title):
            yield answer.indices.numpy(), seen[0].float().cpu().numpy()
    finally:
        handle.remove()


def _mean(part: Tensor, tokens: int) -> Tensor:
    """Average a layer's output over its positions: (B, C)."""
    maps = as_maps(part, tokens)
    if maps is not None:
        return maps.mean((2, 3, 4), dtype=torch.float32)
    if part.ndim <= 2:
        return part.reshape(len(part), -1)
    return part.mean(tuple(range(1, part.ndim - 1)), dtype=torch.float32)
