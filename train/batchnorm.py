"""Batch norm whose statistics do not follow the batch: taken over a fixed number of clips.

Multigrid changes the batch by a factor of 32, and with it the noise that batch norm adds, so Wu et
al. (arXiv 1912.00998, section 3) take the statistics over sub-batches of a fixed size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import nn

from train.devices import Devices


class SplitBatchNorm3d(nn.BatchNorm3d):
    """`BatchNorm3d` that, in training, normalises each sub-batch of at most `clips` by itself.

    A batch of B clips makes ceil(B / clips) sub-batches of equal size, give or take one clip: of 9
    clips in eights, a rest of one would have statistics of one clip. The running statistics are
    updated once a forward pass, with the mean of the sub-batches' means and (unbiased) variances,
    weighted by their clips: in the long run what batches of `clips` clips would have left, and
    what the published aggregation of per-split statistics tends to. Evaluation is `BatchNorm3d`'s.

    Of maps that have shrunk to one value a channel, one clip has no variance: then two clips are
    the smallest sub-batch, and a batch of one is normalised by the running statistics.

    Never constructed: `split_batch_norm` turns modules into it.
    """

    clips: int  # 0: all of a batch

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, C, T, H, W) -> the same shape, dtype and memory format."""
        if not self.training:
            return super().forward(input)
        batch = len(input)
        number = -(-batch // self.clips) if self.clips else 1
        if input[0].numel() == self.num_features:
            if batch == 1:
                return F.batch_norm(
                    input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
                )
            number = min(number, batch // 2)
        if number == 1:
            return super().forward(input)
        # split, not tensor_split: its backward is one concatenation
        parts = input.split([len(input[i::number]) for i in range(number)])
        if not self.track_running_stats:
            return torch.cat([self._normalised(part) for part in parts])
        stats = self.running_mean.new_zeros(2, len(parts), self.num_features)
        outputs = [self._normalised(part, *stats[:, i]) for i, part in enumerate(parts)]
        share = stats.new_tensor([[len(part) / batch] for part in parts])  # (parts, 1)
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
    for module in _norms(net):
        module.__class__ = SplitBatchNorm3d
        module.clips = clips


def synchronise_batch_norm(net: nn.Module) -> None:
    """Make every `BatchNorm3d` of `net` take its training statistics over all processes' clips.

    In place, as `split_batch_norm`, which undoes it. GPUs only: torch synchronises on no others.
    """
    for module in _norms(net):
        module.__class__ = nn.SyncBatchNorm
        module.process_group = None  # all processes


def too_few_clips(batch: int, devices: Devices, clips: int) -> bool:
    """Whether batch norm over `clips` clips must be synchronised in a step of `batch` clips.

    It must where a device's share, the smallest if they differ, is smaller, and can where each
    process has one GPU. Every process answers alike. Only such steps: over all the clips of a
    large batch, statistics would follow the batch.
    """
    return devices.gpus == 1 and devices.world > 1 and batch // devices.world < clips


@torch.no_grad()
def estimate_statistics(net: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Set batch norm's running statistics to the mean of those of `batches` (precise batch norm).

    Batches are float (B, 3, T, H, W) on the network's device. `net` is left in evaluation mode.
    torch.optim.swa_utils.update_bn does the same with the whole network in training mode, where
    gates count clips for their rates: here only the norms are in training mode.
    """
    net.eval()
    norms = [
        module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
        norm.momentum = None  # the mean of all batches instead of a moving average
    for clips in batches:
        net(clips)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    net.eval()


def _norms(net: nn.Module) -> Iterator[nn.Module]:
    kinds = (nn.BatchNorm3d, SplitBatchNorm3d, nn.SyncBatchNorm)
    return (module for module in net.modules() if type(module) in kinds)
