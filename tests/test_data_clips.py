"""Clips: which frames and which part of them, the same for the same request."""

from dataclasses import replace

import numpy as np
import pytest
import simplejpeg
import torch

from data.annotations.video_folders import Videos
from data.clips.clip_dataset import ClipDataset, ClipOptions, ClipRequest, normalise
from data.data_error import DataError
from data.store import write_store
from data.synthetic import texture
from network.input_profile import DEFAULT_PROFILE

FRAMES, HEIGHT, WIDTH = 40, 64, 80
PLAIN = ClipOptions(intervals=(2,), short_side=64, clip_size=48, augmentation="none")


def write_video(folder, number, seed=0):
    """A store of FRAMES frames, each brighter than the one before, on a texture."""
    rng = np.random.default_rng((seed, number))
    ground = texture((HEIGHT, WIDTH), rng, cells=5) // 4
    frames = [ground + np.uint8(4 * i) for i in range(FRAMES)]
    jpegs = [simplejpeg.encode_jpeg(np.ascontiguousarray(f), quality=95) for f in frames]
    write_store(folder, folder.name, jpegs)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    names = [f"video{i}" for i in range(6)]
    for number, name in enumerate(names):
        write_video(root / name, number)
    return Videos(
        root=root,
        folders=np.array(names),
        labels=np.arange(6) % 3,
        classes=("a", "b", "c"),
        rejected=[],
        source=root / "labels.csv",
    )


@pytest.fixture
def damaged(videos):
    """The same videos and one that is missing, in the second place."""
    folders = np.insert(videos.folders.astype("U20"), 1, "missing")
    return replace(videos, folders=folders, labels=np.insert(videos.labels, 1, 0))


def brightness(clip):
    """Of each frame: (T,)."""
    return clip.float().mean(dim=(0, 2, 3))


def test_a_sample_is_bytes_of_the_asked_shape(videos):
    clips = ClipDataset(videos, replace(PLAIN, augmentation="readme"), training=True, seed=1)
    for frames, size in ((4, 32), (8, 48), (16, 64), (1, 17)):
        sample = clips[ClipRequest(4, 0, frames, size)]
        assert sample.clip.shape == (3, frames, size, size) and sample.clip.dtype == torch.uint8
        assert (sample.label, sample.index, sample.replaced) == (1, 4, -1)


@pytest.mark.parametrize("augmentation", ["readme", "imgaug", "randaugment", "colour", "none"])
def test_a_clip_is_a_function_of_seed_and_request(videos, augmentation):
    options = replace(PLAIN, augmentation=augmentation, flip=True, erase=0.5, crop="multiscale")
    first, again, other = (
        ClipDataset(videos, options, training=True, seed=seed) for seed in (1, 1, 2)
    )
    requests = [ClipRequest(index, epoch, 4, 32) for index in range(3) for epoch in range(3)]
    backwards = {request: again[request].clip for request in reversed(requests)}
    assert all(torch.equal(first[r].clip, backwards[r]) for r in requests)
    assert not all(torch.equal(first[r].clip, other[r].clip) for r in requests)
    epochs = [first[ClipRequest(0, epoch, 4, 32)].clip for epoch in range(4)]
    assert any(not torch.equal(epochs[0], clip) for clip in epochs[1:])


def test_validation_takes_the_centre_of_time_and_space(videos):
    clips = ClipDataset(videos, PLAIN, training=False, seed=1)
    clip = clips[ClipRequest(2, 7, 8, 48)].clip
    store_frames = range(12, 28, 2)  # 15 frames of 40 leave 12 before and 13 behind
    from data.store import FrameStore

    with FrameStore(videos.folder(2)) as store:
        expected = store.read(store_frames)[:, 8:56, 16:64]
    assert np.array_equal(clip.permute(1, 2, 3, 0).numpy(), expected)


def test_views_run_from_the_first_frame_to_the_last(videos):
    clips = ClipDataset(videos, PLAIN, training=False, seed=1)
    levels = [brightness(clips[ClipRequest(0, 0, 4, 48, view=v, views=3)].clip) for v in range(3)]
    for frame in range(4):
        assert levels[0][frame] < levels[1][frame] < levels[2][frame]
    assert levels[2][3] - levels[0][0] > 4 * (FRAMES - 2)


def test_a_smaller_size_shows_the_same_view(videos):
    for training in (True, False):
        clips = ClipDataset(videos, PLAIN, training=training, seed=3)
        large, small = (clips[ClipRequest(1, 0, 4, size)].clip.float() for size in (48, 24))
        shrunk = torch.nn.functional.avg_pool2d(large, 2)
        assert (shrunk - small).abs().mean() < 3


def test_intervals_stretch(videos):
    clips = ClipDataset(videos, PLAIN, training=True, seed=1)
    steps = set()
    for epoch in range(60):
        levels = brightness(clips[ClipRequest(0, epoch, 4, 32, stretch=3.0)].clip)
        steps.add(round(float(levels[3] - levels[0]) / 3 / 4))
    assert steps == {2, 3, 4, 5, 6}


def test_flip_mirrors_half_of_the_clips(videos):
    plain = ClipDataset(videos, replace(PLAIN, clip_size=64), training=True, seed=1)
    flipping = ClipDataset(videos, replace(PLAIN, clip_size=64, flip=True), training=True, seed=1)
    mirrored = 0
    for epoch in range(60):
        request = ClipRequest(0, epoch, 1, 64)
        straight, maybe = plain[request].clip, flipping[request].clip
        mirrored += torch.equal(maybe, straight.flip(-1))
        assert torch.equal(maybe, straight) or torch.equal(maybe, straight.flip(-1))
    assert 15 < mirrored < 45


def test_erasing_happens_as_often_as_it_says(videos):
    whole = ClipDataset(videos, PLAIN, training=True, seed=1)
    erasing = ClipDataset(videos, replace(PLAIN, erase=0.3), training=True, seed=1)
    requests = [ClipRequest(0, epoch, 1, 16) for epoch in range(100)]
    assert 15 < sum(not torch.equal(whole[r].clip, erasing[r].clip) for r in requests) < 45


def test_a_bad_video_is_an_error(damaged):
    clips = ClipDataset(damaged, PLAIN, training=True, seed=1)
    with pytest.raises(DataError, match="missing"):
        clips[ClipRequest(1, 0, 4, 32)]


@pytest.mark.parametrize("training", [True, False])
def test_skip_bad_puts_another_video_there_and_says_so(damaged, training, caplog):
    options = replace(PLAIN, skip_bad=True)
    clips = ClipDataset(damaged, options, training=training, seed=1)
    samples = [clips[ClipRequest(1, epoch, 4, 32)] for epoch in (0, 0, 1, 2, 3)]
    assert all(s.replaced == 1 and s.index != 1 for s in samples)
    assert all(s.label == damaged.labels[s.index] for s in samples)
    assert torch.equal(samples[0].clip, samples[1].clip)
    assert "missing" in caplog.text
    good = clips[ClipRequest(samples[2].index, 1, 4, 32)]
    assert torch.equal(good.clip, samples[2].clip)


def test_nothing_but_bad_videos_is_an_error(damaged):
    broken = replace(damaged, folders=np.array(["gone"] * len(damaged)))
    clips = ClipDataset(broken, replace(PLAIN, skip_bad=True), training=True, seed=1)
    with pytest.raises(DataError, match="20 videos drawn at random cannot be read"):
        clips[ClipRequest(0, 0, 4, 32)]


def test_an_unknown_augmentation_fails_at_once(videos):
    with pytest.raises(DataError, match="augmentation 'blur'"):
        ClipDataset(videos, replace(PLAIN, augmentation="blur"), training=True, seed=1)


def test_normalised_values_by_hand():
    """The original's figures: mean 124, 117, 104 and a factor of 0.0167."""
    clips = torch.tensor([0, 124, 255], dtype=torch.uint8).expand(1, 3, 1, 1, 3)
    expected = [
        [-124 * 0.0167, 0, 131 * 0.0167],
        [-117 * 0.0167, 7 * 0.0167, 138 * 0.0167],
        [-104 * 0.0167, 20 * 0.0167, 151 * 0.0167],
    ]
    result = normalise(clips, DEFAULT_PROFILE.mean, DEFAULT_PROFILE.std)
    torch.testing.assert_close(result[0, :, 0, 0], torch.tensor(expected))


def test_the_share_of_a_crop_is_at_most_the_whole():
    assert replace(PLAIN, short_side=256, clip_size=224).share == 0.875
    assert replace(PLAIN, short_side=128, clip_size=224).share == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_normalise(dtype):
    clips = torch.randint(0, 256, (2, 4, 8, 8, 3), dtype=torch.uint8).permute(0, 4, 1, 2, 3)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 0.125)
    result = normalise(clips, mean, std, dtype)
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (mean, std))
    expected = ((clips / 255 - mean) / std).to(dtype)
    assert result.dtype == dtype and result.stride() == clips.stride()
    torch.testing.assert_close(result, expected)


def test_clips_per_second_whatever_the_frame_rate(tmp_path):
    """Two videos of the same second, one with half of the frames, give the same clip."""
    ground = texture((HEIGHT, WIDTH), np.random.default_rng(3), cells=5) // 4
    for name, fps in (("slow", 20), ("fast", 40)):
        frames = [ground + np.uint8(160 * i / fps) for i in range(fps)]
        jpegs = [simplejpeg.encode_jpeg(frame, quality=95) for frame in frames]
        write_store(tmp_path / name, name, jpegs, times=np.arange(fps) / fps)
    videos = Videos(
        root=tmp_path,
        folders=np.array(["slow", "fast"]),
        labels=np.zeros(2, np.int64),
        classes=("a",),
        rejected=[],
        source=tmp_path / "labels.csv",
    )
    clips = ClipDataset(videos, replace(PLAIN, fps=10), training=False, seed=1)
    slow, fast = (brightness(clips[ClipRequest(i, 0, 8, 32)].clip) for i in range(2))
    assert torch.allclose(slow.diff(), torch.full((7,), 16.0), atol=1.5)
    assert torch.allclose(slow, fast, atol=5)
    clips = ClipDataset(videos, replace(PLAIN, fps=10), training=True, seed=1)
    one, other = (clips[ClipRequest(1, 5, 8, 32, stretch=1.2)].clip for _ in range(2))
    assert torch.equal(one, other)
