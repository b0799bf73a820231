"""The report of `run.check`: each rule finds its fault, and the csv of usable rows can be used."""

import contextlib
import csv
import io
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from crashing_tasks import crash, facts_or_crash, interrupt
from hypothesis import given
from hypothesis import strategies as st

from data.annotations.splits import open_split
from data.dataset_defaults import dataset_spec
from data.store import write_store
from data.synthetic import render
from run import check
from run.checks.crash_safe_pool import Crash, results_of
from run.checks.labelled_parts import recognise
from run.checks.report_page import BINS, histogram
from run.exit_codes import command

ODD = 'a<b>&"c'  # the name of a class that html must not take for a tag


def store(root: Path, action: str, name: str, frames, quality: int = 90) -> None:
    jpegs = [simplejpeg.encode_jpeg(np.ascontiguousarray(f), quality=quality) for f in frames]
    write_store(
        root / "jpg" / action / name, name, jpegs, times=[i / 12 for i in range(len(jpegs))]
    )


def write_labels(root: Path, part: str, rows) -> None:
    (root / "labels").mkdir(exist_ok=True)
    with (root / "labels" / f"mine_{part}.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("label", "id", "split"), *((*row, part) for row in rows)])


@pytest.fixture(scope="module")
def faulty(tmp_path_factory) -> Path:
    """A dataset with one fault of each kind."""
    root = tmp_path_factory.mktemp("faulty")
    grey = np.arange(64, dtype=np.uint8)[:, None, None] + np.zeros((64, 64, 3), np.uint8)
    for number in range(3):
        store(root, "grow", f"g{number}", render("grow", number)[:24])
        store(root, ODD, f"m{number}", render("move_left", 50 + number)[:24])
    store(root, "grow", "copy", render("grow", 1)[:24], quality=60)
    for name in ("v_x_g01_c01", "v_x_g01_c02"):
        store(root, "grow", name, render("grow", sum(map(ord, name)))[:24])
    store(root, ODD, "black", np.zeros((24, 64, 64, 3), np.uint8))
    store(root, ODD, "grey", np.full((24, 64, 64, 3), 90, np.uint8))
    store(root, ODD, "still", [grey] * 24)
    store(root, ODD, "damaged", render("move_left", 77)[:24])
    store(root, "darken", "alone", render("darken", 5)[:40])
    store(root, "darken", "unnamed", render("darken", 6)[:40])
    path = root / "jpg" / ODD / "damaged" / "frames.db"
    path.write_bytes(path.read_bytes()[:-4096])
    odd = [(ODD, name) for name in ("m0", "m1", "black", "grey", "still", "damaged", "nowhere")]
    write_labels(
        root,
        "train",
        [
            *(("grow", name) for name in ("g0", "g1", "g0", "v_x_g01_c01")),
            *odd,
            ("darken", "alone"),
        ],
    )
    write_labels(
        root,
        "val",
        [("grow", "g2"), ("grow", "copy"), ("grow", "v_x_g01_c02"), (ODD, "m2"), (ODD, "m1")],
    )
    return root


@pytest.fixture(scope="module")
def checked(faulty) -> tuple[int, str, str]:
    """The exit code of `run.check --fix`, what it printed, and the page."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit) as stop:
        check.main([str(faulty), "--fix", "--workers", "2"])
    return stop.value.code, said.getvalue(), (faulty / "check" / "report.html").read_text()


FAULTS = {
    "damaged videos": ("error", "damaged/frames.db: is cut off"),
    "unusable train rows": ("error", "mine_train.csv:12: no video 'nowhere'"),
    "repeated rows": ("warning", "mine_train.csv:4"),
    "videos in both parts": ("warning", "mine_train.csv:7"),
    "near-duplicates in both parts": ("warning", "grow/copy"),
    "sources in both parts": ("warning", "grow/v_x_g01_c01"),
    "black videos": ("warning", "black"),
    "one colour videos": ("warning", "grey"),
    "still videos": ("warning", "still"),
    "small classes": ("warning", "darken: 1"),
    "classes without validation": ("warning", "darken"),
    "videos without a row": ("note", "darken/unnamed"),
    "short videos": ("note", "24 frames"),
}


@pytest.mark.parametrize("subject", FAULTS)
def test_each_fault_is_found_with_its_place(checked, subject):
    code, said, page = checked
    level, place = FAULTS[subject]
    assert code == 2
    assert re.search(rf"^{level} +{subject} ", said, re.M), said
    (block,) = re.findall(rf'class="level">{level}: {subject}\..*?</div>', page, re.S)
    listed = re.findall(r"<li>(.*?)</li>", block)
    assert any(place.replace("'", "&#x27;") in line for line in listed), block


def test_nothing_else_is_found(checked):
    found = {*re.findall(r"^(?:error|warning|note) +(.*?)  ", checked[1], re.M)}
    machine = {"shared memory", "disk", "open files", "GPUs", "ffmpeg"}
    assert found - machine == {*FAULTS}


def test_the_page_asks_for_nothing_and_escapes_names(checked):
    page = checked[2]
    assert not re.search(r'(src|href)\s*=\s*["\'](?!data:)|url\(|@import|https?:', page)
    assert "<b>" not in page and "a&lt;b&gt;&amp;&quot;c" in page
    assert '<meta name="viewport"' in page
    assert page.count("data:image/jpeg") >= 3 * 2 * 3  # three classes, before and after


def test_the_usable_rows_can_be_used(faulty, checked):
    path = faulty / "check" / "usable.csv"
    kept = {}
    for part in ("train", "val"):
        videos = open_split(dataset_spec("custom"), faulty, part, labels=path)
        assert not videos.rejected
        kept[part] = [folder.rpartition("/")[2] for folder in videos.folders]
    assert kept["train"] == ["g0", "v_x_g01_c01", "m0", "still", "alone"]
    assert kept["val"] == ["g2", "copy", "v_x_g01_c02", "m2", "m1"]


def test_segments_of_a_video_are_no_repeats(tmp_path, capsys):
    for number, action in enumerate(("grow", "darken")):
        store(tmp_path, action, f"long{number}", render(action, number)[:24])
    (tmp_path / "labels").mkdir()
    for part, seconds in (("train", ((0, 0.5), (0.5, 1), (0, 0.5))), ("val", ((1, 2),))):
        rows = [
            (action, f"long{number}", start, end, part)
            for number, action in enumerate(("grow", "darken"))
            for start, end in seconds
        ]
        with (tmp_path / "labels" / f"mine_{part}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("label", "id", "time_start", "time_end", "split"), *rows])
    check.main([str(tmp_path), "--no-report", "--fix"])
    said = capsys.readouterr().out
    assert "2 train rows repeat an earlier one" in said
    assert re.search(r"sources in both parts +2 recordings", said)
    path = tmp_path / "check" / "usable.csv"
    lengths = {
        part: len(open_split(dataset_spec("custom"), tmp_path, part, labels=path))
        for part in ("train", "val")
    }
    assert lengths == {"train": 4, "val": 2}


def test_a_good_dataset(tiny, tmp_path, capsys):
    assert command(lambda: check.main([str(tiny), "--output", str(tmp_path)])) == 0
    page = (tmp_path / "report.html").read_text()
    assert "Training would fail" not in page and "grow" in page
    assert not (tiny / "bad_stores.csv").exists()
    assert "error" not in capsys.readouterr().out


def test_one_class_only_is_an_error(tmp_path, capsys):
    for number in range(2):
        store(tmp_path, "grow", f"g{number}", render("grow", number)[:24])
    with pytest.raises(SystemExit) as stop:
        check.main([str(tmp_path), "--no-report"])
    assert stop.value.code == 2
    assert "all videos are of one class, 'grow'" in capsys.readouterr().out
    assert not (tmp_path / "check").exists()


def test_names_of_options_that_do_not_exist_are_one_line(tiny, tmp_path, capfd):
    for words, said in (
        (["--labels", str(tmp_path / "no.csv")], "no.csv: no such label csv"),
        (["--augmentation", "redme"], "redme"),
    ):
        assert command(lambda words=words: check.main([str(tiny), *words])) == 2
        error = capfd.readouterr().err.splitlines()[-1]
        assert error.startswith("error: ") and said in error


def test_a_dataset_is_recognised_by_its_class_folders(tmp_path):
    for name in ("ApplyEyeMakeup", "Archery"):
        (tmp_path / "jpg" / name).mkdir(parents=True)
    assert recognise(tmp_path).name == "ucf101"
    (tmp_path / "jpg" / "my_own_action").mkdir()
    assert recognise(tmp_path).name == "custom"


# The pool


def test_a_crash_names_its_task_and_the_rest_is_done():
    tasks = ["a", "segfault", "b", "exit", "c", "d"]
    found = dict(results_of(tasks, crash, 2, patience=600))
    assert {task: found[task] for task in "abcd"} == {"a": "A", "b": "B", "c": "C", "d": "D"}
    assert isinstance(found["segfault"], Crash) and "signal 11" in found["segfault"].reason
    assert isinstance(found["exit"], Crash) and "exit code 7" in found["exit"].reason


def test_a_task_that_hangs_is_given_up():
    ((task, result),) = results_of(["hang"], crash, 2, patience=0.5)
    assert task == "hang" and "took longer than 0.5 seconds" in result.reason


def test_a_bug_is_raised_and_no_task_is_no_work():
    with pytest.raises(KeyError, match="a bug"):
        list(results_of(["bug"], crash, 2, patience=600))
    assert list(results_of([], crash, 2, patience=600)) == []


def test_a_store_that_crashes_the_reader_is_named(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(check, "read_facts", facts_or_crash)
    words = [str(tiny), "--output", str(tmp_path), "--fix", "--no-report"]
    with pytest.raises(SystemExit) as stop:
        check.main(words)
    bad = (tiny / "bad_stores.csv").read_text()
    (tiny / "bad_stores.csv").unlink()  # the other tests share this dataset
    assert stop.value.code == 2
    assert 'train3,"ended the process that read it (signal 11' in bad
    assert "train3" not in (tmp_path / "usable.csv").read_text()


def test_an_interruption_writes_nothing(tiny, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(check, "read_facts", interrupt)
    with pytest.raises(SystemExit) as stop:
        check.main([str(tiny), "--output", str(tmp_path / "out"), "--workers", "1"])
    assert stop.value.code == 128 + signal.SIGTERM
    assert "interrupted" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


@given(st.lists(st.integers(0, 10**6) | st.floats(0, 1e6), min_size=1, max_size=50))
def test_a_histogram_counts_every_value_once(values):
    figure = histogram("x", values)
    counts = [int(n.replace(",", "")) for n in re.findall(r": ([\d,]+)</title>", figure)]
    assert len(counts) <= BINS + 1
    if len({*map(float, values)}) > 1:
        assert sum(counts) == len(values)
    else:
        assert f"in all {len(values)}" in figure
