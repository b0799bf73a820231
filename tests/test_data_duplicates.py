"""Near-duplicates are found after encoding and resizing, and different videos are not; sources."""

import re

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st

from data.annotations.near_duplicates import (
    FRAMES,
    fingerprint,
    fingerprint_indices,
    near_duplicate_groups,
)
from data.annotations.video_sources import source_numbers, source_of
from data.synthetic import ACTIONS, render


def of(frames: np.ndarray) -> np.ndarray:
    return fingerprint(frames[fingerprint_indices(len(frames))])


def encoded_anew(frames: np.ndarray, scale: float, quality: int) -> np.ndarray:
    """The frames at another size, through JPEGs."""
    small = [cv2.resize(f, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for f in frames]
    jpegs = [simplejpeg.encode_jpeg(np.ascontiguousarray(f), quality=quality) for f in small]
    return np.stack([simplejpeg.decode_jpeg(jpeg) for jpeg in jpegs])


def test_the_same_video_encoded_anew_is_found_and_others_are_not():
    videos = [render(list(ACTIONS)[n % 8], (1, n)) for n in range(48)]
    copies = {5: (1.5, 60), 17: (0.75, 85), 40: (2.0, 40)}
    prints = [of(frames) for frames in videos]
    prints += [of(encoded_anew(videos[n], *how)) for n, how in copies.items()]
    groups = near_duplicate_groups(np.stack(prints))
    assert groups[: len(videos)].tolist() == list(range(len(videos)))
    assert groups[len(videos) :].tolist() == list(copies)


def test_videos_of_one_colour_are_not_compared():
    flat = [np.full((FRAMES, 8, 9), level, np.uint8) for level in (0, 0, 128, 128)]
    assert near_duplicate_groups(np.stack(flat)).tolist() == [0, 1, 2, 3]
    assert near_duplicate_groups(np.zeros((0, FRAMES, 8, 9), np.uint8)).tolist() == []


@given(st.lists(st.integers(0, 5), min_size=2, max_size=30), st.integers(0, 99))
def test_equal_fingerprints_are_one_group(which, seed):
    different = np.random.default_rng(seed).integers(0, 256, (6, FRAMES, 8, 9), dtype=np.uint8)
    groups = near_duplicate_groups(different[which])
    assert groups.tolist() == [which.index(number) for number in which]


@given(st.integers(1, 10_000))
def test_the_frames_of_a_fingerprint_exist(n_frames):
    indices = fingerprint_indices(n_frames)
    assert len(indices) == FRAMES and indices.min() >= 0 and indices.max() < n_frames
    assert (np.diff(indices) >= 0).all()


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("v_Archery_g08_c01", "v_Archery_g08"),
        ("v_HandstandPushups_g25_c07", "v_HandstandPushups_g25"),
        ("-3B32lodo2M_000059_000069", "-3B32lodo2M"),
        ("_1abcDEF-9x_12.5_20", "_1abcDEF-9x"),
        ("RATRACE_wave_f_nm_np1_fr_goo_37", None),
        ("video_000001", None),
        ("abc_10_20", None),
    ],
)
def test_sources_by_name(name, source):
    assert source_of(name) == source


def test_sources_by_a_pattern():
    assert source_of("person07_walk_d1", re.compile(r"person(\d+)")) == "07"
    assert source_of("person07_walk_d1", re.compile(r"person\d+")) == "person07"
    assert source_of("other", re.compile(r"person(\d+)")) is None


def test_sources_as_numbers():
    names = ["v_A_g01_c01", "x", "v_A_g01_c02", "v_A_g02_c01", "y", "x"]
    assert source_numbers(names).tolist() == [0, 1, 0, 2, 3, 1]
