"""`python -m run.download`: yt-dlp itself against a web server of this process."""

import csv
import os
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import pytest

from data.store.ffmpeg import ffmpeg_executable
from run.download import _scratch, main
from run.exit_codes import command

pytest.importorskip("yt_dlp")
ROOT = Path(__file__).parent.parent
SECONDS, RATE = 6, 10


class Site:
    """A web server of a folder that remembers which files were asked for."""

    def __init__(self, folder: Path):
        self.asked: list[str] = []
        site = self

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self):
                site.asked.append(self.path)
                super().do_GET()

            def log_message(self, *words):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}/{{}}.mp4"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    for name in ("one", "-two"):
        # Each frame's grey level tells its second.
        source = f"color=black:size=64x48:rate={RATE}:duration={SECONDS}"
        shape = ["-vf", "geq=lum='40*floor(T)+16':cb=128:cr=128", "-movflags", "faststart"]
        command = [ffmpeg_executable(), "-v", "error", "-f", "lavfi", "-i", source, *shape]
        codec = ["-c:v", "libx264", "-pix_fmt", "yuv420p"]
        subprocess.run([*command, *codec, f"file:{folder / name}.mp4"], check=True)
    (folder / "broken.mp4").write_bytes(b"<html>sorry</html>")
    site = Site(folder)
    items = "".join(
        f"<item><title>t</title><link>{site.address.format(name)}</link></item>"
        for name in ("one", "-two")
    )
    (folder / "feed.xml").write_text(f"<rss><channel><title>x</title>{items}</channel></rss>")
    yield site
    site.server.shutdown()
    site.server.server_close()


def download(site: Site, rows, folder: Path, *options: str) -> subprocess.CompletedProcess:
    labels = folder.parent / "labels.csv"
    with labels.open("w", newline="") as file:
        header = ("label", "youtube_id", "time_start", "time_end", "split")
        csv.writer(file).writerows([header, *rows])
    site.asked.clear()
    words = [sys.executable, "-m", "run.download", str(labels), str(folder)]
    options = ("--address", site.address, *options)
    environment = {**os.environ, "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
    return subprocess.run(
        [*words, *options], capture_output=True, text=True, cwd=ROOT, env=environment
    )


def levels(path: Path) -> list[float]:
    """The grey level of each frame."""
    capture, found = cv2.VideoCapture(str(path)), []
    while capture.grab():
        found.append(float(capture.retrieve()[1].mean()))
    return found


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_whole_videos_and_parts(site, tmp_path):
    rows = [
        ("jump", "one", "", "", "train"),
        ("run / walk", "-two", "2", "4", "val"),
    ]
    done = download(site, rows, tmp_path / "videos")
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "videos") == ["jump/one.mp4", "run _ walk/-two_000002_000004.mp4"]
    whole = levels(tmp_path / "videos" / "jump" / "one.mp4")
    part = levels(tmp_path / "videos" / "run _ walk" / "-two_000002_000004.mp4")
    assert len(whole) == SECONDS * RATE
    assert abs(len(part) - 2 * RATE) <= 1
    assert abs(part[2] - whole[2 * RATE + 2]) < 4 and abs(part[-3] - whole[4 * RATE - 3]) < 4


def test_what_cannot_be_had_is_listed_and_tried_again(site, tmp_path):
    videos = tmp_path / "videos"
    rows = [
        ("jump", "gone", "", "", "train"),
        ("jump", "one", "", "", "train"),
        ("jump", "broken", "1", "2", "train"),
    ]
    done = download(site, rows, videos)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    with (videos / "not_downloaded.csv").open() as file:
        failed = {Path(row["video"]).name: row["reason"] for row in csv.DictReader(file)}
    assert set(failed) == {"gone", "broken_000001_000002"}
    assert "404" in failed["gone"] and "\n" not in failed["gone"]
    assert files(videos) == ["jump/one.mp4", "not_downloaded.csv"]
    done = download(site, rows, videos)
    assert done.returncode == 2
    assert "/gone.mp4" in site.asked and "/one.mp4" not in site.asked
    done = download(site, rows[1:2], videos)
    assert done.returncode == 0 and not site.asked
    assert files(videos) == ["jump/one.mp4"]


def test_half_a_download_is_not_taken_for_a_whole_one(site, tmp_path):
    folder = tmp_path / "videos" / "jump"
    scratch = _scratch(tmp_path / "videos", folder / "one")
    scratch.mkdir(parents=True)
    (scratch / "video.mp4.part").write_bytes(b"half")
    done = download(site, [("jump", "one", "", "", "train")], tmp_path / "videos")
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "videos") == ["jump/one.mp4"]
    assert len(levels(folder / "one.mp4")) == SECONDS * RATE


def test_an_address_without_a_place_for_the_id(tmp_path, capsys):
    words = [str(tmp_path / "labels.csv"), str(tmp_path), "--address", "http://127.0.0.1/"]
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith("error: --address 'http://127.0.0.1/'")


def fetch(monkeypatch, site: Site, labels: Path, folder: Path, address: str) -> int:
    """The command in this process: its exit code."""
    site.asked.clear()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    words = [str(labels), str(folder), "--address", address, "--workers", "1"]
    try:
        return command(lambda: main(words))
    except SystemExit as left:
        return left.code


def test_an_id_is_one_part_of_the_address(site, tmp_path, monkeypatch):
    labels = tmp_path / "labels.csv"
    ids = ["a&list=PL123", "a#b", "100%", "a b", "é"]
    labels.write_text("label,id\n" + "".join(f"jump,{name}\n" for name in ids))
    address = site.address.replace("{}.mp4", "watch?v={}")
    assert fetch(monkeypatch, site, labels, tmp_path / "videos", address) == 2
    quoted = ["a%26list%3DPL123", "a%23b", "100%25", "a%20b", "%C3%A9"]
    assert sorted(set(site.asked)) == sorted(f"/watch?v={name}" for name in quoted)


def test_a_playlist_is_no_video(site, tmp_path, monkeypatch):
    labels = tmp_path / "labels.csv"
    labels.write_text("label,id\njump,feed.xml\njump,one.mp4\n")
    address = site.address.replace("{}.mp4", "{}")
    videos = tmp_path / "videos"
    assert fetch(monkeypatch, site, labels, videos, address) == 2
    assert site.asked[0] == "/feed.xml" and "/one.mp4" in site.asked
    assert files(videos) == ["jump/one.mp4.mp4", "not_downloaded.csv"]
    assert "feed.xml,its address is not that of a single video" in (
        (videos / "not_downloaded.csv").read_text()
    )


@pytest.mark.fault
def test_no_label_or_id_leads_out_of_the_folder(site, tmp_path, trials, monkeypatch, capsys):
    trial = trials("run.download writes in its folder only", "labels and ids as paths, templates")
    monkeypatch.setenv("LEAVE", "../../../left")
    good = [("jump", "one"), ("a/../../b", "one"), ("$LEAVE", "one"), ("%(id)s", "one")]
    good += [("~", "one"), ("back\\slash", "one"), (os.fsdecode(b"latin-\xe9"), "one")]
    bad = [("..", "one"), (".", "one"), (".hidden", "one"), ("nul\0", "one"), ("é" * 130, "one")]
    bad += [("x", ".."), ("x", "../one"), ("x", "/one"), ("x", "nul\0"), ("x", "é" * 120)]
    here = tmp_path / "a" / "b" / "c"
    here.mkdir(parents=True)
    for number, (label, name) in enumerate([*good, *bad]):
        labels = here / "labels.csv"
        with labels.open("w", errors="surrogateescape", newline="") as file:
            csv.writer(file).writerows([("label", "id"), (label, name)])
        videos = here / str(number)
        code = fetch(monkeypatch, site, labels, videos, site.address)
        usable = number < len(good)
        wanted = f"{label.replace('/', '_')}/one.mp4" if usable else "not_downloaded.csv"
        held = files(videos) == [wanted] and code == (0 if usable else 2)
        held &= "Traceback" not in capsys.readouterr().err
        trial.add(held, f"{label!r}, {name!r}: {files(videos)}, exit code {code}")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    numbers = sorted(map(str, range(len(good) + len(bad))))
    assert sorted(path.name for path in here.iterdir()) == [*numbers, "labels.csv"]
