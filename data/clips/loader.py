"""Load batches: one loader for all the steps of a run, and one for validation.

The batch sampler tells the workers the shape of each step's clips, so that the same workers load
clips of every shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate, get_worker_info

from data.clips.clip_dataset import ClipDataset, ClipRequest, Sample
from data.clips.loader_workers import BATCH_TIMEOUT, Batches, errors_as_values, start_worker

ORDER = 3  # number of the stream of random numbers; data.clips.clip_dataset has 1 and 2


class StepPlan(NamedTuple):
    """One optimiser step: which clips all ranks together use, and in which shape."""

    epoch: int
    start: int  # position of the first clip in `epoch_order`
    batch: int  # clips over all ranks
    frames: int
    size: int  # height and width in pixels
    stretch: float = 1.0  # how many times longer a frame interval may get


class Batch(NamedTuple):
    """The clips of one rank in one step."""

    clips: torch.Tensor  # uint8 (B, 3, T, S, S), RGB, channels_last_3d in memory
    labels: torch.Tensor  # int64 (B,)
    indices: torch.Tensor  # int64 (B,), of the videos shown
    replaced: torch.Tensor  # int64 (B,), of the unreadable videos that these replace, or -1


def epoch_order(n_clips: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order of an epoch's clips, a permutation, int64 (n_clips,)."""
    return np.random.default_rng((seed, epoch, 0, ORDER)).permutation(n_clips)


class StepSampler(Sampler[list[ClipRequest]]):
    """Yield one rank's requests for each step: clips rank, rank + world_size, ... of its batch."""

    def __init__(
        self,
        n_clips: int,
        plan: Callable[[int], StepPlan],
        steps: range,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.plan, self.steps = plan, steps
        self.rank, self.world_size = rank, world_size
        self._order = lru_cache(maxsize=2)(lambda epoch: epoch_order(n_clips, seed, epoch))

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[ClipRequest]]:
        for step in self.steps:
            now = self.plan(step)
            order = self._order(now.epoch)
            share = order[now.start + self.rank : now.start + now.batch : self.world_size]
            if not len(share):
                raise ValueError(f"step {step}: no clip for rank {self.rank} in {now}")
            yield [
                ClipRequest(index, now.epoch, now.frames, now.size, now.stretch)
                for index in share.tolist()
            ]


class ViewSampler(Sampler[list[ClipRequest]]):
    """Yield requests for each video once, in order; a batch has all clips of its videos.

    The clips of a video are those of its first view, one for each crop, then those of the second.
    """

    def __init__(
        self,
        n_clips: int,
        batch: int,
        frames: int,
        size: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        views: int = 1,
        crops: int = 1,
    ):
        self.indices = range(rank, n_clips, world_size)
        self.videos = max(1, batch // (views * crops))  # of a batch
        self.frames, self.size, self.views, self.crops = frames, size, views, crops

    def __len__(self) -> int:
        return -(-len(self.indices) // self.videos)

    def __iter__(self) -> Iterator[list[ClipRequest]]:
        for start in range(0, len(self.indices), self.videos):
            yield [
                ClipRequest(
                    index, 0, self.frames, self.size,
                    view=view, views=self.views, crop=crop, crops=self.crops,
                )
                for index in self.indices[start : start + self.videos]
                for view in range(self.views)
                for crop in range(self.crops)
            ]  # fmt: skip


def training_loader(
    clips: ClipDataset,
    plan: Callable[[int], StepPlan],
    steps: range,
    *,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    **loading: Any,
) -> Batches[Batch]:
    """Return the loader that gives one `Batch` for each of `steps`.

    Args:
        clips: the training clips.
        plan: returns the clips and the shape of a step, by its number.
        steps: the numbers of the steps.
        seed: of the order of the clips.
        rank: number of this process.
        world_size: number of ranks.
        **loading: the keywords of `load_batches`, of which `workers` must be given.

    Raises (while iterating):
        ValueError: a step has fewer clips than there are ranks.
        DataError, MachineError: see `Batches`.
    """
    sampler = StepSampler(len(clips), plan, steps, seed=seed, rank=rank, world_size=world_size)
    return load_batches(clips, sampler, **loading)


def validation_loader(
    clips: ClipDataset,
    batch: int,
    frames: int,
    size: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    views: int = 1,
    crops: int = 1,
    **loading: Any,
) -> Batches[Batch]:
    """Return the loader that gives every video once, the same clips in the same order each time.

    With several `views` or `crops`, the clips of one video follow each other in one `Batch` and
    have equal `indices`. A batch then has ``batch // (views * crops)`` videos, but at least one.
    For the other arguments see `training_loader`.

    Raises (while iterating):
        DataError, MachineError: see `Batches`.
    """
    sampler = ViewSampler(
        len(clips), batch, frames, size,
        rank=rank, world_size=world_size, views=views, crops=crops,
    )  # fmt: skip
    return load_batches(clips, sampler, **loading)


def load_batches(
    clips: ClipDataset,
    sampler: Sampler[list[ClipRequest]],
    *,
    workers: int,
    pin_memory: bool = False,
    timeout: float = BATCH_TIMEOUT,
    check_signals: Callable[[], None] | None = None,
) -> Batches[Batch]:
    """Return the loader of the batches that a sampler asks for.

    Args:
        clips: from which the batches are taken.
        sampler: gives the requests of each batch.
        workers: number of worker processes; 0 reads in this process.
        pin_memory: put batches into pinned memory.
        timeout: seconds to wait for a batch; 0: no limit.
        check_signals: called several times a second while waiting for a batch; see `Batches`.
    """
    loader = DataLoader(
        _BatchReader(clips),
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=start_worker,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # so that iter() does not draw from the global one
    )

    def name(request: ClipRequest) -> str:
        return str(clips.videos.folder(request.index))

    return Batches(loader, name=name, timeout=timeout, check_signals=check_signals)


class _BatchReader(Dataset):
    """Read and collate whole batches; PyTorch's loader calls this in a worker, if there are any."""

    def __init__(self, clips: ClipDataset):
        self.clips = clips

    @errors_as_values
    def __getitems__(self, requests: list[ClipRequest]) -> Batch:
        batch = collate([self.clips[request] for request in requests])
        if get_worker_info() is not None:
            for part in batch:
                part.share_memory_()  # here, so that too little memory raises an error here
        return batch


def _unchanged(batch: Batch) -> Batch:
    return batch


def collate(samples: list[Sample]) -> Batch:
    """Collate samples of one shape into a batch whose channels are last in memory."""
    clips, labels, indices, replaced = zip(*samples, strict=True)
    stacked = default_collate([clip.permute(1, 2, 3, 0) for clip in clips])  # (B, T, S, S, 3)
    return Batch(
        stacked.permute(0, 4, 1, 2, 3),
        torch.tensor(labels),
        torch.tensor(indices),
        torch.tensor(replaced),
    )
