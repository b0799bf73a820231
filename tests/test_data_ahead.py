"""Reading ahead: the range asked of the kernel covers the frames and little else."""

import os

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st

from data.store import FrameStore, write_store
from data.store.read_ahead import MARGIN, SEGMENTS, WHOLE, byte_range, byte_shares, prefetch


@given(st.lists(st.integers(1, 100_000), min_size=1, max_size=300))
def test_shares_rise_from_nothing_to_all(sizes):
    shares = byte_shares(sizes)
    assert shares[0] == 0 and shares[-1] == WHOLE and sorted(shares) == shares
    assert len(shares) == min(SEGMENTS, len(sizes)) + 1


@given(st.data())
def test_a_range_holds_its_frames(data):
    n = data.draw(st.integers(1, 400))
    size = data.draw(st.integers(1, 50_000))
    first = data.draw(st.integers(0, n - 1))
    last = data.draw(st.integers(first, n - 1))
    start = data.draw(st.integers(0, 10**6))
    place = (start, start + n * size)
    at, length = byte_range(range(first, last + 1), n, byte_shares([size] * n), place)
    rounding = n * size / WHOLE + 2
    assert at <= start + first * size + rounding
    assert at + length >= start + (last + 1) * size - rounding
    assert length <= (last + 1 - first) * size + 2 * MARGIN + 2 * rounding


def test_a_stores_frames_lie_where_it_says(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (40, 120, 160, 3), dtype=np.uint8)
    for number, image in enumerate(noise):
        image[:, : number * 4] = 0  # later frames are smaller
    jpegs = [simplejpeg.encode_jpeg(image, quality=90) for image in noise]
    write_store(tmp_path / "v", "v", jpegs, companions=[64])
    content = (tmp_path / "v" / "frames.db").read_bytes()
    asked = []
    with FrameStore(tmp_path / "v") as store, pytest.MonkeyPatch.context() as patch:
        patch.setattr("data.store.reader.prefetch", lambda file, *part: asked.append(part))
        for indices in ([0, 2, 4], [20, 21, 22, 30], [37, 39]):
            asked.clear()
            store.jpegs(indices)
            for index in indices:
                middle = content.index(jpegs[index][-1000:])  # the last page of it
                assert any(a <= middle <= a + length for a, length in asked), index
            assert sum(length for _, length in asked) < 2.5 * sum(
                len(jpegs[i]) for i in range(indices[0], indices[-1] + 1)
            )


def test_requests_of_any_kind_do_no_harm(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10_000)
    file = os.open(path, os.O_RDONLY)
    try:
        for part in ((0, 4096), (8192, 10**5), (10**9, 10), (0, 10**9)):
            prefetch(file, *part)
        assert os.read(file, 3) == b"xxx"
    finally:
        os.close(file)
