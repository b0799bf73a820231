"""One loader: the planned clips in the planned shapes, whatever the workers, ranks and views."""

import itertools
import os
import warnings
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from noise_videos import plan, stored_videos

from data.clips.clip_dataset import ClipDataset, ClipOptions, ClipRequest
from data.clips.loader import (
    StepPlan,
    StepSampler,
    ViewSampler,
    epoch_order,
    training_loader,
    validation_loader,
)

OPTIONS = ClipOptions(intervals=(1, 2), short_side=40, clip_size=32, flip=True, erase=0.3)
VIDEOS = 10


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    shapes = [(12 + number, 40, 48 if number % 2 else 40) for number in range(VIDEOS)]
    return stored_videos(tmp_path_factory.mktemp("videos"), shapes)


@pytest.fixture(scope="module")
def clips(videos):
    return ClipDataset(videos, OPTIONS, training=True, seed=5)


def batches(clips, workers, steps=range(6), context=None, **ranks):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        loader = training_loader(clips, plan, steps, seed=9, workers=workers, **ranks)
        if context:
            loader.loader.multiprocessing_context = context
        return list(loader)


@pytest.fixture(scope="module")
def expected(clips):
    return batches(clips, workers=0)


@pytest.mark.parametrize(
    ("workers", "context"), [(1, None), (2, "fork"), (4, "fork"), (2, "spawn")]
)
def test_any_number_of_workers_gives_the_same_bytes(clips, expected, workers, context):
    result = batches(clips, workers, context=context)
    assert len(result) == len(expected)
    for ours, theirs in zip(result, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a, b)


def test_batches_follow_the_plan(expected):
    for step, batch in enumerate(expected):
        now = plan(step)
        assert batch.clips.shape == (now.batch, 3, now.frames, now.size, now.size)
        assert batch.clips.dtype == torch.uint8
        assert batch.clips.is_contiguous(memory_format=torch.channels_last_3d)
        order = epoch_order(VIDEOS, 9, now.epoch)
        assert batch.indices.tolist() == order[now.start : now.start + now.batch].tolist()
        assert torch.equal(batch.labels, batch.indices) and (batch.replaced == -1).all()


def test_a_run_resumed_in_the_middle_goes_on_the_same(clips, expected):
    for ours, theirs in zip(batches(clips, 2, range(3, 6)), expected[3:], strict=True):
        assert torch.equal(ours.clips, theirs.clips)


def test_the_global_generator_stays_as_it_is(clips):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    batches(clips, workers=0)
    batches(clips, workers=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_ranks_share_each_step(clips, expected):
    shares = [batches(clips, 0, rank=rank, world_size=3) for rank in range(3)]
    for step, whole in enumerate(expected):
        for rank in range(3):
            assert torch.equal(shares[rank][step].clips, whole.clips[rank::3])


class Witness(ClipDataset):
    """Says in the label which process made the clip, and in `replaced` with how many threads."""

    def __getitem__(self, request):
        threads = torch.get_num_threads() * 10 + cv2.getNumThreads()
        return super().__getitem__(request)._replace(label=os.getpid(), replaced=threads)


def test_workers_live_through_all_shapes_with_one_thread_each(videos):
    witness = Witness(videos, OPTIONS, training=True, seed=5)
    result = batches(witness, workers=2, steps=range(8))
    assert len({pid for batch in result for pid in batch.labels.tolist()}) == 2
    assert {threads for batch in result for threads in batch.replaced.tolist()} == {11}


def test_validation_shows_every_clip_once_each_time(videos):
    clips = ClipDataset(videos, OPTIONS, training=False, seed=5)
    loader = validation_loader(clips, 4, 4, 24, workers=1)
    first, again = list(loader), list(loader)
    assert [len(batch.labels) for batch in first] == [4, 4, 2] and len(loader) == 3
    assert torch.cat([batch.indices for batch in first]).tolist() == list(range(VIDEOS))
    assert all(torch.equal(a.clips, b.clips) for a, b in zip(first, again, strict=True))


def test_views_of_a_video_share_a_batch(videos):
    clips = ClipDataset(videos, replace(OPTIONS, intervals=(1,)), training=False, seed=5)
    result = list(validation_loader(clips, 7, 4, 24, workers=0, views=3))
    assert [batch.indices.tolist() for batch in result][:2] == [
        [0] * 3 + [1] * 3,
        [2] * 3 + [3] * 3,
    ]
    assert all(not torch.equal(b.clips[0], b.clips[2]) for b in result)


@pytest.mark.parametrize("workers", [0, 2])
def test_crops_of_a_view_follow_each_other_whatever_the_workers(videos, workers):
    clips = ClipDataset(videos, replace(OPTIONS, intervals=(1,)), training=False, seed=5)
    loader = validation_loader(clips, 7, 4, 24, workers=workers, views=2, crops=3)
    for index, batch in enumerate(loader):
        assert batch.indices.tolist() == [index] * 6
        for place, clip in enumerate(batch.clips):
            view, crop = divmod(place, 3)
            request = ClipRequest(index, 0, 4, 24, view=view, views=2, crop=crop, crops=3)
            fresh = ClipDataset(videos, clips.options, training=False, seed=5)
            assert torch.equal(clip, fresh[request].clip)
            if crop == 1:  # the one in the centre
                assert torch.equal(clip, fresh[request._replace(crop=0, crops=1)].clip)


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 5), st.integers(1, 4))
def test_validation_ranks_cover_the_clips(n_clips, batch, world_size, views):
    samplers = [
        ViewSampler(n_clips, batch, 4, 8, rank=rank, world_size=world_size, views=views, crops=3)
        for rank in range(world_size)
    ]
    steps = [list(sampler) for sampler in samplers]
    assert [len(s) for s in samplers] == [len(s) for s in steps]
    seen = sorted((r.index, r.view, r.crop) for rank in steps for step in rank for r in step)
    assert seen == list(itertools.product(range(n_clips), range(views), range(3)))


@given(st.integers(1, 200), st.integers(0, 99), st.integers(0, 99))
def test_an_epochs_order_is_a_permutation(n_clips, seed, epoch):
    order = epoch_order(n_clips, seed, epoch)
    assert sorted(order.tolist()) == list(range(n_clips))
    assert np.array_equal(order, epoch_order(n_clips, seed, epoch))
    if n_clips > 20:
        assert not np.array_equal(order, epoch_order(n_clips, seed, epoch + 1))


def test_a_rank_without_a_clip_is_a_bug_with_a_name():
    sampler = StepSampler(
        8, lambda step: StepPlan(0, 0, 1, 4, 8), range(1), seed=0, rank=1, world_size=2
    )
    with pytest.raises(ValueError, match="step 0: no clip for rank 1"):
        list(sampler)
