"""Batch norm whose statistics do not follow the batch: taken over a fixed number of clips.

Multigrid changes the batch by a factor of 32, and with it the noise that batch norm adds, so Wu et
al. (arXiv 1912.00998, section 3) take the statistics over sub-batches of a fixed size.
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
        # not by a tensor of the parts' shares: copying it to a GPU would wait for the GPU
        weighted = [stats[:, i] * (len(part) / batch) for i, part in enumerate(parts)]
        self._update(*torch.stack(weighted, 1).sum(1))
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
    devices, the sub-batches are of each device's own clips (see `StepNorms`).

    Raises:
        ValueError: `clips` is negative.
    """
    if clips < 0:
        raise ValueError(f"clips={clips}: must not be negative")
    for module in _norms(net):
        module.__class__ = SplitBatchNorm3d
        module.clips = clips


def synchronise_batch_norm(net: nn.Module, group: dist.ProcessGroup | None = None) -> None:
    """Make every `BatchNorm3d` of `net` take its training statistics over the ranks of `group`.

    None: over all ranks. In place, as `split_batch_norm`, which undoes it. GPUs only: torch
    synchronises on no others.
    """
    for module in _norms(net):
        module.__class__ = nn.SyncBatchNorm
        module.process_group = group


def number_of_groups(world: int, batch: int, clips: int) -> int:
    """Into how many groups `world` ranks are divided, so that each has about `clips` of the batch.

    Groups differ by at most one rank. The number is the one whose worst group is nearest to `clips`
    by ratio; `world` means that each rank is by itself (and splits its own clips further).
    """
    share = batch / world

    def worst(number: int) -> float:
        most, least = -(-world // number) * share, world // number * share
        return max(most / clips, clips / least)

    return min(range(1, world + 1), key=worst)


class StepNorms:
    """Batch norm's statistics over about `clips` clips in every step, whatever its batch.

    Where a device has enough clips, each device splits its own (`SplitBatchNorm3d`). Where it has
    fewer, ranks that have one GPU each share theirs in groups that have about `clips` together
    (`SyncBatchNorm`). Statistics over all the ranks would follow the batch: 32 clips at the full
    shape, where large batches of coarse clips are normalised in eights.

    `clips` 0: the whole batch of each device.
    """

    def __init__(self, net: nn.Module, devices: Devices, clips: int) -> None:
        self.net, self.devices, self.clips = net, devices, clips
        self._group_of: dict[int, dist.ProcessGroup | None] = {1: None}  # by the number of groups
        self._number = 0  # of groups now; 0: each device splits its own clips
        split_batch_norm(net, clips)

    def arrange(self, batch: int) -> None:
        """Prepare for a pass over `batch` clips of all ranks. Every rank must call it alike."""
        number, world = self.devices.world, self.devices.world
        if self.devices.gpus == 1 and self.clips and world > 1:
            number = number_of_groups(world, batch, self.clips)
        if number == world:
            self.split()
        elif number != self._number:
            synchronise_batch_norm(self.net, self._group(number))
            self._number = number

    def split(self) -> None:
        """Let each device take its statistics over its own clips."""
        if self._number:
            split_batch_norm(self.net, self.clips)
            self._number = 0

    def _group(self, number: int) -> dist.ProcessGroup | None:
        """This rank's group of so many. Made once, by all ranks at the same step."""
        if number not in self._group_of:
            ranks = [part.tolist() for part in np.array_split(range(self.devices.world), number)]
            self._group_of[number], _ = dist.new_subgroups_by_enumeration(ranks)
        return self._group_of[number]


def shortage(devices: Devices, batch: int, clips: int) -> str | None:
    """One sentence where `clips` cannot be had in a step of `batch` clips on these devices."""
    share = batch // devices.device_count
    if share >= clips:
        return None
    if devices.gpus > 1:
        return (
            f"--bn-clips {clips} cannot be had with DataParallel: each GPU takes batch norm's "
            f"statistics over its own {share} clips of a step; `torchrun --nproc-per-node "
            f"{devices.gpus}` shares them between GPUs"
        )
    if devices.world > 1 and not devices.gpus:
        return (
            f"--bn-clips {clips} cannot be had with several processes on the CPU: each takes batch "
            f"norm's statistics over its own {share} clips of a step (torch shares them on GPUs "
            "only)"
        )
    return None


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
