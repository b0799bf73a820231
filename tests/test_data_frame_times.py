"""Frame rates: measured when a video is converted, kept in its store, added to older stores."""

import shutil
import sqlite3
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_data_frames import jpeg_of

from data.data_error import DataError
from data.store import FrameStore, upgrade_store, verify_store, write_store
from data.store.ffmpeg import ffmpeg_executable, frame_times
from data.store.frame_times import Rate, measure, parse_rate, rate_entry
from data.synthetic import FRAMES_PER_SECOND, render, write_video
from run.convert import main as convert

FRAMES = [jpeg_of(number, 16, 16) for number in range(48)]


@pytest.mark.parametrize("fps", [9.5, 23.976, 25.0, 29.97, 59.94, 240.0])
@pytest.mark.parametrize("unit", [1e6, 1000])  # Matroska has times of whole milliseconds
def test_constant_rates(fps, unit):
    times = np.rint(np.arange(200) / fps * unit) / unit + 3.7
    rate, microseconds = measure(times, 200)
    assert not rate.varies and abs(rate.fps / fps - 1) < 2e-3
    assert microseconds[0] == 0 and len(microseconds) == 200


def test_varying_rates_and_unusable_times():
    steady = np.arange(10) / 10
    late = np.where(steady < 0.5, steady, steady + 1)
    assert measure(late, 10)[0] == Rate(4.737, True)
    assert measure([5.0], 1)[0] == Rate(1.0, False)
    assert measure(steady[:9], 10) is None  # fewer times than frames
    assert measure([2.0] * 10, 10) is None
    assert measure([np.nan] * 10, 10) is None
    gaps = steady.copy()
    gaps[[0, 4, 9]] = np.nan
    assert measure(gaps, 10)[1][4] == 300_000  # interpolated, from the first known time on
    assert measure(np.arange(10) / 1e9, 10) is None


@given(st.lists(st.floats(width=32), max_size=40), st.integers(1, 40))
def test_any_times_give_a_rate_that_the_summary_can_hold(times, n_frames):
    found = measure(times, n_frames)
    if found:
        rate, microseconds = found
        assert parse_rate(rate_entry(rate)) == rate
        assert len(microseconds) == n_frames and (np.diff(microseconds) >= 0).all()


@given(st.lists(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)))
def test_other_entries_are_refused(entry):
    with pytest.raises(ValueError, match="damaged"):
        parse_rate(entry)


def test_one_changed_digit_is_noticed():
    good = rate_entry(Rate(29.97, False))
    for entry in ([39.97, *good[1:]], [good[0], 1, good[2]], [*good[:2], good[2] + 1]):
        with pytest.raises(ValueError, match="damaged"):
            parse_rate(entry)


def test_a_store_says_its_rate(tmp_path):
    write_store(tmp_path / "v", "v", FRAMES[:30], times=np.arange(30) / 25)
    with FrameStore(tmp_path / "v") as store:
        assert (store.fps, store.duration, store.has_varying_rate) == (25.0, 1.2, False)
        assert np.allclose(store.times(), np.arange(30) / 25)


def test_a_store_keeps_varying_times_and_notices_their_damage(tmp_path):
    times = np.cumsum([0, *[0.04] * 10, *[0.2] * 19])
    write_store(tmp_path / "v", "v", FRAMES[:30], times=times)
    verify_store(tmp_path / "v")
    with FrameStore(tmp_path / "v") as store:
        assert store.has_varying_rate and store.fps == round(29 / times[-1], 3)
        assert np.allclose(store.times(), times, atol=1e-6)
    upgrade_store(tmp_path / "v", companions=[8])  # rewrites it
    with FrameStore(tmp_path / "v") as store:
        assert store.companions == (8,) and np.allclose(store.times(), times, atol=1e-6)
    with sqlite3.connect(tmp_path / "v" / "frames.db") as connection:
        connection.execute("UPDATE Times SET microseconds = zeroblob(240)")
    with pytest.raises(DataError, match="times are damaged"):
        verify_store(tmp_path / "v")


def test_a_store_without_rate_says_what_to_do(tmp_path):
    write_store(tmp_path / "v", "v", FRAMES[:30])
    with FrameStore(tmp_path / "v") as store:
        assert (store.fps, store.duration) == (None, None)
        with pytest.raises(DataError, match=r"does not say its frame rate.*--upgrade"):
            store.times()


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """A video of a constant rate, and one in which most frames of the second half are missing."""
    folder = tmp_path_factory.mktemp("videos") / "grow"
    folder.mkdir()
    write_video(folder / "steady.mp4", render("grow", 1))
    words = ["-vf", "select=lt(n\\,10)+not(mod(n\\,4))"]
    command = [ffmpeg_executable(), "-v", "error", "-i", folder / "steady.mp4", *words]
    subprocess.run([*command, folder / "varying.mp4"], check=True)
    return folder.parent


def test_conversion_stores_the_rate(videos, tmp_path):
    convert(["--videos", str(videos), "--dataset", str(tmp_path)])
    with FrameStore(tmp_path / "jpg" / "grow" / "steady") as store:
        assert (store.fps, store.has_varying_rate) == (FRAMES_PER_SECOND, False)
    with FrameStore(tmp_path / "jpg" / "grow" / "varying") as store:
        assert store.has_varying_rate
        step = 1 / FRAMES_PER_SECOND
        assert np.allclose(np.diff(store.times())[[0, 8, -1]], [step, step, 4 * step], atol=1e-3)


def test_upgrade_adds_rates_from_the_videos_or_a_number(videos, tmp_path):
    for name in ("steady", "varying"):
        video = videos / "grow" / f"{name}.mp4"
        count = len(frame_times(video))
        write_store(tmp_path / "jpg" / "grow" / name, name, FRAMES[:count])
    there = ["--dataset", str(tmp_path), "--upgrade"]
    shutil.copytree(tmp_path / "jpg", tmp_path / "b" / "jpg")
    convert([*there, "--videos", str(videos)])
    with FrameStore(tmp_path / "jpg" / "grow" / "varying") as store:
        assert store.has_varying_rate and store.jpegs([3]) == [FRAMES[3]]
    convert([*there, "--fps", "50"])  # only for stores that do not say their rate
    with FrameStore(tmp_path / "jpg" / "grow" / "steady") as store:
        assert store.fps == FRAMES_PER_SECOND
    convert(["--dataset", str(tmp_path / "b"), "--upgrade", "--fps", "50"])
    with FrameStore(tmp_path / "b" / "jpg" / "grow" / "varying") as store:
        assert (store.fps, store.has_varying_rate) == (50, False)


def test_upgrade_refuses_the_rate_of_another_video(videos, tmp_path, caplog):
    write_store(tmp_path / "jpg" / "grow" / "steady", "steady", FRAMES[:5])
    with pytest.raises(SystemExit) as stop:
        convert(["--dataset", str(tmp_path), "--upgrade", "--videos", str(videos)])
    assert stop.value.code == 2 and "of another video" in caplog.text
    with FrameStore(tmp_path / "jpg" / "grow" / "steady") as store:
        assert store.fps is None and store.n_frames == 5
