"""Grad-CAM and Saliency Tubes: which places and moments of a clip are evidence for a class.

Both weight the channels of a layer's maps and add them up. They differ in the weights:

- Grad-CAM takes the mean gradient of the class's logit over a channel, and sets evidence against
  the class to 0 (Selvaraju et al., Grad-CAM, ICCV 2017, arXiv 1610.02391). Any layer with positions
  will do.
- Saliency Tubes takes the classifier's weights for the class and keeps negative values (Stergiou et
  al., Saliency Tubes, ICIP 2019, arXiv 1902.01078). The classifier must see the mean over all
  positions.

At the last layer before the classifier, both kinds of weights are the same up to a factor.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.classifier import classifier_name
from network.network_error import NetworkError
from run.layer_outputs import as_maps, tensors_of, watched


class Trace(NamedTuple):
    """A layer's maps for one clip and their gradients, from one forward and backward pass.

    A layer that gives several tensors, as an MTConv block does, has a map and a gradient of each.
    """

    maps: list[Tensor]  # (C, T, H, W)
    gradients: list[Tensor]  # (C, T, H, W), of the class's logit
    seen: Tensor  # (C,), what the classifier sees; empty if that is not a vector


def trace(net: nn.Module, clip: Tensor, label: int, layer: str, token_frames: int) -> Trace:
    """Run a clip through the network in float32, and the class's logit back to the layer.

    Args:
        net: the network, in evaluation mode.
        clip: normalised, (1, 3, T, H, W).
        label: number of the class.
        layer: name of the layer.
        token_frames: see `layer_outputs.token_frames`.

    Raises:
        NetworkError: the logit does not depend on the layer's output.
    """
    modules = dict(net.named_modules())
    outputs: list[Tensor] = []
    seen: list[Tensor] = []

    def cut(name: str, output: object) -> object:
        """Detach the graph at this output, so that the backward pass ends here."""
        outputs[:] = [part.detach().requires_grad_() for part in tensors_of(output)]
        # clones, because the next layer may be a ReLU that works in place
        clones = [part.clone() for part in outputs]
        if isinstance(output, Tensor):
            return clones[0]
        rest = [part for part in output if not tensors_of(part)]  # MViT's sizes, after its tokens
        return (*clones, *rest)

    classifier = modules[classifier_name(net)]
    handle = classifier.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    # cuDNN has no pass back through an LSTM in evaluation mode
    try:
        with torch.backends.cudnn.flags(enabled=False), watched({layer: modules[layer]}, cut):
            logit = net(clip)[0, label]
    finally:
        handle.remove()
    gradients = [None]
    if logit.requires_grad:
        gradients = torch.autograd.grad(logit, outputs, allow_unused=True)
    pairs = [
        (as_maps(output.detach(), token_frames), as_maps(gradient, token_frames))
        for output, gradient in zip(outputs, gradients, strict=False)
        if gradient is not None
    ]
    pairs = [(maps[0], back[0]) for maps, back in pairs if maps is not None]
    if not any(back.any() for _, back in pairs):
        raise NetworkError(
            f"the class's score does not depend on the positions of layer {layer!r}, so they have "
            "no heat map; choose an earlier layer"
        )
    maps, gradients = zip(*pairs, strict=True)
    vector = seen[-1].flatten() if seen[-1].ndim == 2 else torch.empty(0)
    return Trace(list(maps), list(gradients), vector)


def evidence(trace: Trace) -> Tensor:
    """Return the sum of the channels weighted by their gradients: (T, H, W), before the ReLU.

    The published weight is the mean gradient of a channel. Here it is the sum over the positions,
    which is the same but for a factor where there is one map, and makes maps of several sizes
    comparable where there are several.
    """
    weights = [gradient.sum((1, 2, 3)) for gradient in trace.gradients]
    return _weighted(trace.maps, weights)


def grad_cam(trace: Trace) -> Tensor:
    """Return the heat map of Grad-CAM, (T, H, W) from 0 to 1; all 0 without any evidence."""
    heat = evidence(trace).relu()
    return heat / heat.max().clamp_min(torch.finfo(heat.dtype).tiny)


def saliency_tubes(net: nn.Module, trace: Trace, label: int) -> Tensor | None:
    """Return the heat map of Saliency Tubes, its lowest value made 0 and its highest 1: (T, H, W).

    Returns:
        None if the classifier is not a linear layer that sees the mean of these maps.
    """
    classifier = dict(net.named_modules())[classifier_name(net)]
    means = torch.cat([maps.mean((1, 2, 3)) for maps in trace.maps])
    if not isinstance(classifier, nn.Linear) or trace.seen.shape != means.shape:
        return None
    if not torch.allclose(means, trace.seen, rtol=1e-3, atol=1e-4 * float(means.abs().max())):
        return None
    weights = classifier.weight[label].detach().split([len(maps) for maps in trace.maps])
    heat = _weighted(trace.maps, weights)
    heat = heat - heat.min()
    return heat / heat.max().clamp_min(torch.finfo(heat.dtype).tiny)


def _weighted(maps: list[Tensor], weights: list[Tensor]) -> Tensor:
    """Add up the channels of all maps, on the largest grid of them: (T, H, W)."""
    sums = [torch.einsum("c,cthw->thw", w, m) for m, w in zip(maps, weights, strict=True)]
    largest = max(sums, key=Tensor.numel).shape
    return torch.stack([resized(one, largest) for one in sums]).sum(0)


def resized(heat: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Interpolate a heat map (t, h, w) linearly to `shape` (T, H, W)."""
    if heat.shape == shape:
        return heat
    return F.interpolate(heat[None, None], size=tuple(shape), mode="trilinear")[0, 0]
