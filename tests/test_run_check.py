"""`python -m run.check` names every bad store, and only those."""

import csv
import subprocess
import sys
from pathlib import Path

from test_data_frames import jpeg_of, write_legacy

from data.store import write_store

ROOT = Path(__file__).parent.parent


def check(root: Path) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", "run.check", str(root), "--no-report"]
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT)


def test_every_bad_store_is_named(tmp_path):
    jpegs = [jpeg_of(number) for number in range(12)]
    jpg = tmp_path / "jpg"
    for name in ("good", "flipped", "cut", "count", "gone"):
        write_store(jpg / "run" / name, name, jpegs)
    write_legacy(jpg / "jump" / "old", jpegs)
    write_store(jpg / "flat", "flat", jpegs)
    for name, change in (
        ("flipped", lambda data: data.replace(jpegs[4][-40:-20], bytes(20), 1)),
        ("cut", lambda data: data[:-4096]),
    ):
        path = jpg / "run" / name / "frames.db"
        path.write_bytes(change(path.read_bytes()))
    (jpg / "run" / "count" / "n_frames").write_text("13")
    (jpg / "run" / "gone" / "frames.db").unlink()
    done = check(tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    with (tmp_path / "bad_stores.csv").open() as file:
        bad = {Path(row["video"]).name: row["reason"] for row in csv.DictReader(file)}
    assert set(bad) == {"flipped", "cut", "count", "gone"}
    assert "frame_00005 is damaged" in bad["flipped"]
    assert "is cut off" in bad["cut"]
    assert "says '13', but frames.db holds 12" in bad["count"]
    assert "no such file" in bad["gone"]
    for name in bad:
        write_store(jpg / "run" / name, name, jpegs)
    done = check(tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "bad_stores.csv").exists()


def test_no_dataset(tmp_path):
    done = check(tmp_path / "nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
