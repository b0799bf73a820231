"""Batch norm whose statistics do not follow the batch: taken over a fixed number of clips.

Multigrid changes the batch by a factor of 32, and with it the noise that batch norm adds, so Wu et
al. (arXiv 1912.00998, section 3) take the statistics over sub-batches of a fixed size.

For precise batch norm, use `torch.optim.swa_utils.update_bn`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class SplitBatchNorm3d(nn.BatchNorm3d):
    """`BatchNorm3d` that, in training, normalises each sub-batch of at most `clips` by itself.

    A batch of B clips makes ceil(B / clips) sub-batches of equal size, give or take one clip: of 9
    clips in eights, a rest of one would have statistics of one clip. The running statistics are
    updated once a forward pass, with the mean of the sub-batches' means and (unbiased) variances,
    weighted by their clips: in the long run what batches of `clips` clips would have left, and
    what the published aggregation of per-split statistics tends to. Evaluation is `BatchNorm3d`'s.

    Never constructed: `split_batch_norm` turns modules into it and back.
    """

    clips: int

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, C, T, H, W) -> the same shape, dtype and memory format."""
        if self.training and input.numel() == self.num_features:
            # a last batch of one clip, shrunk to one value a channel: it has no variance
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        if not self.training or len(input) <= self.clips:
            return super().forward(input)
        number = -(-len(input) // self.clips)
        # split, not tensor_split: its backward is one concatenation
        parts = input.split([len(input[i::number]) for i in range(number)])
        if not self.track_running_stats:
            return torch.cat([self._normalised(part) for part in parts])
        stats = self.running_mean.new_zeros(2, len(parts), self.num_features)
        outputs = [self._normalised(part, *stats[:, i]) for i, part in enumerate(parts)]
        share = stats.new_tensor([[len(part) / len(input)] for part in parts])  # (parts, 1)
        self._update(*(stats * share).sum(1))
        return torch.cat(outputs)

    def _normalised(
        self,
        part: torch.Tensor,
        mean: torch.Tensor | None = None,
        variance: torch.Tensor | None = None,
    ) -> torch.Tensor:
        # momentum 1: `mean` and `variance` become this part's own
        return F.batch_norm(
            part, mean, variance, self.weight, self.bias, True, momentum=1.0, eps=self.eps
        )

    def _update(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        # in place: DataParallel's first replica shares these buffers with the module itself
        self.num_batches_tracked.add_(1)
        momentum = self.momentum
        if momentum is None:  # a cumulative average, as update_bn asks for
            momentum = 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)

    def extra_repr(self) -> str:
        """`BatchNorm3d`'s, and the clips of a sub-batch."""
        return f"{super().extra_repr()}, clips={self.clips}"


def split_batch_norm(net: nn.Module, clips: int) -> None:
    """Make every `BatchNorm3d` of `net` take its training statistics over `clips` clips (0: all).

    In place: modules, their names, parameters and buffers stay the same objects, so an optimiser
    that holds them and checkpoints do not notice. Can be called again at any time. With several
    devices, the sub-batches are of each device's own clips.

    Raises:
        ValueError: `clips` is negative.
    """
    if clips < 0:
        raise ValueError(f"clips={clips}: must not be negative")
    for module in net.modules():
        if type(module) not in (nn.BatchNorm3d, SplitBatchNorm3d):
            continue
        module.__class__ = SplitBatchNorm3d if clips else nn.BatchNorm3d
        module.__dict__.pop("clips", None)
        if clips:
            module.clips = clips
