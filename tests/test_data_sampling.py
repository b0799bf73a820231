"""Frame indices: where a clip lies, for every video length, interval and view."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.clips.frame_sampling import frame_indices
from data.data_error import DataError

videos = st.integers(1, 500)
lengths = st.integers(1, 64)
intervals = st.one_of(st.integers(1, 9), st.lists(st.integers(1, 9), min_size=1, max_size=4))
seeds = st.integers(0, 2**32)
stretches = st.floats(1.0, 8.0)


def as_list(interval):
    return [interval] if isinstance(interval, int) else interval


@given(videos, lengths, intervals, seeds, stretches, st.sampled_from(["uniform", "normal"]))
def test_a_random_clip_is_evenly_spaced_inside_the_video(
    n_frames, length, interval, seed, stretch, start
):
    rng = np.random.default_rng(seed)
    frames = frame_indices(n_frames, length, interval, rng=rng, stretch=stretch, start=start)
    assert frames.shape == (length,) and frames.dtype == np.int64
    assert frames.min() >= 0 and frames.max() < n_frames
    if length > 1 and n_frames > (length - 1) * min(as_list(interval)):
        steps = set(np.diff(frames).tolist())
        assert len(steps) == 1
        assert any(tau <= min(steps) <= tau * stretch for tau in as_list(interval))


@given(videos, lengths, st.integers(1, 9), st.sampled_from(["loop", "hold"]))
def test_the_centre_clip_leaves_equal_ends(n_frames, length, interval, short_videos):
    frames = frame_indices(n_frames, length, interval, short_videos=short_videos)
    before, after = frames[0], n_frames - 1 - frames[-1]
    if n_frames > (length - 1) * interval:
        assert 0 <= after - before <= 1
    else:
        assert before == 0


@given(videos, lengths, st.integers(1, 9), st.integers(2, 12))
def test_views_cover_the_video_in_order(n_frames, length, interval, views):
    starts = [
        frame_indices(n_frames, length, interval, view=view, views=views)[0]
        for view in range(views)
    ]
    latest = n_frames - 1 - (length - 1) * interval
    assert starts[0] == 0 and starts[-1] == max(latest, 0)
    assert starts == sorted(starts)
    if latest > 0:
        assert np.ptp(np.diff(starts)) <= 1


def test_short_videos_loop_or_hold():
    assert frame_indices(5, 6, 2).tolist() == [0, 2, 4, 1, 3, 0]
    assert frame_indices(5, 6, 2, short_videos="hold").tolist() == [0, 2, 4, 4, 4, 4]
    assert frame_indices(1, 3, 4).tolist() == [0, 0, 0]


def test_intervals_that_do_not_fit_are_not_drawn():
    rng = np.random.default_rng(0)
    steps = {np.diff(frame_indices(31, 16, [1, 2, 6], rng=rng))[0] for _ in range(50)}
    assert steps == {1, 2}


@pytest.mark.parametrize(
    ("n_frames", "shares"),
    [(33, {1: 1 / 2, 2: 1 / 2}), (61, {1: 1 / 3, 2: 1 / 3, 4: 1 / 3}), (20, {1: 1}), (9, {1: 1})],
)
def test_intervals_that_fit_are_equally_likely(n_frames, shares):
    rng = np.random.default_rng(0)
    drawn = [
        int(np.diff(frame_indices(n_frames, 16, [1, 2, 4, 8], rng=rng))[0]) for _ in range(3000)
    ]
    assert {step: drawn.count(step) / 3000 for step in set(drawn)} == pytest.approx(
        shares, abs=0.04
    )


def test_without_a_draw_the_middle_interval_or_the_largest_that_fits():
    for n_frames, step in ((200, 4), (60, 2), (17, 1)):
        assert np.diff(frame_indices(n_frames, 16, [1, 2, 4, 8]))[0] == step


def test_every_start_and_every_stretched_interval_occurs():
    rng = np.random.default_rng(0)
    clips = [frame_indices(20, 4, 2, rng=rng, stretch=2.5) for _ in range(2000)]
    assert {int(np.diff(c)[0]) for c in clips} == {2, 3, 4, 5}
    assert {int(c[0]) for c in clips if c[1] - c[0] == 2} == set(range(14))


def test_a_normal_start_prefers_the_centre():
    rng = np.random.default_rng(0)
    starts = [frame_indices(301, 1, 1, rng=rng, start="normal")[0] for _ in range(4000)]
    assert abs(np.mean(starts) - 150) < 3
    assert abs(np.std(starts) - 50) < 3


def test_the_same_generator_gives_the_same_clip():
    first, again = (
        frame_indices(300, 16, [4, 5, 6], rng=np.random.default_rng((7, 1, 3))) for _ in range(2)
    )
    assert np.array_equal(first, again)


def test_what_is_not_asked_for_is_not_done():
    """Without `stretch` the interval is as given, without `view` the first is meant."""
    rng = np.random.default_rng(0)
    assert {int(np.ptp(frame_indices(99, 2, 4, rng=rng))) for _ in range(50)} == {4}
    assert frame_indices(99, 2, 4, views=3)[0] == 0
    assert frame_indices(99, 2, 4)[0] == 47


@pytest.mark.parametrize("start", ["uniform", "normal"])
@pytest.mark.parametrize("latest", [0, 1, 2])
def test_a_start_can_be_the_first_frame_and_the_last_possible_one(start, latest):
    rng = np.random.default_rng(0)
    frames = latest + 5  # five frames, next to each other, or stretched to two apart where it fits
    starts = [frame_indices(frames, 5, 1, rng=rng, start=start)[0] for _ in range(3000)]
    assert set(starts) == set(range(latest + 1))


def test_normal_starts_beyond_the_ends_become_the_ends():
    """Of normal numbers 0.13 % lie three standard deviations below the mean, as many above."""
    rng = np.random.default_rng(0)
    starts = [frame_indices(301, 1, 1, rng=rng, start="normal")[0] for _ in range(8000)]
    assert 5 <= starts.count(0) <= 25 and 5 <= starts.count(300) <= 25
    assert min(starts) == 0 and max(starts) == 300


def test_without_a_generator_the_middle_interval_is_taken_as_long_as_it_fits():
    steps = {
        n_frames: int(np.diff(frame_indices(n_frames, 5, [8, 1, 4]))[0])
        for n_frames in (5, 16, 17, 32, 33, 100)
    }
    assert steps == {5: 1, 16: 1, 17: 4, 32: 4, 33: 4, 100: 4}
    assert np.diff(frame_indices(9, 5, [2, 1]))[0] == 2  # of two the larger one
    assert frame_indices(3, 2, [2, 1], stretch=8.0).tolist() == [0, 2]


def test_an_interval_that_just_fits_is_drawn_and_stretched_no_further():
    rng = np.random.default_rng(0)
    clips = [frame_indices(13, 4, [2, 4, 5], rng=rng, stretch=2.0).tolist() for _ in range(400)]
    steps = {clip[1] - clip[0] for clip in clips}
    assert steps == {2, 3, 4} and [0, 4, 8, 12] in clips
    single = [frame_indices(7, 1, [1, 9], rng=rng, stretch=4.0) for _ in range(400)]
    assert {int(clip[0]) for clip in single} == set(range(7))


def test_no_frames_is_an_error():
    with pytest.raises(DataError, match="has no frames"):
        frame_indices(0, 4, 1)
