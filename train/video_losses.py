"""Keep the loss of each training video in the current epoch, on the device, without waiting."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from data.clips.loader import Batch
from train.devices import Devices
from train.distributed import all_reduce_elementwise_max

UNKNOWN = -1.0  # no loss is negative
LOSS, PREDICTED = 0, 1


class VideoLosses:
    """For each training video of the current epoch: its clip's loss, and the likeliest class.

    The loss is the cross entropy of the video's own label, without label smoothing, before the
    update of the step. For clips that are mixed with others, it is the loss of the mixed clip.
    """

    def __init__(self, videos: int, device: torch.device):
        # the last column takes the clips that do not count, so that no step selects by a mask
        self.values = torch.full((2, videos + 1), UNKNOWN, device=device)

    def add(self, devices: Devices, batch: Batch, logits: Tensor, skipped: Tensor) -> None:
        """Add this rank's clips of a step.

        Args:
            devices: where the logits are.
            batch: the clips.
            logits: float32 (B, classes).
            skipped: bool, on the device: whether the step does not count, see `StepOutcome`.
        """
        labels, indices, replaced = map(
            devices.to_device, (batch.labels, batch.indices, batch.replaced)
        )
        losses = F.cross_entropy(logits, labels, reduction="none")
        counts = losses.isfinite() & ~skipped & (replaced < 0)
        found = torch.stack([losses, logits.argmax(1).float()])  # (2, B)
        places = torch.where(counts, indices, self.values.shape[1] - 1)
        self.values[:, places] = torch.where(counts, found, UNKNOWN)

    def state(self, devices: Devices) -> Tensor:
        """Return the values of all ranks, float32 (2, videos) on the CPU; (2, 0) if none is known.

        Every rank must call it; it waits for the device.
        """
        values = all_reduce_elementwise_max(devices, self.values)[:, :-1].cpu()
        return values.clone() if (values >= 0).any() else torch.empty(2, 0)

    def load_state(self, values: Tensor) -> None:
        """Continue an epoch with the values that `state` returned."""
        if values.numel():
            self.values[:, :-1] = values.to(self.values.device)

    def clear(self) -> None:
        """Forget all losses, for the next epoch."""
        self.values.fill_(UNKNOWN)
