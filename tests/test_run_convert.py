"""The converter as users run it: real clips, broken ones, interruptions."""

import csv
import io
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_data_frames import write_legacy

from data.annotations.splits import open_split
from data.dataset_defaults import DATASETS
from data.store import FrameStore, verify_store
from data.store.ffmpeg import _split_stream, extract_jpegs
from data.synthetic import render, write_video
from run.convert import find_videos_to_convert, main
from run.labels import main as label_videos

ROOT = Path(__file__).parent.parent


def convert(*options: object) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", "run.convert", *map(str, options)]
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> Path:
    """A folder with two class folders of two videos."""
    folder = tmp_path_factory.mktemp("videos")
    for action in ("grow", "shrink"):
        (folder / action).mkdir()
        for number in range(2):
            write_video(folder / action / f"{action}-{number}.mp4", render(action, number))
    return folder


def contents(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_every_frame_in_order(rendered, tmp_path):
    main(["--videos", str(rendered), "--dataset", str(tmp_path)])
    for action in ("grow", "shrink"):
        for number in range(2):
            original = render(action, number)
            folder = tmp_path / "jpg" / action / f"{action}-{number}"
            assert verify_store(folder) == len(original)
            assert (folder / "n_frames").read_text().strip() == str(len(original))
            with FrameStore(folder) as store:
                frames = store.read(range(store.n_frames))
            assert frames.shape == original.shape  # 64 pixels stay 64
            # Each frame is nearest to itself, in colour: neither shifted nor BGR.
            difference = frames.astype(float) - original
            assert np.abs(difference).mean() < 8
            moved = np.abs(frames[1:].astype(float) - original[:-1]).mean()
            assert np.abs(difference).mean() < moved
    assert not (tmp_path / "broken.csv").exists()
    assert not list(tmp_path.rglob(".part-*"))


def test_finished_ones_are_skipped_and_half_ones_done(rendered, tmp_path):
    main(["--videos", str(rendered), "--dataset", str(tmp_path)])
    before = contents(tmp_path)
    main(["--videos", str(rendered), "--dataset", str(tmp_path)])
    assert contents(tmp_path) == before
    half = tmp_path / "jpg" / "grow" / "grow-1"
    (half / "n_frames").unlink()
    (tmp_path / "jpg" / "grow" / "grow-0" / "frames.db").write_bytes(b"")
    main(["--videos", str(rendered), "--dataset", str(tmp_path)])
    after = contents(tmp_path)
    assert {name: data for name, (_, data) in after.items()} == {
        name: data for name, (_, data) in before.items()
    }
    untouched = "jpg/shrink/shrink-0/frames.db"
    assert after[untouched] == before[untouched]


def test_sizes_quality_companion(rendered, tmp_path):
    video = rendered / "grow" / "grow-0.mp4"
    height, width = render("grow", 0).shape[1:3]
    small = list(extract_jpegs(video, short_side=32, quality=2))
    rough = list(extract_jpegs(video, short_side=32, quality=20))
    assert sum(map(len, rough)) < 0.7 * sum(map(len, small))
    image = cv2.imdecode(np.frombuffer(small[0], np.uint8), cv2.IMREAD_COLOR)
    assert min(image.shape[:2]) == 32
    assert max(image.shape[:2]) == round(max(height, width) * 32 / min(height, width))
    main(["--videos", str(rendered), "--dataset", str(tmp_path), "--companion", "32"])
    with FrameStore(tmp_path / "jpg" / "grow" / "grow-0") as store:
        assert store.companions == (32,)
        assert min(store.read_at_least([3], 30).shape[1:3]) == 32


def test_names_that_ffmpeg_could_mistake(rendered, tmp_path):
    videos = tmp_path / "videos"
    names = ["-i", "a:b", "100% [x] 'y' \"z\"", "frame_%05d", "ünï", "a.b"]
    for name in names:
        (videos / "odd class").mkdir(parents=True, exist_ok=True)
        shutil.copy(rendered / "grow" / "grow-0.mp4", videos / "odd class" / f"{name}.mp4")
    main(["--videos", str(videos), "--dataset", str(tmp_path / "d")])
    found = {path.name for path in (tmp_path / "d" / "jpg" / "odd class").iterdir()}
    assert found == set(names)


def test_a_broken_video_is_named_and_the_rest_goes_on(rendered, tmp_path):
    videos = tmp_path / "videos"
    shutil.copytree(rendered, videos)
    (videos / "grow" / "empty.mp4").write_bytes(b"")
    (videos / "grow" / "noise.avi").write_bytes(np.random.default_rng(0).bytes(5000))
    whole = (videos / "grow" / "grow-0.mp4").read_bytes()
    (videos / "grow" / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (videos / "grow" / "notes.txt").write_text("no video")
    done = convert("--videos", videos, "--dataset", tmp_path / "d")
    assert done.returncode == 2
    with (tmp_path / "d" / "broken.csv").open() as file:
        rows = list(csv.DictReader(file))
    broken = ["cut.mp4", "empty.mp4", "noise.avi"]
    assert [Path(row["video"]).name for row in rows] == broken
    for name in broken:
        assert sum(f"{name}: " in line for line in done.stderr.splitlines()) == 1
    assert sorted(path.name for path in (tmp_path / "d" / "jpg" / "grow").iterdir()) == [
        "grow-0",
        "grow-1",
    ]
    assert "Traceback" not in done.stderr
    for name in broken:
        (videos / "grow" / name).unlink()
    main(["--videos", str(videos), "--dataset", str(tmp_path / "d")])
    assert not (tmp_path / "d" / "broken.csv").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "no such folder"),
        (lambda folder: folder.mkdir(), "no videos in it"),
    ],
)
def test_nothing_to_convert(tmp_path, make, message):
    make(tmp_path / "videos")
    done = convert("--videos", tmp_path / "videos", "--dataset", tmp_path / "d")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert not (tmp_path / "d").exists()


def test_two_videos_of_one_name(tmp_path):
    for name in ("a.mp4", "a.avi", "b.mp4"):
        (tmp_path / "x").mkdir(exist_ok=True)
        (tmp_path / "x" / name).touch()
    tasks, ((path, reason),) = find_videos_to_convert(tmp_path, Path("jpg"))
    assert [str(task.folder) for task in tasks] == ["jpg/x/b"]
    assert path == tmp_path / "x" / "a.avi"
    assert reason.startswith(f"{path} and {tmp_path}/x/a.mp4 would both become jpg/x/a; ")


def test_classes_and_flat_videos(tmp_path):
    for name in ("x/a.mp4", "x/.hidden.mp4", "b.MKV", "x/deep/c.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    tasks, _ = find_videos_to_convert(tmp_path, Path("jpg"))
    assert [str(task.folder) for task in tasks] == ["jpg/b", "jpg/x/a"]


def test_train_and_val_above_the_class_folders(rendered, tmp_path):
    for part, number in (("train", 0), ("val", 1)):
        for action in ("grow", "shrink"):
            name = f"{action}-{number}.mp4"
            (tmp_path / "v" / part / action).mkdir(parents=True)
            shutil.copy(rendered / action / name, tmp_path / "v" / part / action / name)
    main(["--videos", str(tmp_path / "v"), "--dataset", str(tmp_path / "d")])
    label_videos(["folders", str(tmp_path / "v"), "--output", str(tmp_path / "d" / "labels")])
    for part, number in (("train", 0), ("val", 1)):
        videos = open_split(DATASETS["custom"], tmp_path / "d", part)
        wanted = [f"{action}/{action}-{number}" for action in ("grow", "shrink")]
        assert sorted(videos.folders.tolist()) == wanted


def test_names_that_no_csv_can_hold(tmp_path):
    names = [" a.mp4", "b .mp4", "c\nd.mp4", "e" * 240 + ".mp4", "f.mp4"]
    (tmp_path / "x").mkdir()
    for name in names:
        (tmp_path / "x" / name).touch()
    tasks, broken = find_videos_to_convert(tmp_path, Path("jpg"))
    assert [str(task.folder) for task in tasks] == ["jpg/x/f"]
    assert sorted(path.name for path, _ in broken) == sorted(names[:4])
    assert all("rename it" in reason for _, reason in broken)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_and_run_again(rendered, tmp_path, sent):
    videos, root = tmp_path / "videos", tmp_path / "d"
    (videos / "x").mkdir(parents=True)
    for number in range(150):
        (videos / "x" / f"{number:03d}.mp4").symlink_to(rendered / "grow" / "grow-0.mp4")
    words = [sys.executable, "-m", "run.convert", "--videos", videos, "--dataset", root]
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(list(root.glob("jpg/x/*/n_frames"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(sent)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 128 + sent, stderr
    assert "Traceback" not in stderr
    stores = list(root.glob("jpg/x/*"))
    assert 5 <= len(stores) < 150
    assert not list(root.rglob(".part-*"))
    for folder in stores:
        verify_store(folder)
    for path in sorted((videos / "x").iterdir())[20:]:
        path.unlink()
    main(["--videos", str(videos), "--dataset", str(root)])
    assert len(list(root.glob("jpg/x/*/n_frames"))) >= 20


def test_upgrade_keeps_every_byte(rendered, tmp_path):
    jpegs = list(extract_jpegs(rendered / "grow" / "grow-0.mp4", short_side=64))
    order = np.random.default_rng(0).permutation(len(jpegs))
    folder = write_legacy(tmp_path / "jpg" / "grow" / "v", jpegs, order=order)
    bad = write_legacy(tmp_path / "jpg" / "grow" / "w", [*jpegs[:3], b"no jpeg"])
    before = (bad / "frames.db").read_bytes()
    done = convert("--dataset", tmp_path, "--upgrade")
    assert done.returncode == 2 and f"{bad}/frames.db: frame_00004" in done.stderr
    assert (bad / "frames.db").read_bytes() == before
    with FrameStore(folder) as store:
        assert store.layout
        assert store.jpegs(range(store.n_frames)) == jpegs


def test_a_cut_off_part_is_no_frame():
    stream = b"--x\r\nContent-type: image/jpeg\r\nContent-length: 4\r\n\r\n\xff\xd8\n\n\r\n"
    stream += b"--x\r\nContent-type: image/jpeg\r\nContent-length: 9\r\n\r\n\xff\xd8"
    assert list(_split_stream(io.BytesIO(stream))) == [b"\xff\xd8\n\n"]


def test_real_videos(real_data, tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    names = (
        "decord_corrupted.mp4 decord_video_90.mov torchcodec_av1_video.mkv mmaction2_part_0.mp4 "
        "hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi v_SoccerJuggling_g23_c01.avi"
    )
    for name in names.split():
        (videos / name).symlink_to(real_data / "clips" / "misc" / name)
    done = convert("--videos", videos, "--dataset", tmp_path / "d")
    assert done.returncode == 2
    stores = {path.name: path for path in (tmp_path / "d" / "jpg").iterdir()}
    assert len(stores) == 5 and "decord_corrupted" not in stores
    for folder in stores.values():
        verify_store(folder)
    with FrameStore(stores["decord_video_90"]) as store:
        assert store.read([0]).shape == (1, 454, 256, 3)  # upright
    # OpenCV's count of the same file: no frame is dropped, none is doubled.
    capture = cv2.VideoCapture(str(videos / "v_SoccerJuggling_g23_c01.avi"))
    count = 0
    while capture.read()[0]:
        count += 1
    with FrameStore(stores["v_SoccerJuggling_g23_c01"]) as store:
        assert store.n_frames == count
    whole = (real_data / "clips" / "misc" / "v_SoccerJuggling_g23_c01.avi").read_bytes()
    (videos / "half.avi").write_bytes(
        whole[: len(whole) // 2]
    )  # an avi without its end still plays
    done = convert("--videos", videos, "--dataset", tmp_path / "d", "--keep-damaged")
    warned = [line for line in done.stderr.splitlines() if "WARNING" in line]
    assert any("half.avi: damaged, " in line for line in warned)
    assert not any("decord_video_90" in line or "SoccerJuggling" in line for line in warned)
    assert done.returncode == 0
    assert verify_store(tmp_path / "d" / "jpg" / "decord_corrupted") > 10
