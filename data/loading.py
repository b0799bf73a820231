"""One loader for a whole run: its batch sampler carries each step's shape to the workers, which
therefore live on when the shape changes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler, default_collate

from data.clips import ClipDataset, ClipRequest, Sample

ORDER = 3  # its stream of random numbers, beside those of data.clips


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
) -> DataLoader:
    """A loader that yields one `Batch` for each of `steps`, shaped as `plan` says.

    Raises (while iterating):
        ValueError: a step has fewer clips than there are ranks.
    """
    sampler = StepSampler(len(clips), plan, steps, seed=seed, rank=rank, world=world)
    return _loader(clips, sampler, workers, pin_memory)


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
) -> DataLoader:
    """A loader of every clip once, the same clips in the same order each time.

    With several `views`, the rows of one video stand together in one `Batch`, with equal
    `indices`; a batch is then of ``batch // views`` videos, but at least one.
    """
    sampler = ViewSampler(len(clips), batch, frames, size, rank=rank, world=world, views=views)
    return _loader(clips, sampler, workers, pin_memory)


def _loader(
    clips: ClipDataset, sampler: Sampler[list[ClipRequest]], workers: int, pin_memory: bool
) -> DataLoader:
    return DataLoader(
        clips,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=one_thread,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # iter() draws from it: the global one stays as it is
    )


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


def one_thread(worker: int) -> None:
    """One OpenCV and one torch thread: the workers themselves are the parallelism.

    A signal to the whole group of processes, as of Ctrl-C or a scheduler, is left to the process
    that they read for: it goes on to the end of its step. SIGTERM from that process ends them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS and Windows
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_told, daemon=True).start()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _end_when_told() -> None:
    reader_for = multiprocessing.parent_process()  # not getppid(), which may be a fork server
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != reader_for.pid:
        pass
    os._exit(0)
