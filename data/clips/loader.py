"""One loader for a whole run: its batch sampler carries each step's shape to the workers, which
therefore live on when the shape changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate, get_worker_info

from data.clips.clip_dataset import ClipDataset, ClipRequest, Sample
from data.clips.loader_workers import BATCH_TIMEOUT, Batches, errors_as_values, start_worker

ORDER = 3  # its stream of random numbers, beside those of data.clips.clip_dataset


class StepPlan(NamedTuple):
    """One optimiser step: clips ``order[start : start + batch]`` of that epoch, over all ranks."""

    epoch: int
    start: int
    batch: int
    frames: int
    size: int
    stretch: float = 1.0


class Batch(NamedTuple):
    """One rank's clips of one step."""

    clips: torch.Tensor  # uint8 (B, 3, T, S, S), RGB; in memory channels last (channels_last_3d)
    labels: torch.Tensor  # int64 (B,)
    indices: torch.Tensor  # int64 (B,): of the videos shown
    replaced: torch.Tensor  # int64 (B,): of the unreadable videos they replace, else -1


def epoch_order(n_clips: int, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch's clips: int64 (n_clips,), a permutation."""
    return np.random.default_rng((seed, epoch, 0, ORDER)).permutation(n_clips)


class StepSampler(Sampler[list[ClipRequest]]):
    """The requests of each step of `steps` in turn: rank r of w takes every w-th from the r-th."""

    def __init__(
        self,
        n_clips: int,
        plan: Callable[[int], StepPlan],
        steps: range,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ):
        self.plan, self.steps = plan, steps
        self.rank, self.world = rank, world
        self._order = lru_cache(maxsize=2)(lambda epoch: epoch_order(n_clips, seed, epoch))

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[ClipRequest]]:
        for step in self.steps:
            now = self.plan(step)
            order = self._order(now.epoch)
            share = order[now.start + self.rank : now.start + now.batch : self.world]
            if not len(share):
                raise ValueError(f"step {step}: no clip for rank {self.rank} in {now}")
            yield [
                ClipRequest(index, now.epoch, now.frames, now.size, now.stretch)
                for index in share.tolist()
            ]


class ViewSampler(Sampler[list[ClipRequest]]):
    """Every clip once, in order, with all of its views in one batch of `batch` clips or fewer."""

    def __init__(
        self,
        n_clips: int,
        batch: int,
        frames: int,
        size: int,
        *,
        rank: int = 0,
        world: int = 1,
        views: int = 1,
    ):
        self.indices = range(rank, n_clips, world)
        self.videos = max(1, batch // views)  # of a batch
        self.frames, self.size, self.views = frames, size, views

    def __len__(self) -> int:
        return -(-len(self.indices) // self.videos)

    def __iter__(self) -> Iterator[list[ClipRequest]]:
        for start in range(0, len(self.indices), self.videos):
            yield [
                ClipRequest(index, 0, self.frames, self.size, view=view, views=self.views)
                for index in self.indices[start : start + self.videos]
                for view in range(self.views)
            ]


def training_loader(
    clips: ClipDataset,
    plan: Callable[[int], StepPlan],
    steps: range,
    *,
    seed: int,
    workers: int,
    rank: int = 0,
    world: int = 1,
    pin_memory: bool = False,
    timeout: float = BATCH_TIMEOUT,
    look: Callable[[], None] | None = None,
) -> Batches[Batch]:
    """One `Batch` for each of `steps`, shaped as `plan` says. See `Batches` for its errors.

    Raises (while iterating):
        ValueError: a step has fewer clips than there are ranks.
    """
    sampler = StepSampler(len(clips), plan, steps, seed=seed, rank=rank, world=world)
    return _batches(clips, sampler, workers, pin_memory, timeout, look)


def validation_loader(
    clips: ClipDataset,
    batch: int,
    frames: int,
    size: int,
    *,
    workers: int,
    rank: int = 0,
    world: int = 1,
    views: int = 1,
    pin_memory: bool = False,
    timeout: float = BATCH_TIMEOUT,
    look: Callable[[], None] | None = None,
) -> Batches[Batch]:
    """Every clip once, the same clips in the same order each time. See `Batches` for its errors.

    With several `views`, the rows of one video stand together in one `Batch`, with equal
    `indices`; a batch is then of ``batch // views`` videos, but at least one.
    """
    sampler = ViewSampler(len(clips), batch, frames, size, rank=rank, world=world, views=views)
    return _batches(clips, sampler, workers, pin_memory, timeout, look)


def _batches(
    clips: ClipDataset,
    sampler: Sampler[list[ClipRequest]],
    workers: int,
    pin_memory: bool,
    timeout: float,
    look: Callable[[], None] | None,
) -> Batches[Batch]:
    loader = DataLoader(
        _BatchReader(clips),
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=start_worker,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # iter() draws from it: the global one stays as it is
    )

    def name(request: ClipRequest) -> str:
        return str(clips.videos.folder(request.index))

    return Batches(loader, name=name, timeout=timeout, look=look)


class _BatchReader(Dataset):
    """Whole batches, read where the loader asks for them: in a worker, if there is one."""

    def __init__(self, clips: ClipDataset):
        self.clips = clips

    @errors_as_values
    def __getitems__(self, requests: list[ClipRequest]) -> Batch:
        batch = collate([self.clips[request] for request in requests])
        if get_worker_info() is not None:
            for part in batch:
                part.share_memory_()  # if memory is short, it shows here, not on the way
        return batch


def _as_it_is(batch: Batch) -> Batch:
    return batch


def collate(samples: list[Sample]) -> Batch:
    """Samples of one shape as a batch; the clips keep their channels last in memory."""
    clips, labels, indices, replaced = zip(*samples, strict=True)
    stacked = default_collate([clip.permute(1, 2, 3, 0) for clip in clips])  # (B, T, S, S, 3)
    return Batch(
        stacked.permute(0, 4, 1, 2, 3),
        torch.tensor(labels),
        torch.tensor(indices),
        torch.tensor(replaced),
    )
