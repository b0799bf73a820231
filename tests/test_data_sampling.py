"""Frame indices: where a clip lies, for every video length, interval and view."""

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st

from data.clips.frame_sampling import frame_indices, frames_at_rate
from data.data_error import DataError
from data.store import FrameStore, write_store

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


@given(videos, lengths, st.floats(0.1, 9), seeds, stretches, st.sampled_from(["loop", "hold"]))
def test_a_fractional_interval_takes_the_nearest_frames(
    n_frames, length, interval, seed, stretch, short_videos
):
    rng = np.random.default_rng(seed)
    how = {"stretch": stretch, "short_videos": short_videos}
    frames = frame_indices(n_frames, length, interval, rng=rng, **how)
    assert frames.shape == (length,) and frames.dtype == np.int64
    assert frames.min() >= 0 and frames.max() < n_frames
    fits = (length - 1) * interval <= n_frames - 1
    if length > 1 and fits:
        mean_step = (frames[-1] - frames[0]) / (length - 1)
        assert interval - 1 <= mean_step <= interval * stretch + 1
        places = frames[0] + np.arange(length) * mean_step
        assert np.abs(frames - places).max() <= 1  # both ends are rounded too


@given(videos, lengths, st.integers(1, 9), st.integers(0, 4))
def test_a_whole_number_gives_the_same_clip_as_an_interval(n_frames, length, interval, view):
    how = {"view": view, "views": 5}
    whole = frame_indices(n_frames, length, interval, **how)
    assert whole.tolist() == frame_indices(n_frames, length, float(interval), **how).tolist()


FLAT = simplejpeg.encode_jpeg(np.zeros((16, 16, 3), np.uint8))


def stored(folder, times):
    write_store(folder, folder.name, [FLAT] * len(times), times=times)
    return FrameStore(folder)


@pytest.mark.parametrize("fps", [12.0, 25.0, 29.97, 60.0])
def test_clips_of_one_rate_show_the_same_moments_of_videos_of_different_rates(tmp_path, fps):
    with stored(tmp_path / "v", np.arange(round(4 * fps)) / fps) as store:
        frames = frames_at_rate(store, 10.0, 16)  # 1.5 seconds, in the middle of 4
    moments = frames / fps
    assert abs(moments[0] - 1.25) <= 1.5 / fps
    assert np.abs(moments - moments[0] - np.arange(16) / 10).max() <= 0.5 / fps + 1e-6


def test_of_a_varying_rate_the_frames_shown_at_each_moment_are_taken(tmp_path):
    # two seconds of 20 frames, then two of 5
    times = np.concatenate([np.arange(40) / 20, 2 + np.arange(10) / 5])
    with stored(tmp_path / "v", times) as store:
        assert store.has_varying_rate
        frames = frames_at_rate(store, 10.0, 33)
        moments = times[frames[0]] + np.arange(33) / 10
        shown = [np.flatnonzero(times <= moment + 1e-6)[-1] for moment in moments]
        # the resampled frames lie on a grid of the mean rate, a twelfth of a second
        assert np.abs(times[frames] - moments).max() <= 1 / 5 + 1 / 12
        assert np.abs(frames - shown).max() <= 2
        again = frames_at_rate(store, 10.0, 33)
    assert frames.tolist() == again.tolist()


def test_a_video_without_rate_says_what_to_do(tmp_path):
    write_store(tmp_path / "v", "v", [FLAT] * 9)
    with FrameStore(tmp_path / "v") as store:
        assert frame_indices(store.n_frames, 4, 2).tolist() == [1, 3, 5, 7]
        with pytest.raises(DataError, match="does not say its frame rate"):
            frames_at_rate(store, 10.0, 4)
