"""`run.predict --live`: cameras and streams, of which a file read in real time is one.

No test depends on speed: a slow machine drops more frames, and all that is said must still be true.
"""

import csv
import functools
import http.server
import json
import signal
import socket
import subprocess
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_checkpoint import random_checkpoint

import run.predict
from data.store.ffmpeg import ffmpeg_executable
from data.synthetic import FRAMES_PER_SECOND, write_long_video
from run.exit_codes import command
from run.predicting.segments import blend
from run.predicting.stream_reader import (
    LARGEST_DRIFT,
    NewestFrames,
    StreamClock,
    StreamReader,
    shown_source,
)
from run.recogniser import Recogniser

few = settings(max_examples=40, deadline=None)


@few
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0, 5)), min_size=1, max_size=40))
def test_moments_rise_and_keep_up_with_the_clock(frames):
    """Whatever the time stamps are: missing, falling, far off."""
    clock, arrival, before = StreamClock(), 100.0, -1.0
    for number, (stamp, passed) in enumerate(frames):
        arrival += passed if number else 0
        moment = clock.moment(stamp, arrival)
        assert moment > before
        # a thousandth for each frame that came at the same time as the one before it
        assert abs(moment - (arrival - 100)) <= LARGEST_DRIFT + 1e-3 * len(frames) + 1e-6
        before = moment


def test_regular_time_stamps_are_kept_although_frames_arrive_irregularly():
    clock, rng = StreamClock(), np.random.default_rng(0)
    stamps = 7 + np.arange(50) / 25
    arrivals = 1000 + np.arange(50) / 25 + np.append(0, rng.uniform(0, 0.5, 49))
    moments = [clock.moment(*pair) for pair in zip(stamps, arrivals, strict=True)]
    np.testing.assert_allclose(moments, stamps - 7)
    # the stream begins again: the clock continues
    assert clock.moment(0.0, 1002.1) == pytest.approx(2.1)
    assert clock.moment(0.04, 1002.2) == pytest.approx(2.14)


@given(st.floats(0, 10), st.floats(0, 10))
@few
def test_blended_scores_are_probabilities(elapsed, smoothing):
    before, scores = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.1, 0.8])
    blended = blend(before, scores, elapsed, smoothing)
    assert blended.sum() == pytest.approx(1)
    assert (np.minimum(before, scores) - 1e-9 <= blended).all()
    assert (blended <= np.maximum(before, scores) + 1e-9).all()
    np.testing.assert_array_equal(blend(None, scores, elapsed, smoothing), scores)
    np.testing.assert_array_equal(blend(before, scores, elapsed, 0), scores)
    np.testing.assert_allclose(blend(before, scores, 0.5, 0.5)[0], 0.1 + 0.6 / np.e)


def filled(frames: NewestFrames, numbers: range, rate: float) -> NewestFrames:
    """Add frames whose pixels are their numbers, `rate` per second."""
    for number in numbers:
        frames.add(number / rate, 1000 + number / rate, np.full((1, 1, 1), number, np.uint8))
    return frames


def shown(frames: NewestFrames) -> list[int]:
    return frames.window().clip[:, 0, 0, 0].tolist()


def test_a_clip_is_the_newest_frames_at_its_own_rate():
    frames = filled(NewestFrames(4, fps=None, interval=3), range(8), 25)
    assert not frames.wait(0, 0)  # 8 frames, a clip reaches over 10
    filled(frames, range(8, 20), 25)
    assert frames.wait(0, 0) and not frames.wait(0.8, 0)
    assert shown(frames) == [10, 13, 16, 19]
    # 12.5 frames per second of a stream of 25, and of one of 30
    assert shown(filled(NewestFrames(4, fps=12.5, interval=9), range(20), 25)) == [13, 15, 17, 19]
    assert shown(filled(NewestFrames(3, fps=12.0, interval=9), range(20), 30)) == [14, 17, 19] or (
        shown(filled(NewestFrames(3, fps=12.0, interval=9), range(20), 30)) == [14, 16, 19]
    )


def test_frames_that_no_clip_could_reach_are_counted_as_dropped():
    frames = filled(NewestFrames(4, fps=None, interval=2), range(7), 25)  # a clip reaches over 7
    first = frames.window()
    assert (first.read, first.dropped, first.moment, first.arrived) == (7, 0, 6 / 25, 1000 + 6 / 25)
    assert frames.window() is None  # nothing new
    filled(frames, range(7, 10), 25)
    assert frames.window().dropped == 0  # clips overlap
    filled(frames, range(10, 40), 25)  # while the network computes
    late = frames.window()
    assert (late.read, late.dropped) == (40, 30 - 7)
    assert late.clip[:, 0, 0, 0].tolist() == [33, 35, 37, 39]
    by_time = filled(NewestFrames(4, fps=10.0, interval=1), range(100), 20)
    assert by_time.window().dropped == 100 - 7


@few
@given(st.lists(st.integers(1, 30), min_size=1, max_size=10), st.sampled_from([None, 5.0, 60.0]))
def test_every_frame_is_reached_by_a_clip_or_dropped(bursts, fps):
    frames, reached, at = NewestFrames(4, fps=fps, interval=2), set(), 0
    for burst in bursts:
        filled(frames, range(at, at + burst), 25)
        at += burst
        kept = {one.number for one in frames._frames}
        window = frames.window()
        reached |= kept
        assert window.read == at and window.dropped == at - len(reached)
        assert window.clip[-1, 0, 0, 0] == at - 1


def test_a_stream_that_is_shorter_than_a_clip_repeats_its_first_frame():
    frames = filled(NewestFrames(4, fps=None, interval=2), range(3), 25)
    frames.end()
    assert frames.wait(99, 0) and shown(frames) == [0, 0, 0, 2]
    empty = NewestFrames(4, fps=5.0, interval=2)
    empty.end()
    assert empty.wait(0, 0) and empty.window() is None


def test_addresses_are_shown_without_passwords():
    assert shown_source("rtsp://user:secret@camera:554/live?x=1") == "rtsp://camera:554/live?x=1"
    assert shown_source("clip.mp4") == "clip.mp4" and shown_source("0") == "0"


@pytest.fixture(scope="module")
def checkpoint(tiny, tmp_path_factory) -> Path:
    """A small network with random weights; its clips are 4 frames at an interval of 2."""
    folder = tmp_path_factory.mktemp("live")
    return random_checkpoint(tiny, folder, network="ir_csn_50", clip_length=4, clip_size=32)


@pytest.fixture(scope="module")
def stream(tmp_path_factory) -> tuple[Path, int]:
    """A video file of two seconds, and the number of its frames."""
    path = tmp_path_factory.mktemp("stream") / "stream.mp4"
    ((_, end, _),) = write_long_video(path, ["grow"], seed=1, seconds=2)
    return path, round(end * FRAMES_PER_SECOND)


def live(checkpoint: Path, *words: object) -> int:
    options = ["--checkpoint", str(checkpoint), "--gpus", "0", *map(str, words)]
    return command(lambda: run.predict.main(options))


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "live" / "answers.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def check_whole(out: Path, rows: list[dict[str, str]]) -> dict:
    """Check that the files at the end agree with the answers; return the json's video."""
    names = {path.name for path in (out / "live").iterdir()}
    assert names == {"answers.csv", "segments.csv", "segments.srt"}
    (video,) = json.loads((out / "predictions.json").read_text())["videos"]
    segments = video["segments"]
    assert segments[0]["start"] == 0
    assert segments[-1]["end"] == video["duration"] == float(rows[-1]["seconds"])
    assert all(one["end"] == two["start"] for one, two in pairwise(segments))
    return video


def test_a_file_is_a_stream_in_real_time(checkpoint, stream, tmp_path, capsys):
    path, n_frames = stream
    assert live(checkpoint, "--live", path, "--every", "0.4", "--out", tmp_path) == 0
    rows = rows_of(tmp_path)
    moments = [float(row["seconds"]) for row in rows]
    # the stream's own clock, whatever the network takes: frames 6 (the first whole clip) to the end
    numbers = [moment * FRAMES_PER_SECOND for moment in moments]
    np.testing.assert_allclose(numbers, np.round(numbers), atol=0.02)
    assert moments[0] >= 6 / FRAMES_PER_SECOND - 1e-3
    assert round(numbers[-1]) == n_frames - 1 and int(rows[-1]["read"]) == n_frames
    # all but the last are at least `every` apart
    assert all(two - one >= 0.4 - 1e-3 for one, two in pairwise(moments[:-1]))
    dropped = [int(row["dropped"]) for row in rows]
    assert dropped == sorted(dropped) and 0 <= dropped[-1] < n_frames
    assert all(float(row["latency"]) >= 0 for row in rows)
    video = check_whole(tmp_path, rows)
    assert video["video"] == str(path) and video["fps"] == pytest.approx(12, abs=0.01)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(rows) and all("s behind" in line for line in lines)


@pytest.fixture
def no_proxy(monkeypatch):
    """ffmpeg would ask a proxy for streams of this machine too."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


def test_a_network_stream(checkpoint, stream, tmp_path, capfd, no_proxy):
    path, n_frames = stream
    words = [ffmpeg_executable(), "-v", "error", "-i", path, "-c", "copy", tmp_path / "a.mkv"]
    subprocess.run(words, check=True)
    handler = functools.partial(Quiet, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"http://me:secret@127.0.0.1:{server.server_port}/a.mkv"
            assert live(checkpoint, "--live", address, "--out", tmp_path / "out") == 0
        finally:
            server.shutdown()
            thread.join()
    rows = rows_of(tmp_path / "out")
    assert int(rows[-1]["read"]) == n_frames
    video = check_whole(tmp_path / "out", rows)
    assert video["video"] == f"http://127.0.0.1:{server.server_port}/a.mkv"
    assert "secret" not in "".join(capfd.readouterr())


class Slow(torch.nn.Module):
    """A network that answers its first clip only after the stream has ended."""

    def __init__(self, net: torch.nn.Module):
        super().__init__()
        self.net, self.readers = net, []
        self.input_profile = net.input_profile

    def forward(self, clips):
        for reader in self.readers:
            reader.join(60)
        return self.net(clips)


def test_a_slow_network_drops_frames_never_time(checkpoint, stream, monkeypatch):
    path, n_frames = stream
    recogniser = Recogniser(checkpoint, gpus=0, every=0.1)
    slow = Slow(recogniser.trained.net)
    trained = type(recogniser.trained)(slow, recogniser.config, recogniser.trained.classes)
    monkeypatch.setattr(recogniser, "trained", trained)
    start = StreamReader.start

    def noted(reader):
        slow.readers.append(reader)
        start(reader)

    monkeypatch.setattr(StreamReader, "start", noted)
    answers = list(recogniser.watch(path))
    assert answers[-1].read == n_frames and len(answers) <= 2  # one if the machine was too busy
    for before, answer in zip([None, *answers], answers, strict=False):
        assert answer.start == (before.moment if before else 0)
        assert answer.moment == pytest.approx((answer.read - 1) / FRAMES_PER_SECOND, abs=1e-3)
        read, dropped = (before.read, before.dropped) if before else (0, 0)
        assert answer.dropped == dropped + max(0, answer.read - read - 7)  # a clip reaches over 7
        assert answer.latency > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_with_whole_files(checkpoint, stream, tmp_path, monkeypatch, number):
    plain = Recogniser.watch

    def interrupted(self, *arguments, **more):
        for answer in plain(self, *arguments, **more):
            signal.raise_signal(number)
            yield answer

    monkeypatch.setattr(Recogniser, "watch", interrupted)
    words = ("--live", stream[0], "--every", "0.05", "--out", tmp_path)
    with pytest.raises(SystemExit) as leaving:
        live(checkpoint, *words)
    assert leaving.value.code == 128 + number
    rows = rows_of(tmp_path)
    assert len(rows) == 1
    check_whole(tmp_path, rows)


def test_it_ends_after_the_seconds_that_were_given(checkpoint, stream, tmp_path):
    words = ("--seconds", "0.6", "--every", "0.05", "--json", tmp_path / "x.json")
    assert live(checkpoint, "--live", stream[0], *words) == 0
    (video,) = json.loads((tmp_path / "x.json").read_text())["videos"]
    assert video["duration"] >= 0.6
    assert {path.name for path in tmp_path.iterdir()} == {"x.json"}


def test_bad_sources_are_one_line_and_leave_nothing(checkpoint, stream, tmp_path, capfd, no_proxy):
    (tmp_path / "text.mp4").write_text("no video")
    with socket.socket() as unused:  # a port at which nobody answers
        unused.bind(("127.0.0.1", 0))
        closed = f"http://me:secret@127.0.0.1:{unused.getsockname()[1]}/x.mp4"
        wrong = {
            "camera 97: there is no such camera": ("--live", "97"),
            "text.mp4: is no video": ("--live", tmp_path / "text.mp4"),
            "none.mp4: cannot be read": ("--live", tmp_path / "none.mp4"),
            "/x.mp4: there is no stream": ("--live", closed),
            "give either videos or --live": (stream[0], "--live", "0"),
            "give either videos": (),
            "--seconds needs --live": (stream[0], "--seconds", "3"),
            "0: is no file; for a camera or network stream add --live": ("0",),
            "rtsp:/camera/live: is no file": ("rtsp://camera/live",),
        }
        for said, words in wrong.items():
            capfd.readouterr()
            try:
                code = live(checkpoint, *words, "--out", tmp_path / "out")
            except SystemExit as leaving:
                code = leaving.code
            lines = capfd.readouterr().err.splitlines()
            errors = [line for line in lines if line.startswith("error: ")]
            assert code == 2 and len(errors) == 1 and said in errors[0], (words, lines)
            assert "secret" not in "".join(lines)
            assert not list(tmp_path.glob("out/*"))
