"""Rows whose times refer to seconds of one stored video: clips come from that part of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st

from data.annotations.duplicate_videos import warn_of_overlap, warn_of_repeats
from data.annotations.label_csv import load_labels
from data.annotations.own_labels import SplitOptions, label_own_videos
from data.annotations.segments import segment_frames
from data.annotations.splits import open_split
from data.annotations.video_tree import videos_in_tree
from data.clips.clip_dataset import ClipDataset, ClipOptions, ClipRequest
from data.data_error import DataError
from data.dataset_defaults import DATASETS
from data.store import FrameStore, write_store
from run import check

FPS, SECONDS = 10, 12
HEADER = "label,youtube_id,time_start,time_end,split"
PLAIN = ClipOptions(intervals=(2,), short_side=32, clip_size=32, augmentation="none")


def write_video(folder: Path, times=None) -> None:
    """A store in which the frame of second t has the grey value 20 t."""
    times = np.arange(FPS * SECONDS) / FPS if times is None else times
    jpegs = [
        simplejpeg.encode_jpeg(np.full((32, 32, 3), round(20 * time), np.uint8), quality=95)
        for time in times
    ]
    write_store(folder, folder.name, jpegs, times=times)


@pytest.fixture(scope="module")
def jpg(tmp_path_factory) -> Path:
    """Two long videos without class folders, one in a class folder, and a cut one."""
    jpg = tmp_path_factory.mktemp("long") / "jpg"
    write_video(jpg / "game1")
    write_video(jpg / "game2")
    write_video(jpg / "run" / "race")
    write_video(jpg / "run" / "race_000002_000004")
    return jpg


def opened(jpg: Path, folder: Path, *rows: str, part: str = "train", **options):
    path = folder / "x_train.csv"
    path.write_text("\n".join([HEADER, *rows]))
    return open_split(DATASETS["custom"], jpg.parent, part, labels=path, **options)


def test_rows_are_segments_where_no_cut_video_is(jpg, tmp_path):
    rows = ["run,game1,2,5,train", "jump,game1,5.25,9.5,train", "run,race,2,4,train"]
    rows += ["run,race,0.5,4,train", "run,race,,,train"]
    videos = opened(jpg, tmp_path, *rows)
    assert videos.folders.tolist() == [
        "game1", "game1", "run/race_000002_000004", "run/race", "run/race",
    ]  # fmt: skip
    nan = [np.nan, np.nan]
    np.testing.assert_equal(videos.times, [[2, 5], [5.25, 9.5], nan, [0.5, 4], nan])
    assert opened(jpg, tmp_path, rows[2]).times is None
    assert list(videos.names())[1:3] == ["game1 5.25-9.5 s", "run/race_000002_000004"]


def test_segments_outside_of_the_video_are_rejected_by_row(jpg, tmp_path):
    good = "run,game1,2,5,train"
    for row, message in (
        ("run,game1,12,14,train", "from 12 to 14 s lies outside of the video, which has 12.0 s"),
        ("run,game1,5,40,train", "from 5 to 40 s lies outside"),
        ("run,game1,5,5,train", "ends at 5 s, but begins at 5 s"),
        ("run,game1,7,5,train", "ends at 5 s, but begins at 7 s"),
        ("run,game9,7,9,train", "no video 'game9_000007_000009' of class 'run'"),
    ):
        with pytest.raises(DataError) as error:
            opened(jpg, tmp_path, good, row)
        assert str(error.value).startswith(f"{tmp_path}/x_train.csv:3: ")
        assert message in str(error.value)
        videos = opened(jpg, tmp_path, good, row, skip_bad=True)
        assert videos.times.tolist() == [[2, 5]]
    # labels are rounded to seconds: the last one may be longer than the video
    assert len(opened(jpg, tmp_path, "run,game1,10,12.9,train")) == 1


def test_a_video_without_rate_is_rejected_and_says_what_to_do(jpg, tmp_path):
    jpegs = [simplejpeg.encode_jpeg(np.zeros((8, 8, 3), np.uint8))]
    write_store(tmp_path / "jpg" / "old", "old", jpegs)
    with pytest.raises(DataError, match=r"csv:2: .*does not say its frame rate.*--upgrade"):
        opened(tmp_path / "jpg", tmp_path, "run,old,0,5,train")


@pytest.mark.parametrize("fps", [None, 4.0])
@pytest.mark.parametrize("training", [True, False])
def test_clips_stay_inside_their_segment(jpg, tmp_path, fps, training):
    rows = ["run,game1,2,5,train", "jump,game1,5.2,9.5,train", "run,game2,0,0.3,train"]
    videos = opened(jpg, tmp_path, *rows)
    clips = ClipDataset(videos, replace(PLAIN, fps=fps), training=training, seed=0)
    seen: list[set[float]] = [set() for _ in rows]
    for index, epoch in np.ndindex(3, 12):
        clip = clips[ClipRequest(index, epoch, 6, 32)].clip.float()
        seconds = clip.mean(dim=(0, 2, 3)) / 20
        start, end = videos.times[index]
        assert seconds.min() > start - 0.08 and seconds.max() < end + 0.08
        seen[index] |= {round(value, 1) for value in seconds.tolist()}
    if training:  # the whole segment is used, if it is longer than a clip
        assert min(seen[0]) <= 2.1 and max(seen[0]) >= 4.8


@given(
    st.lists(st.floats(0.001, 0.5), min_size=2, max_size=60),
    st.floats(0, 10),
    st.floats(0.01, 5),
)
def test_frames_of_a_segment_are_those_shown_in_it(steps, start, length):
    times = np.cumsum([0, *steps])

    frames = segment_frames(times, start, start + length)
    tolerance = 0.011 * times[-1] / len(times)
    assert 0 <= frames.start < frames.stop <= len(times)
    assert times[frames.start] <= start + tolerance
    if frames.start + 1 < len(times):
        assert times[frames.start + 1] > start - tolerance
    if len(frames) > 1:
        assert times[frames.stop - 1] < start + length
    if frames.stop < len(times):
        assert times[frames.stop] >= start + length - tolerance


def test_a_varying_rate(tmp_path):
    times = np.concatenate([np.arange(20) / 10, 2 + np.arange(10) / 2])  # 10 fps, then 2 fps
    write_video(tmp_path / "jpg" / "v", times)
    with FrameStore(tmp_path / "jpg" / "v") as store:
        assert store.has_varying_rate
        assert segment_frames(store.times(), 0.5, 1.5) == range(5, 15)
        assert segment_frames(store.times(), 3, 5) == range(22, 26)
        assert segment_frames(store.times(), 3.2, 3.4) == range(22, 23)
    videos = opened(tmp_path / "jpg", tmp_path, "a,v,2,6.5,train", "b,v,0,2,train")
    clips = ClipDataset(videos, replace(PLAIN, fps=2.0), training=False, seed=0)
    seconds = clips[ClipRequest(1, 0, 8, 32)].clip.float().mean(dim=(0, 2, 3)) / 20
    assert seconds.max() < 2.05


def test_the_same_segment_twice_is_a_repeat_and_another_one_is_not(jpg, tmp_path, caplog):
    warn_of_repeats(opened(jpg, tmp_path, "a,game1,2,5,train", "b,game1,5,9,train"))
    assert "rows" not in caplog.text.replace("rows are segments", "")
    opened(jpg, tmp_path, "a,game1,2,5,train", "a,game1,2,5,train", "b,game1,2,5,train")
    assert "1 rows give a video of an earlier row another class" in caplog.text
    assert "1 rows repeat an earlier row" in caplog.text
    train = opened(jpg, tmp_path, "a,game1,2,5,train", "b,game2,5,9,train")
    val = opened(jpg, tmp_path, "a,game1,6,9,train", "b,game1,5,9,train")
    warn_of_overlap(train, val)
    assert "1 videos are in training and in validation" in caplog.text
    other = opened(jpg, tmp_path, "a,game1,2,5,train", "b,game2,5,8,train")
    assert train.fingerprint() != other.fingerprint()


def test_own_videos_with_a_csv_of_segments(tmp_path, capsys):
    """All segments of a video are on one side, and the csvs that are written keep their times."""
    (tmp_path / "v").mkdir()
    for number in range(6):
        (tmp_path / "v" / f"game{number}.mp4").touch()
        write_video(tmp_path / "d" / "jpg" / f"game{number}")
    rows = [
        f"{label},game{number}.mp4,{start},{start + 2.5}"
        for number in range(6)
        for label, start in (("run", 1), ("jump", 4.5), ("run", 8))
    ]
    path = tmp_path / "v" / "segments.csv"
    path.write_text("\n".join(["label,video,time_start,time_end", *rows]))
    split = SplitOptions(fraction=0.33, seed=0, group=None)
    label_own_videos(tmp_path / "d", videos_in_tree(tmp_path / "v", []), [path], split)
    parts = {
        part: open_split(DATASETS["custom"], tmp_path / "d", part) for part in ("train", "val")
    }
    assert {part: len(videos) for part, videos in parts.items()} == {"train": 12, "val": 6}
    assert not set(parts["train"].folders) & set(parts["val"].folders)
    assert sorted(map(tuple, parts["val"].times.tolist())) == sorted(
        2 * [(1.0, 3.5), (4.5, 7.0), (8.0, 10.5)]
    )
    check.main([str(tmp_path / "d"), "--no-report"])  # segments are not repeats
    assert "repeat" not in capsys.readouterr().out
    table = load_labels(tmp_path / "d" / "labels" / "custom_val.csv")
    assert set(table.video_ids()) == set(parts["val"].folders)
