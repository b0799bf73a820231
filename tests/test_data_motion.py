"""The rendered dataset: each class moves as its name says, and only time tells it from its twin."""

import itertools

import cv2
import numpy as np
import pytest

from data.synthetic import ACTIONS, SIZES, render, write_videos

NAMES = list(ACTIONS)
SEEDS = range(5)


@pytest.mark.parametrize("action", NAMES[::2])
def test_a_video_played_backwards_is_its_twins(action):
    twin = NAMES[NAMES.index(action) + 1]
    for seed in SEEDS:
        forwards, other = render(action, seed), render(twin, seed)
        assert np.array_equal(forwards, other[::-1])
        assert not np.array_equal(forwards, other)


@pytest.mark.parametrize(("action", "axis"), [("move_right", 0), ("move_down", 1)])
def test_a_sprite_moves_where_its_name_says(action, axis):
    """By optical flow: the mean over all pixels that move, in the picture's own directions."""
    for seed in SEEDS:
        frames = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in render(action, seed)]
        flow = sum(
            cv2.calcOpticalFlowFarneback(a, b, None, 0.5, 3, 15, 3, 5, 1.2, 0).mean((0, 1))
            for a, b in itertools.pairwise(frames)
        )
        assert flow[axis] > 3 * abs(flow[1 - axis]) > 0


def test_light_rises_and_sprites_grow_as_their_names_say():
    for seed in SEEDS:
        bright = render("brighten", seed).mean((1, 2, 3))
        assert (np.diff(bright) > 0).all()
        grown = render("grow", seed).astype(np.float32)
        changed = (np.abs(grown - grown[-1]).sum(-1) > 12).sum((1, 2))  # pixels unlike the last
        assert changed[0] > changed[len(changed) // 2] > changed[-1] == 0


def test_a_video_is_a_function_of_its_seed_in_the_sizes_that_are_promised():
    videos = [render("grow", (3, number)) for number in range(30)]
    assert np.array_equal(videos[4], render("grow", (3, 4)))
    assert {video.shape[1:3] for video in videos} == set(SIZES)
    assert all(24 <= len(video) <= 48 and video.dtype == np.uint8 for video in videos)
    assert len({video.tobytes() for video in videos}) == 30


def test_videos_are_written_once_and_named_by_class(tmp_path):
    made = write_videos(tmp_path, 1, seed=0, prefix="val")
    assert made == [(action, f"val_{action}_0000") for action in NAMES]
    paths = [tmp_path / action / f"{name}.mp4" for action, name in made]
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(paths)
    paths[0].write_bytes(b"kept")
    assert write_videos(tmp_path, 1, seed=0, prefix="val") == made
    assert paths[0].read_bytes() == b"kept"
    video = cv2.VideoCapture(str(paths[1]))
    colours = np.stack([video.read()[1][..., ::-1] for _ in range(24)])
    expected = render(NAMES[1], (0, 1, 0))[:24]
    assert np.abs(colours.astype(float) - expected).mean() < 12  # MPEG-4 loses detail, not colour
    assert np.abs(colours[..., ::-1].astype(float) - expected).mean() > 12
