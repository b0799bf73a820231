"""Crops: which square of a frame, by hand-computed numbers and over many draws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.augment.crop import SCALES, Crop, Window, draw_crop


@pytest.mark.parametrize(
    ("crop", "height", "width", "window"),
    [
        (Crop(1.0), 100, 140, (20, 0, 100)),  # the centre of a wide frame
        (Crop(1.0), 140, 100, (0, 20, 100)),  # and of a tall one
        (Crop(0.5, 0.0, 1.0), 100, 140, (0, 50, 50)),  # the lower left corner
        (Crop(0.5, 1.0, 0.0), 100, 140, (90, 0, 50)),  # the upper right one
        (Crop(0.875, 0.5, 0.5), 256, 340, (58, 16, 224)),
        (Crop(1.0, 0.99, 0.5), 100, 140, (40, 0, 100)),  # 39.6 pixels are 40
        (Crop(1.0, 0.5, 0.99), 140, 100, (0, 40, 100)),
        (Crop(0.666, 0.0, 0.0), 100, 140, (0, 0, 67)),
        (Crop(0.001, 1.0, 1.0), 100, 140, (139, 99, 1)),  # one pixel at least
    ],
)
def test_windows_by_hand(crop, height, width, window):
    assert crop.window(height, width) == Window(*window)


@pytest.mark.parametrize(
    ("share", "size", "short_side"), [(1.0, 224, 224), (0.875, 224, 256), (0.66, 112, 170)]
)
def test_the_short_side_is_the_least_that_gives_the_size(share, size, short_side):
    crop = Crop(share)
    assert crop.short_side(size) == short_side and type(crop.short_side(size)) is int
    assert crop.window(short_side, 2 * short_side).side == size


@given(
    st.floats(0.01, 1.0), st.floats(0, 1), st.floats(0, 1), st.integers(1, 400), st.integers(1, 400)
)
def test_a_window_lies_inside_its_frame(share, x, y, height, width):
    left, top, side = Crop(share, x, y).window(height, width)
    assert left >= 0 and top >= 0 and side >= 1
    assert left + side <= width and top + side <= height


def test_a_crop_of_which_nothing_is_said_is_central_and_not_mirrored():
    assert Crop(0.5) == (0.5, 0.5, 0.5, False)


def test_crops_beside_each_other_lie_along_the_longer_side():
    crop = Crop(0.5)
    wide, tall, square = (100, 200), (200, 100), (100, 100)
    assert [crop.beside(x, *wide).window(*wide)[:2] for x in (0, 0.5, 1)] == [
        (0, 25), (75, 25), (150, 25),
    ]  # fmt: skip
    assert [crop.beside(x, *tall).window(*tall)[:2] for x in (0, 0.5, 1)] == [
        (25, 0), (25, 75), (25, 150),
    ]  # fmt: skip
    assert crop.beside(1, *square).window(*square) == (50, 25, 50)


def draws(number=4000, **options):
    rng = np.random.default_rng(0)
    return [draw_crop(0.7, rng, **options) for _ in range(number)]


def test_both_coordinates_are_uniform_and_know_nothing_of_each_other():
    crops = draws()
    places = np.array([(crop.x, crop.y) for crop in crops])
    counts, _, _ = np.histogram2d(*places.T, bins=4, range=[[0, 1], [0, 1]])
    assert counts.min() > 190 and counts.max() < 310  # 250 in each of the 16 cells
    assert abs(np.corrcoef(places.T)[0, 1]) < 0.05
    assert {crop.share for crop in crops} == {0.7}


def test_multiscale_draws_each_scale_equally_often():
    shares, counts = np.unique([crop.share for crop in draws(multiscale=True)], return_counts=True)
    assert shares.tolist() == sorted(SCALES) == [0.66, 0.75, 0.875, 1.0]
    assert counts.min() > 900 and counts.max() < 1100


def test_half_of_the_crops_are_mirrored_where_asked_and_nothing_else_changes():
    crops, plain = draws(flip=True), draws()
    assert 0.47 < np.mean([crop.flip for crop in crops]) < 0.53
    assert not any(crop.flip for crop in plain)
    assert [crop[:3] for crop in crops] == [crop[:3] for crop in plain]
    mirrored = np.array([(crop.flip, crop.x, crop.y) for crop in crops], dtype=float)
    assert np.abs(np.corrcoef(mirrored.T)[0, 1:]).max() < 0.05
