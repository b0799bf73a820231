"""Batch norm with statistics over a fixed number of clips, whatever the batch size.

Multigrid changes the batch size by a factor of up to 32, and with it the noise of batch norm. So Wu
et al. (arXiv 1912.00998, section 3) take the statistics over sub-batches of a fixed size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from train.devices import Devices


class SplitBatchNorm3d(nn.BatchNorm3d):
    """`BatchNorm3d` that in training normalises each sub-batch of at most `clips` clips separately.

    A batch of B clips is divided into ceil(B / clips) sub-batches whose sizes differ by at most one
    clip: 8 + 1 clips would give statistics of a single clip. The running statistics are updated
    once per forward pass, with the mean of the sub-batches' means and (unbiased) variances,
    weighted by their numbers of clips. In the long run they are those of batches of `clips` clips.
    In evaluation it is `BatchNorm3d`.

    If the feature maps have one value per channel, a single clip has no variance. Then every
    sub-batch has at least two clips, and a batch of one clip uses the running statistics.

    It is never constructed: `split_batch_norm` changes the class of existing modules.
    """

    clips: int  # 0: the whole batch

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
        # split, not tensor_split: its backward pass is a single concatenation
        parts = input.split([len(input[i::number]) for i in range(number)])
        if not self.track_running_stats:
            return torch.cat([self._normalised(part) for part in parts])
        stats = self.running_mean.new_zeros(2, len(parts), self.num_features)
        outputs = [self._normalised(part, *stats[:, i]) for i, part in enumerate(parts)]
        # no tensor of weights: copying it to a GPU would wait for the GPU
        weighted = [stats[:, i] * (len(part) / batch) for i, part in enumerate(parts)]
        self._update(*torch.stack(weighted, 1).sum(1))
        return torch.cat(outputs)

    def _normalised(
        self,
        part: torch.Tensor,
        mean: torch.Tensor | None = None,
        variance: torch.Tensor | None = None,
    ) -> torch.Tensor:
        # momentum 1: `mean` and `variance` become those of this part
        return F.batch_norm(
            part, mean, variance, self.weight, self.bias, True, momentum=1.0, eps=self.eps
        )

    def _update(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        # in place: DataParallel's first replica shares these buffers with the module itself
        self.num_batches_tracked.add_(1)
        momentum = self.momentum
        if momentum is None:  # a cumulative average, as in torch's update_bn
            momentum = 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)

    def extra_repr(self) -> str:
        """Return the text of `BatchNorm3d` with the clips of a sub-batch."""
        return f"{super().extra_repr()}, clips={self.clips}"


def split_batch_norm(net: nn.Module, clips: int) -> None:
    """Let every `BatchNorm3d` of `net` take its training statistics over `clips` clips (0: all).

    The modules are changed in place and keep their names, parameters and buffers, so optimisers and
    checkpoints remain valid. It can be called again at any time. With several devices, each device
    divides its own clips into sub-batches (see `StepNorms`).

    Raises:
        ValueError: `clips` is negative.
    """
    if clips < 0:
        raise ValueError(f"clips={clips}: must not be negative")
    for module in _norms(net):
        module.__class__ = SplitBatchNorm3d
        module.clips = clips


def synchronise_batch_norm(net: nn.Module, group: dist.ProcessGroup | None = None) -> None:
    """Let every `BatchNorm3d` of `net` take its training statistics over the ranks of `group`.

    None means all ranks. It works in place, and `split_batch_norm` undoes it. On GPUs only:
    torch cannot synchronise batch norm elsewhere.
    """
    for module in _norms(net):
        module.__class__ = nn.SyncBatchNorm
        module.process_group = group


def number_of_groups(world_size: int, batch: int, clips: int) -> int:
    """Return the number of groups of ranks in which each group has about `clips` clips of a batch.

    The sizes of groups differ by at most one rank. The number is chosen so that even the group that
    is furthest from `clips` clips is as near to it as possible, by ratio. `world_size` means that
    each rank forms its own group (and divides its clips further).
    """
    share = batch / world_size

    def worst(number: int) -> float:
        most, least = -(-world_size // number) * share, world_size // number * share
        return max(most / clips, clips / least)

    return min(range(1, world_size + 1), key=worst)


class StepNorms:
    """Batch norm statistics over about `clips` clips in every step, whatever its batch size.

    A device with enough clips divides them into sub-batches (`SplitBatchNorm3d`). With fewer, ranks
    of one GPU each synchronise in groups that have about `clips` clips (`SyncBatchNorm`). If all
    ranks were synchronised, the number of clips would depend on the batch size: for example all 32
    of a batch at the full shape, but 8 where devices divide large batches of small clips.

    With `clips` 0 they are taken over all clips of a device.
    """

    def __init__(self, net: nn.Module, devices: Devices, clips: int) -> None:
        self.net, self.devices, self.clips = net, devices, clips
        self._group_of: dict[int, dist.ProcessGroup | None] = {1: None}  # by number of groups
        self._number = 0  # of groups at present; 0: each device divides its own clips
        split_batch_norm(net, clips)

    def arrange(self, batch: int) -> None:
        """Prepare for a micro-batch of `batch` clips over all ranks; every rank must call it."""
        number, world_size = self.devices.world_size, self.devices.world_size
        if self.devices.gpus == 1 and self.clips and world_size > 1:
            number = number_of_groups(world_size, batch, self.clips)
        if number == world_size:
            self.split()
        elif number != self._number:
            synchronise_batch_norm(self.net, self._group(number))
            self._number = number

    def split(self) -> None:
        """Let each device take the statistics over its own clips."""
        if self._number:
            split_batch_norm(self.net, self.clips)
            self._number = 0

    def _group(self, number: int) -> dist.ProcessGroup | None:
        """Return this rank's group of `number` groups; all ranks create them at the same step."""
        if number not in self._group_of:
            ranks = [
                part.tolist() for part in np.array_split(range(self.devices.world_size), number)
            ]
            self._group_of[number], _ = dist.new_subgroups_by_enumeration(ranks)
        return self._group_of[number]


def shortage(devices: Devices, batch: int, clips: int) -> str | None:
    """Return a warning if these devices cannot take statistics over `clips` clips, else None."""
    share = batch // devices.device_count
    if share >= clips:
        return None
    if devices.gpus > 1:
        return (
            f"--bn-clips {clips} is not possible with DataParallel: each GPU takes batch norm's "
            f"statistics over its own {share} clips of a step; `torchrun --nproc-per-node "
            f"{devices.gpus}` shares them between GPUs"
        )
    if devices.world_size > 1 and not devices.gpus:
        return (
            f"--bn-clips {clips} is not possible with several processes on the CPU: each takes "
            f"batch norm's statistics over its own {share} clips of a step (torch shares them on "
            "GPUs only)"
        )
    return None


@torch.no_grad()
def estimate_statistics(net: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Set the running statistics to the mean of those of `batches` (precise batch norm).

    Batches are float (B, 3, T, H, W) on the network's device. Afterwards `net` is in evaluation
    mode. torch.optim.swa_utils.update_bn does the same with the whole network in training mode, but
    then SRTG gates would count these clips: here only batch norm is in training mode.
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
