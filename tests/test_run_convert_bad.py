"""The converter where folders hold other things than videos, and where ffmpeg hangs."""

import csv
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest
import simplejpeg
from test_data_frames import write_legacy

from data.data_error import DataError
from data.store import FrameStore, verify_store, write_store
from data.store.ffmpeg import Stopped, extract_jpegs
from data.store.unfinished_folders import sweep_unfinished
from data.synthetic import render, write_video
from run.convert import find_videos_to_convert, main
from run.exit_codes import command


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "good.mp4"
    write_video(path, render("grow", 0))
    return path


@pytest.fixture
def videos(clip, tmp_path) -> Path:
    """A folder with the class `grow` of one video."""
    (tmp_path / "videos" / "grow").mkdir(parents=True)
    (tmp_path / "videos" / "grow" / "good.mp4").symlink_to(clip)
    return tmp_path / "videos"


def convert(videos: Path, root: Path, *options: str) -> int:
    return command(lambda: main(["--videos", str(videos), "--dataset", str(root), *options]))


def listed(root: Path) -> dict[str, str]:
    """broken.csv: name -> reason."""
    with (root / "broken.csv").open(errors="surrogateescape", newline="") as file:
        return {Path(row["video"]).name: row["reason"] for row in csv.DictReader(file)}


def test_a_name_that_is_not_utf8_is_converted(clip, videos, tmp_path):
    name = os.fsdecode(b"b\xff%d\xfe")
    shutil.copy(clip, videos / "grow" / f"{name}.mp4")
    (videos / "grow" / os.fsdecode(b"cut\xff.mp4")).write_bytes(clip.read_bytes()[:2000])
    with pytest.raises(SystemExit) as left:
        convert(videos, tmp_path / "d")
    assert left.value.code == 2
    assert list(listed(tmp_path / "d")) == [os.fsdecode(b"cut\xff.mp4")]
    with FrameStore(tmp_path / "d" / "jpg" / "grow" / name) as store:
        good = tmp_path / "d" / "jpg" / "grow" / "good"
        with FrameStore(good) as other:
            assert np.array_equal(store.read([3]), other.read([3]))
    assert verify_store(tmp_path / "d" / "jpg" / "grow" / name)


PLAYLISTS = {
    "concat.mp4": "ffconcat version 1.0\nfile '.secret.avi'\n",
    "hls.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n.secret.ts\n#EXT-X-ENDLIST\n",
    "sdp.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    "dash.mp4": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period/></MPD>',
    "text.mp4": "no video at all\n" * 50,
}


@pytest.mark.fault
@pytest.mark.timeout(120)
def test_what_is_no_video_is_one_line_and_the_rest_goes_on(
    clip, videos, tmp_path, trials, capsys, monkeypatch
):
    trial = trials("run.convert refuses what is not a video and does the rest", "13 kinds of files")
    folder = videos / "grow"
    os.mkfifo(folder / "fifo.mp4")
    monkeypatch.chdir(folder)  # a socket's name must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.mp4")
        (folder / "device.mp4").symlink_to("/dev/zero")
        (folder / "dangling.mp4").symlink_to(folder / "gone")
        (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
        (folder / "folder.mp4").mkdir()
        (folder / "empty.mp4").touch()
        shutil.copy(clip, folder / "twin.mp4")
        shutil.copy(clip, folder / "twin.mkv")
        for name in (".secret.avi", ".secret.ts"):
            shutil.copy(clip, folder / name)
        for name, content in PLAYLISTS.items():
            (folder / name).write_text(content)
        with pytest.raises(SystemExit) as left:
            convert(videos, tmp_path / "d")
    said = capsys.readouterr().err
    assert left.value.code == 2 and "Traceback" not in said
    assert [path.name for path in (tmp_path / "d" / "jpg" / "grow").iterdir()] == ["good"]
    reasons = listed(tmp_path / "d")
    wanted = {
        "fifo.mp4": "is a FIFO",
        "socket.mp4": "is a socket",
        "device.mp4": "is a device",
        "dangling.mp4": "No such file",
        "loop.mp4": "symbolic links",
        "empty.mp4": "no frame can be decoded",
        "twin.mkv": f"twin.mkv and {folder}/twin.mp4 would both become",
        **dict.fromkeys(("concat.mp4", "sdp.mp4"), "is a playlist, a picture"),
        # of these, newer ffmpegs look at the name too
        **dict.fromkeys(("hls.mp4", "dash.mp4", "text.mp4"), ""),
    }
    assert reasons.keys() == wanted.keys()
    for name, reason in wanted.items():
        lines = [line for line in said.splitlines() if f"/{name}" in line and "ERROR" in line]
        trial.add(reason in reasons[name] and len(lines) == 1, f"{name}: {reasons[name]}")
    trial.add("folder.mp4" not in said, "folder.mp4")


def test_a_class_folder_that_cannot_be_read_is_an_error(clip):
    with tempfile.TemporaryDirectory() as folder:
        videos = Path(folder)
        for name in ("closed", "open"):
            (videos / name).mkdir()
            shutil.copy(clip, videos / name / "a.mp4")
        videos.chmod(0o755)
        (videos / "closed").chmod(0)
        mine = os.geteuid()
        if mine == 0:  # who may read everything
            os.seteuid(65534)
        try:
            tasks, broken = find_videos_to_convert(videos, Path("jpg"))
        finally:
            os.seteuid(mine)
            (videos / "closed").chmod(0o700)
    assert [str(task.folder) for task in tasks] == ["jpg/open/a"]
    reason = f"{videos / 'closed'}: cannot be read (Permission denied)"
    assert broken == [(videos / "closed", reason)]


def test_a_video_that_would_become_a_class_folder(tmp_path):
    (tmp_path / "x").mkdir()
    for name in ("x.mp4", "x/a.mp4"):
        (tmp_path / name).touch()
    tasks, broken = find_videos_to_convert(tmp_path, Path("jpg"))
    assert [str(task.folder) for task in tasks] == ["jpg/x/a"]
    reason = f"{tmp_path}/x.mp4: would become jpg/x, the folder of a class"
    assert broken == [(tmp_path / "x.mp4", reason)]


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """A video whose JPEGs do not fit into a pipe."""
    path = tmp_path_factory.mktemp("large") / "large.mp4"
    write_video(path, np.random.default_rng(0).integers(0, 256, (60, 240, 320, 3), np.uint8))
    return path


def stopped_ffmpeg(frames) -> psutil.Process:
    """Take the first frame, and stop the ffmpeg that makes the others."""
    before = set(psutil.Process().children())
    next(frames)
    (ffmpeg,) = set(psutil.Process().children()) - before
    ffmpeg.suspend()
    return ffmpeg


def test_an_ffmpeg_that_hangs_is_given_up(large):
    frames = extract_jpegs(large, short_side=240, patience=0.5)
    ffmpeg = stopped_ffmpeg(frames)
    with pytest.raises(DataError, match=r"large\.mp4: ffmpeg has given no frame for 0\.5 s, after"):
        list(frames)
    assert not ffmpeg.is_running()


def test_a_signal_is_seen_while_ffmpeg_hangs(large):
    stop = threading.Event()
    frames = extract_jpegs(large, short_side=240, stop=stop)
    ffmpeg = stopped_ffmpeg(frames)
    threading.Timer(0.3, stop.set).start()
    with pytest.raises(Stopped):
        list(frames)
    assert not ffmpeg.is_running()


def killed_while_it_writes(folder: Path) -> None:
    """Have a process start a store in `folder`, and kill it."""
    context = multiprocessing.get_context("fork")
    begun = context.Event()

    def write() -> None:
        def jpegs():
            yield simplejpeg.encode_jpeg(np.zeros((32, 32, 3), np.uint8))
            begun.set()
            signal.pause()

        write_store(folder, folder.name, jpegs())

    process = context.Process(target=write)
    process.start()
    assert begun.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def test_what_a_killed_conversion_left_is_swept_at_once(videos, tmp_path):
    folder = tmp_path / "d" / "jpg" / "grow"
    killed_while_it_writes(folder / "other")
    assert len(list(folder.glob(".part-*"))) == 1
    convert(videos, tmp_path / "d")
    assert [path.name for path in folder.iterdir()] == ["good"]
    killed_while_it_writes(folder / "other")
    convert(videos, tmp_path / "d")  # where everything is finished
    assert [path.name for path in folder.iterdir()] == ["good"]


def test_what_a_killed_upgrade_left_is_swept_at_once(tmp_path):
    folder = tmp_path / "jpg" / "grow"
    write_legacy(folder / "v", [simplejpeg.encode_jpeg(np.zeros((32, 32, 3), np.uint8))])
    killed_while_it_writes(folder / "v")
    assert len(list(folder.iterdir())) == 2
    assert command(lambda: main(["--dataset", str(tmp_path), "--upgrade"])) == 0
    assert [path.name for path in folder.iterdir()] == ["v"]


def test_what_is_being_written_is_not_swept(tmp_path):
    def jpegs():
        for _ in range(3):
            yield simplejpeg.encode_jpeg(np.zeros((32, 32, 3), np.uint8))
            sweep_unfinished(tmp_path)  # as another conversion does beside this one

    assert write_store(tmp_path / "v", "v", jpegs()) == 3
    assert verify_store(tmp_path / "v") == 3
    assert [path.name for path in tmp_path.iterdir()] == ["v"]
