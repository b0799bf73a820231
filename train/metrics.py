"""Accuracy and loss, kept as sums, which add up exactly over batches, ranks and restarts."""

from __future__ import annotations

import torch
from torch import Tensor

from train.devices import Devices
from train.distributed import all_reduce_sum

CLIPS, TOP1, TOP5, LOSS = range(4)


def top_k_hits(logits: Tensor, labels: Tensor) -> Tensor:
    """Count the clips whose label is in the top 1, and in the top 5: float64 (2,).

    `logits` are (B, classes). With fewer than five classes, every clip counts as a top-5 hit.
    """
    k = min(5, logits.shape[1])
    hits = logits.topk(k, dim=1).indices == labels[:, None]  # (B, k)
    return torch.stack([hits[:, 0].sum(), hits.sum()]).double()


class Meter:
    """Top-1, top-5 and loss over all clips added so far."""

    def __init__(self, device: torch.device):
        self.sums = torch.zeros(4, dtype=torch.float64, device=device)

    def add(self, logits: Tensor, labels: Tensor, loss_sum: Tensor) -> None:
        """Add (B, classes) logits with (B,) labels; `loss_sum` is the sum of the clips' losses."""
        self.sums[CLIPS] += len(labels)
        self.sums[TOP1:LOSS] += top_k_hits(logits, labels)
        self.sums[LOSS] += loss_sum

    def scores(self, devices: Devices) -> dict[str, float]:
        """Return top1 and top5 (percent), loss and the number of clips, over all ranks."""
        clips, top1, top5, loss = all_reduce_sum(devices, self.sums).tolist()
        count = max(clips, 1)
        return {
            "top1": 100 * top1 / count,
            "top5": 100 * top5 / count,
            "loss": loss / count,
            "clips": clips,
        }
