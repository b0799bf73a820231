"""Accuracy and loss as sums, so that they add up exactly over batches, processes and restarts."""

from __future__ import annotations

import torch
from torch import Tensor

from train.devices import Devices
from train.distributed import all_reduce_sum

CLIPS, TOP1, TOP5, LOSS = range(4)


def top_k_hits(logits: Tensor, labels: Tensor) -> Tensor:
    """Clips whose label is first, and among the first five, of (B, classes) logits: float64 (2,).

    With fewer than five classes, top-5 counts among all of them.
    """
    k = min(5, logits.shape[1])
    hits = logits.topk(k, dim=1).indices == labels[:, None]  # (B, k)
    return torch.stack([hits[:, 0].sum(), hits.sum()]).double()


class Meter:
    """Running top-1, top-5 and loss over clips."""

    def __init__(self, device: torch.device):
        self.sums = torch.zeros(4, dtype=torch.float64, device=device)

    def add(self, logits: Tensor, labels: Tensor, loss_sum: Tensor) -> None:
        """Count (B, classes) logits against (B,) labels; `loss_sum` is the sum over the clips."""
        self.sums[CLIPS] += len(labels)
        self.sums[TOP1:LOSS] += top_k_hits(logits, labels)
        self.sums[LOSS] += loss_sum

    def scores(self, devices: Devices) -> dict[str, float]:
        """Means over all clips of all processes: top1 and top5 in percent, loss, and clips."""
        clips, top1, top5, loss = all_reduce_sum(devices, self.sums).tolist()
        count = max(clips, 1)
        return {
            "top1": 100 * top1 / count,
            "top5": 100 * top5 / count,
            "loss": loss / count,
            "clips": clips,
        }
