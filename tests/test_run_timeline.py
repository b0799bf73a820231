"""Timelines of long videos: `run.predict --every`, `run.recogniser`, and their files."""

import csv
import json
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from random_checkpoint import random_checkpoint

import run.predict
from data.clips.clip_dataset import ClipRequest
from data.data_error import DataError
from data.store import FrameStore, write_store
from data.store.ffmpeg import ffmpeg_executable
from data.synthetic import render, write_long_video, write_video
from run.exit_codes import command
from run.given_videos import clips_of_video
from run.mp4_writer import write_mp4
from run.predicting.prediction_files import FILES, segments_csv, segments_srt
from run.predicting.segments import (
    UNKNOWN,
    ClassScore,
    Segment,
    SegmentMerger,
    best_classes,
    interval_edges,
    smooth,
)
from run.predicting.timeline import ClipsInOrder, read_timeline
from run.predicting.timeline_picture import clock, colours_of
from run.prediction import folder_names
from run.recogniser import LONG, Recogniser

NAMES = ("a", "b", "c")
few = settings(max_examples=40, deadline=None)


@few
@given(st.floats(0.01, 5000), st.floats(0.01, 100))
def test_the_intervals_cover_the_video(duration, every):
    if duration / every > 20_000:
        return
    edges = interval_edges(duration, every)
    widths = np.diff(edges)
    assert edges[0] == 0 and edges[-1] == duration and (widths > 0).all()
    assert widths.max() <= every * 1.001
    assert (widths[:-1] >= every * 0.999).all()


@st.composite
def scores_over_time(draw):
    """(edges, scores): rising seconds, and probabilities between them."""
    widths = draw(st.lists(st.floats(0.01, 10), min_size=1, max_size=30))
    weights = draw(
        st.lists(
            st.lists(st.integers(0, 5), min_size=3, max_size=3).filter(any),
            min_size=len(widths),
            max_size=len(widths),
        )
    )
    scores = np.array(weights, float)
    edges = np.concatenate([[0.0], np.cumsum(widths)])
    return edges, scores / scores.sum(1, keepdims=True)


@few
@given(scores_over_time(), st.floats(0, 1), st.integers(1, 3))
def test_segments_cover_the_video_without_gaps_or_overlap(timeline, threshold, top):
    edges, scores = timeline
    merger = SegmentMerger(NAMES, threshold, top)
    for number in range(len(scores)):
        merger.add(edges[number], edges[number + 1], scores[number])
        assert merger.segments()[-1].end == edges[number + 1]
    found = merger.segments()
    assert found[0].start == 0 and found[-1].end == edges[-1]
    for one, following in pairwise(found):
        assert one.start < one.end == following.start and one.name != following.name
    covered = 0.0
    for segment in found:
        inside = (edges[:-1] >= segment.start) & (edges[1:] <= segment.end)
        for label, best in zip(scores[inside].argmax(1), scores[inside].max(1), strict=True):
            assert segment.name == (UNKNOWN if best < threshold else NAMES[label])
        widths = np.diff(edges)[inside]
        mean = (scores[inside] * widths[:, None]).sum(0) / widths.sum()
        assert segment.score == pytest.approx(mean.max()) == pytest.approx(segment.top[0].score)
        if segment.name != UNKNOWN:
            assert mean[NAMES.index(segment.name)] == pytest.approx(segment.score)
        assert len(segment.top) == top
        assert [score for _, score in segment.top] == sorted(
            (score for _, score in segment.top), reverse=True
        )
        covered += segment.end - segment.start
    assert covered == pytest.approx(edges[-1])
    assert threshold > 0 or UNKNOWN not in {segment.name for segment in found}


@few
@given(scores_over_time(), st.floats(0, 20))
def test_smoothing_keeps_probabilities_and_removes_spikes(timeline, intervals):
    _, scores = timeline
    smoothed = smooth(scores, intervals)
    np.testing.assert_allclose(smoothed.sum(1), 1)
    assert smoothed.min() >= scores.min() - 1e-9 and smoothed.max() <= scores.max() + 1e-9
    if not intervals:
        np.testing.assert_array_equal(smoothed, scores)
    one = np.tile([0.9, 0.1, 0.0], (15, 1))
    one[7] = [0.1, 0.9, 0.0]  # a single clip that differs from all around it
    share = 0.8 * np.exp(-np.array([0, 0.5, 2, 4.5])) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(smooth(one, 1)[7:11, 1], 0.1 + share, atol=2e-3)
    if intervals > 1:
        assert (smooth(one, intervals).argmax(1) == 0).all()


segment = st.builds(
    lambda start, length, name, score: Segment(start, start + length, name, score, ()),
    st.floats(0, 100_000), st.floats(0.001, 1000), st.text(min_size=1), st.floats(0, 1),
)  # fmt: skip


@few
@given(st.lists(segment, max_size=5))
def test_csv_and_subtitles_can_be_read_again(segments):
    rows = list(csv.DictReader(segments_csv(segments).splitlines(keepends=True)))
    times = r"(\d\d+):([0-5]\d):([0-5]\d),(\d{3})"
    blocks = re.findall(rf"^(\d+)\n{times} --> {times}\n(.*)\n\n", segments_srt(segments), re.M)
    assert len(blocks) == len(segments)
    for number, (one, block) in enumerate(zip(segments, blocks, strict=True), start=1):
        assert int(block[0]) == number and block[-1].endswith("%")
        for second, (h, m, s, ms) in ((one.start, block[1:5]), (one.end, block[5:9])):
            shown = int(h) * 3600 + int(m) * 60 + int(s) + int(ms) / 1000
            assert shown == pytest.approx(second, abs=0.00051)
    if all(one.name.isprintable() for one in segments):
        assert [row["class"] for row in rows] == [one.name for one in segments]
        assert [float(row["end"]) for row in rows] == pytest.approx(
            [one.end for one in segments], abs=0.00051
        )


@few
@given(st.lists(st.sampled_from(["x/a.mp4", "y/a.mp4", "a_2.mp4", "b", "predictions.json"])))
def test_every_video_has_a_folder_of_its_own(sources):
    names = folder_names(map(Path, sources))
    assert len({*names, "predictions.json"}) == len(sources) + 1


def test_clock_best_classes_and_colours():
    assert [clock(t) for t in (0, 9.96, 65, 119.99, 3725.5)] == [
        "0:00", "0:10", "1:05", "2:00", "62:05.5",
    ]  # fmt: skip
    assert best_classes(np.array([0.2, 0.5, 0.3]), NAMES, 2) == (
        ClassScore("b", 0.5), ClassScore("c", 0.3),
    )  # fmt: skip
    many = [Segment(i, i + 1 + i / 100, f"c{i}", 1.0, ()) for i in range(14)]
    colours = colours_of([*many, Segment(99, 999, UNKNOWN, 0.1, ())])
    assert next(iter(colours)) == "c13"
    assert len(set(colours.values())) == 12  # 10, others, unknown


@pytest.fixture(scope="module")
def checkpoint(tiny, tmp_path_factory) -> Path:
    """A small network with random weights; its clips are 4 frames at an interval of 2."""
    folder = tmp_path_factory.mktemp("timeline")
    return random_checkpoint(tiny, folder, network="ir_csn_50", clip_length=4, clip_size=32)


@pytest.fixture(scope="module")
def long_video(tmp_path_factory) -> Path:
    """A video file of two actions, about 6 seconds."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    parts = write_long_video(path, ["grow", "darken"], seed=3, seconds=3)
    assert [action for *_, action in parts] == ["grow", "darken"]
    assert all(one[1] == two[0] for one, two in pairwise(parts))
    return path


@pytest.fixture(scope="module")
def long_store(long_video, tmp_path_factory) -> Path:
    """The same as a frame store."""
    video, frames = cv2.VideoCapture(str(long_video)), []
    while (answer := video.read())[0]:
        frames.append(simplejpeg.encode_jpeg(answer[1][..., ::-1].copy()))
    folder = tmp_path_factory.mktemp("store") / "long"
    write_store(folder, "long", frames, times=np.arange(len(frames)) / 12)
    return folder


def predict(checkpoint: Path, *words: object) -> int:
    options = ["--checkpoint", str(checkpoint), "--gpus", "0", *map(str, words)]
    return command(lambda: run.predict.main(options))


def test_a_long_video_gets_a_timeline_and_its_files(checkpoint, long_video, tmp_path, capsys):
    assert predict(checkpoint, long_video, "--every", "0.7", "--out", tmp_path) == 0
    said = capsys.readouterr().out.splitlines()
    folder = tmp_path / "long"
    assert {path.name for path in tmp_path.iterdir()} == {"predictions.json", "long"}
    assert {path.name for path in folder.iterdir()} == {*FILES}
    facts = json.loads((tmp_path / "predictions.json").read_text())
    assert (facts["format"], facts["version"]) == ("predictions", 1)
    (row,) = facts["videos"]
    assert row["video"] == str(long_video) and row["fps"] == 12
    segments = row["segments"]
    assert segments[0]["start"] == 0 and segments[-1]["end"] == row["duration"] > 4
    assert all(one["end"] == two["start"] for one, two in pairwise(segments))
    for scores in [row["top"], *(one["top"] for one in segments)]:
        assert sum(one["score"] for one in scores) == pytest.approx(1, abs=1e-4)
        assert {one["class"] for one in scores} == {"darken", "grow", "move_left"}
    assert len(said) == 1 + len(segments) and said[0].startswith(f"{long_video}: ")
    with (folder / "segments.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [one["class"] for one in rows] == [one["class"] for one in segments]
    assert [float(one["end"]) for one in rows] == [one["end"] for one in segments]
    assert (folder / "segments.srt").read_text().count(" --> ") == len(segments)
    with (folder / "scores.csv").open(newline="") as file:
        scores = list(csv.DictReader(file))
    assert len(scores) == np.ceil(row["duration"] / 0.7)
    assert float(scores[-1]["end"]) == row["duration"]  # the tail is there
    mean = np.mean([float(one["grow"]) for one in scores])
    assert {one["class"]: one["score"] for one in row["top"]}["grow"] == pytest.approx(
        mean, abs=0.1
    )
    with Image.open(folder / "timeline.png") as picture:
        assert picture.width > 1000 and np.asarray(picture.convert("L")).std() > 20
    film = cv2.VideoCapture(str(folder / "annotated.mp4"))
    source = cv2.VideoCapture(str(long_video))
    for what in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS):
        assert film.get(what) == source.get(what)
    # written again without the film, the earlier one does not stay
    words = (long_video, "--every", "2", "--film", "False", "--out", tmp_path)
    assert predict(checkpoint, *words) == 0
    assert {path.name for path in folder.iterdir()} == {*FILES} - {"annotated.mp4"}


def test_a_short_video_gets_one_answer_and_every_0_is_none(checkpoint, long_video, tmp_path):
    assert predict(checkpoint, long_video, "--out", tmp_path / "a") == 0
    (row,) = json.loads((tmp_path / "a" / "predictions.json").read_text())["videos"]
    assert row["segments"] == [] and row["duration"] < LONG and len(row["top"]) == 3
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["predictions.json"]
    assert Recogniser(checkpoint, gpus=0, every=0).predict(long_video).segments == ()


@pytest.fixture(scope="module")
def recogniser(checkpoint) -> Recogniser:
    return Recogniser(checkpoint, gpus=0, every=0.5, threshold=0.0)


def test_the_clips_are_those_of_validation_and_each_frame_is_decoded_once(
    recogniser, long_store, monkeypatch
):
    decoded: list[int] = []
    most = 0
    read = FrameStore.read_at_least

    def noted(store, indices, short_side):
        nonlocal most
        decoded.extend(indices)
        most = max(most, len(indices))
        return read(store, indices, short_side)

    clips = clips_of_video(recogniser.trained, long_store, recogniser.config)
    n_frames = FrameStore(long_store).n_frames
    monkeypatch.setattr(FrameStore, "read_at_least", noted)
    edges = interval_edges(n_frames / 12, 0.5)
    in_order = ClipsInOrder(clips, recogniser.config, edges)
    batches = list(in_order)
    assert len(batches) == len(in_order)
    assert len(decoded) == len(set(decoded)) and most <= recogniser.config.clip_length
    found = torch.cat([batch.clips for batch in batches])
    assert len(found) == len(edges) - 1
    numbers = list(in_order.frame_numbers())
    assert numbers[0][0] == 0 and numbers[-1][-1] == n_frames - 1  # start and tail
    monkeypatch.undo()
    for view, views, place in ((0, 2, 0), (1, 2, -1)):
        whole = clips[ClipRequest(0, 0, 4, 32, view=view, views=views)].clip
        assert torch.equal(found[place], whole)
    middles = (edges[:-1] + edges[1:]) / 2
    inner = slice(3, -3)
    centres = [(one[0] + one[-1]) / 2 / 12 for one in numbers[inner]]
    np.testing.assert_allclose(centres, middles[inner], atol=1 / 12 + 1e-6)


def test_frame_store_and_varying_rate(recogniser, long_store, tmp_path):
    """Frames that are shown for unequal times have the same places in time."""
    whole = recogniser.predict(long_store)
    jpegs = FrameStore(long_store).jpegs(range(FrameStore(long_store).n_frames))
    kept = [number for number in range(len(jpegs)) if number % 5 or number == len(jpegs) - 1]
    write_store(tmp_path / "some", "some", [jpegs[i] for i in kept], times=[i / 12 for i in kept])
    some = recogniser.predict(tmp_path / "some", tmp_path / "out")
    assert FrameStore(tmp_path / "some").has_varying_rate
    assert some.duration == pytest.approx(whole.duration, rel=0.03)
    assert len(some.timeline.scores) == pytest.approx(len(whole.timeline.scores), abs=1)
    film = cv2.VideoCapture(str(tmp_path / "out" / "annotated.mp4"))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) / film.get(cv2.CAP_PROP_FPS) == pytest.approx(
        some.duration, abs=0.2
    )


def test_a_video_that_is_shorter_than_a_clip(recogniser, tmp_path):
    write_video(tmp_path / "short.mp4", render("grow", 0)[:5])
    found = recogniser.predict(tmp_path / "short.mp4", tmp_path / "out")
    assert found.segments[-1].end == found.duration == pytest.approx(5 / 12, abs=0.001)
    assert len(found.timeline.scores) == 1


def test_a_timeline_needs_the_frame_rate(recogniser, tiny, tmp_path):
    with pytest.raises(DataError, match="does not say its frame rate"):
        recogniser.predict(tiny / "jpg" / "grow" / "val0", tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.iterdir())


def test_bad_videos_do_not_stop_the_others_and_leave_nothing(
    checkpoint, long_video, tmp_path, capsys
):
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(long_video.read_bytes()[: long_video.stat().st_size // 2])
    out = tmp_path / "out"
    words = ("--every", "1", "--out", out, "--film", "False", "--json", tmp_path / "also.json")
    assert predict(checkpoint, cut, tmp_path / "none.mp4", long_video, *words) == 2
    rows = json.loads((out / "predictions.json").read_text())["videos"]
    assert ["error" in row for row in rows] == [True, True, False]
    assert "cut.mp4" in rows[0]["error"] and "none.mp4" in rows[1]["error"]
    assert {path.name for path in out.iterdir()} == {"predictions.json", "long"}
    assert (tmp_path / "also.json").read_text() == (out / "predictions.json").read_text()
    said = capsys.readouterr().err
    assert "error: 2 of 3 videos failed" in said and "Traceback" not in said
    (tmp_path / "file").write_text("")
    assert predict(checkpoint, long_video, "--out", tmp_path / "file") == 2
    assert predict(checkpoint, long_video, "--json", tmp_path / "no" / "x.json") == 2
    assert capsys.readouterr().err.count("error: ") == 2
    assert (tmp_path / "file").read_text() == ""


def test_an_interrupted_command_keeps_the_answers_so_far(
    checkpoint, long_video, tmp_path, monkeypatch
):
    for name in ("one.mp4", "two.mp4", "three.mp4"):
        shutil.copy(long_video, tmp_path / name)
    plain = Recogniser.predict

    def interrupted(self, video, out=None, **how):
        if video.name == "two.mp4":
            raise KeyboardInterrupt
        return plain(self, video, out, **how)

    monkeypatch.setattr(Recogniser, "predict", interrupted)
    videos = [tmp_path / name for name in ("one.mp4", "two.mp4", "three.mp4")]
    assert predict(checkpoint, *videos, "--json", tmp_path / "x.json") == 130
    rows = json.loads((tmp_path / "x.json").read_text())["videos"]
    assert [Path(row["video"]).name for row in rows] == ["one.mp4"]


def test_scores_follow_what_the_network_says(recogniser, tmp_path):
    """A network that names the class by the brightness of a clip: dark parts are found."""
    frames = [np.full((40, 40, 3), 200 if 60 <= t < 120 else 20, np.uint8) for t in range(180)]
    write_store(
        tmp_path / "light", "light", map(simplejpeg.encode_jpeg, frames),
        times=np.arange(180) / 12,
    )  # fmt: skip

    class Bright(torch.nn.Module):
        def forward(self, clips):
            mean = clips.mean((1, 2, 3, 4))
            return torch.stack([20 * mean, -20 * mean, torch.full_like(mean, -30)], 1)

    net = Bright().eval()
    net.input_profile = recogniser.trained.net.input_profile
    trained = type(recogniser.trained)(net, recogniser.trained.config, NAMES)
    clips = clips_of_video(trained, tmp_path / "light", recogniser.config)
    found = read_timeline(
        trained, clips, recogniser.config, recogniser.devices, every=0.5, smoothing=0.5, title=""
    )
    labels = found.scores.argmax(1)
    assert found.edges[-1] == 15 and len(labels) == 30
    assert labels.tolist() == [1] * 10 + [0] * 10 + [1] * 10
    assert found.mean.sum() == pytest.approx(1) and found.at(7.4) == 14 and found.at(99) == 29


def test_a_film_that_ffmpeg_cannot_write(tmp_path):
    frames = [np.zeros((32, 32, 3), np.uint8)] * 3
    with pytest.raises(DataError, match=r"a\.mp4: ffmpeg cannot write it"):
        write_mp4(tmp_path / "none" / "a.mp4", frames, 5)


def test_the_three_lines_of_the_page_on_predictions_run(
    checkpoint, long_video, tmp_path, monkeypatch
):
    shutil.copy(checkpoint, tmp_path / "best.pth")
    shutil.copy(long_video, tmp_path / "clip.mp4")
    page = Path(__file__).parent.parent / "docs" / "predict.md"
    (code,) = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code, names)
    assert len(names["prediction"].top) == 3


MEASURED = """
import resource, sys
from run import predict
predict.main(sys.argv[1:])
print("MiB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_of_the_video(checkpoint, tmp_path):
    """All frames of the longer video together would be 288 MB."""
    peaks = []
    for seconds in (5, 50):
        video = tmp_path / f"{seconds}.mp4"
        test_picture = f"testsrc2=duration={seconds}:size=320x240:rate=25"
        words = [ffmpeg_executable(), "-v", "error", "-f", "lavfi", "-i", test_picture, video]
        subprocess.run(words, check=True)
        options = ["--checkpoint", checkpoint, "--gpus", "0", "--every", "4", "--out", tmp_path]
        said = subprocess.run(
            [sys.executable, "-c", MEASURED, video, *options],
            capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent,
        ).stdout  # fmt: skip
        peaks.append(int(said.rpartition("MiB ")[2]))
    assert peaks[1] - peaks[0] < 60, peaks
