"""From a folder of videos to a result by one command, interrupted anywhere; its one-line errors."""

import csv
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import runs
import simplejpeg

from data.annotations.label_csv import load_labels
from data.annotations.own_labels import SplitOptions, label_own_videos, read_parts
from data.annotations.video_tree import TreeVideo, videos_in_tree
from data.data_error import DataError
from data.store import write_store
from data.synthetic import render, write_video
from run.command_line import complete
from run.own_videos import convert_videos, label, look_at, main

ROOT = Path(__file__).parent.parent
SPLIT = SplitOptions(fraction=0.25, seed=1, group=None)
SMALL = [
    *["--network", "ir_csn_50", "--clip-length", "4", "--clip-size", "32", "--batch-size", "4"],
    *["--bn-clips", "4", "--lr-base", "0.0005", "--lr-steps", "1", "--end-epoch", "1"],
    *["--multigrid", "off", "--clip-fps", "6", "--gpus", "0", "--workers", "0"],
    *["--log-interval", "1", "--tensorboard", "False"],
]


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Two classes of five videos, the last two of one recording."""
    folder = tmp_path_factory.mktemp("videos")
    for action in ("grow", "shrink"):
        (folder / action).mkdir()
        for number in range(5):
            name = f"v_g{min(number, 3):02}_c{number:02}"
            write_video(folder / action / f"{name}.mp4", render(action, number)[:24])
    return folder


def start(videos: Path, root: Path, *options: str) -> runs.Run:
    """Start the command in a process of its own."""
    folder = tempfile.TemporaryDirectory()
    words = ["train_custom.py", "--videos", str(videos), "--dataset", str(root / "data")]
    words += ["--model-dir", str(root / "results"), *SMALL, *options]
    process = runs.SERVER.Process(target=runs._forked, args=(words, folder.name, ROOT, None))
    process.start()
    while not (Path(folder.name) / "stderr").exists() and process.is_alive():
        time.sleep(0.005)

    def wait() -> int:
        process.join()
        return process.exitcode

    return runs.Run(process.pid, wait, folder)


def wait_until(condition, run: runs.Run) -> None:
    while not condition() and not runs.ended(run.pid):
        time.sleep(0.005)


@pytest.mark.parametrize(
    "steps",
    [
        ("train",),
        pytest.param(("convert", "convert", "label", "check", "train", "evaluate"),
                     marks=pytest.mark.slow),
    ],
    ids=["train", "every step"],
)  # fmt: skip
def test_one_command_that_is_killed_goes_on_to_the_same_result(videos, tmp_path, steps):
    whole = start(videos, tmp_path / "whole")
    assert whole.wait() == 0, whole.said()
    folder = runs.folder(tmp_path / "whole" / "results")
    last = whole.said("stdout").splitlines()[-2:]
    assert last[0].startswith(f"results: {folder} ") and f"{folder}/best.pth" in last[1]
    for name in ("report.html", "evaluation", "curves.png"):
        assert name in last[0] and (folder / name).exists()
    assert not (tmp_path / "whole" / "data" / "broken.csv").exists()

    root = tmp_path / "killed"
    moments = {
        "convert": lambda run: wait_until(lambda: any(root.rglob("frames.db")), run),
        "label": lambda run: wait_until(lambda: any(root.rglob("custom_*.csv")), run),
        "check": lambda run: run.wait_for("step 3 of 5"),
        "train": lambda run: run.wait_for("Batch [", 1),
        "evaluate": lambda run: run.wait_for("step 5 of 5"),
    }
    for step in steps:
        run = start(videos, root, "--save-steps", "1")
        moments[step](run)
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    run = start(videos, root, "--save-steps", "1")
    assert run.wait() == 0, run.said()
    assert "10 videos; 10 of them are finished" in run.said()
    assert "the label csvs name all videos already" in run.said()
    runs.assert_same_results(folder, runs.folder(root / "results"))
    for name in ("custom_train.csv", "custom_val.csv"):
        one, other = (tmp_path / place / "data" / "labels" / name for place in ("whole", "killed"))
        assert one.read_text() == other.read_text()


def call(monkeypatch, capsys, *words: object) -> tuple[int, list[str]]:
    """The exit code of the command in this process, and the `error:` lines."""
    monkeypatch.setattr(sys, "argv", ["train_custom.py", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return end.value.code, [line for line in said.splitlines() if line.startswith("error:")]


def tree(root: Path, *names: str) -> Path:
    """Empty files of these names."""
    root.mkdir(exist_ok=True, parents=True)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


BAD = {
    "no videos": (["readme.txt"], {}, "no videos in it"),
    "one class": (["a/1.mp4", "a/2.mp4"], {}, "of the one class 'a'; training needs at least two"),
    "one video": (["a/1.mp4", "a/2.mp4", "b/1.mp4"], {}, "the class 'b' has one video only"),
    "neither folders nor csv": (["1.mp4", "2.mp4"], {}, "neither class folders nor a csv"),
    "a csv of other videos": (
        ["1.mp4", "2.mp4"],
        {"x.csv": "label,id\na,3\nb,4\n"},
        "x.csv:2: no video '3' in",
    ),
    "a csv of one class": (
        ["1.mp4", "2.mp4"],
        {"x.csv": "label,id\na,1\na,2.mp4\n"},
        "of the one class 'a'",
    ),
    "several csvs": (
        ["1.mp4"],
        {"x.csv": "label,id\na,1\n", "y_train.csv": "label,id\na,1\n"},
        "neither train, val nor test; name the one to use by --labels",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_folders_are_one_line(case, tmp_path, monkeypatch, capsys):
    names, csvs, message = BAD[case]
    videos = tree(tmp_path / "v", *names)
    for name, text in csvs.items():
        (videos / name).write_text(text)
        shutil.copy(tmp_path / "v" / name, tmp_path)
    words = ["--videos", videos, "--dataset", tmp_path / "d", "--gpus", "0"]
    code, lines = call(monkeypatch, capsys, *words)
    assert code == 2 and len(lines) == 1 and message in lines[0], lines
    assert not (tmp_path / "d" / "jpg").exists()


def test_what_else_is_one_line(tmp_path, monkeypatch, capsys, videos):
    there = ["--dataset", tmp_path / "d"]
    for words, message in (
        (["--videos", tmp_path / "none"], "none: no such folder"),
        (["--videos", videos, "--group", "("], "'(' is not a regular expression"),
        (["--videos", videos, "--val-fraction", "1"], "--val-fraction"),
        (["--videos", videos, "--network", "r3d_19"], "unknown network"),
    ):
        code, lines = call(monkeypatch, capsys, *there, *words)
        assert code == 2 and len(lines) == 1 and message in lines[0]
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, lines = call(monkeypatch, capsys, *there, "--videos", videos)
    assert code == 2 and "one process does" in lines[0]
    assert not (tmp_path / "d" / "labels").exists()


def test_videos_that_cannot_be_converted_stop_it_unless_skipped(
    tmp_path, monkeypatch, capsys, videos
):
    bad = shutil.copytree(videos, tmp_path / "v")
    shutil.copy(bad / "grow" / "v_g00_c00.mp4", bad / "grow" / "v_g00_c00.mkv")  # one name
    (bad / "grow" / "v_g01_c01.mp4").write_bytes(b"broken")
    words = ["--videos", bad, "--dataset", tmp_path / "d", "--gpus", "0"]
    code, lines = call(monkeypatch, capsys, *words)
    assert code == 2 and len(lines) == 1 and "broken.csv: lists the videos" in lines[0]
    with (tmp_path / "d" / "broken.csv").open() as file:
        assert len(list(csv.reader(file))) == 3
    assert len(list((tmp_path / "d").rglob("frames.db"))) == 8  # the others are kept
    convert_videos(bad, tmp_path / "d", 256, skip_bad=True)
    label_own_videos(tmp_path / "d", videos_in_tree(bad, []), [], SPLIT)
    assert len(read_parts(tmp_path / "d")) == 8


def test_a_full_disk_is_one_line_and_what_is_done_stays(tmp_path, videos):
    """A limit of 300 kB for each file stands for the full disk; the last video needs more."""
    large = tmp_path / "v" / "shrink"
    shutil.copytree(videos, tmp_path / "v")
    write_video(large / "z.mp4", render("grow", 8).repeat(4, 0).repeat(4, 1).repeat(4, 2))
    words = [sys.executable, "train_custom.py", "--videos", tmp_path / "v"]
    done = subprocess.run(
        [*words, "--dataset", tmp_path / "d"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)),
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 2 and len(lines) == 1 and "cannot be written" in lines[0]
    assert "Traceback" not in done.stderr
    assert any((tmp_path / "d").rglob("frames.db")) and not list((tmp_path / "d").rglob(".part*"))


def stored(root: Path, *names: str) -> list[TreeVideo]:
    """Videos `class/id` or `part/class/id`, with frame stores in `root`/data."""
    videos = videos_in_tree(tree(root / "v", *(f"{name}.mp4" for name in names)), [])
    for number, video in enumerate(videos):
        frames = render("grow", (number, 7))[:6]
        jpegs = [simplejpeg.encode_jpeg(frame) for frame in frames]
        write_store(root / "data" / "jpg" / video.label / video.id, video.id, jpegs)
    return videos


def parts(root: Path) -> dict[str, str]:
    """Id -> part, as the csvs say."""
    return {video_id: part for (_, video_id), part in read_parts(root / "data").items()}


def test_added_videos_join_and_no_video_changes_sides(tmp_path):
    names = [f"{label}/{label}_g{n:02}_c01" for label in "ab" for n in range(8)]
    label_own_videos(tmp_path / "data", stored(tmp_path, *names), [], SPLIT)
    before = parts(tmp_path)
    assert list(before.values()).count("val") == 4
    more = [f"{label}/{label}_g{n:02}_c02" for label in "ab" for n in range(12)]
    label_own_videos(tmp_path / "data", stored(tmp_path, *names, *more), [], SPLIT)
    after = parts(tmp_path)
    assert len(after) == 40 and before.items() <= after.items()
    assert all(after[name] == after[name.replace("_c01", "_c02")] for name in before)
    # videos that have left the folder, but not the dataset, stay labelled
    shutil.rmtree(tmp_path / "v" / "b")
    gone = videos_in_tree(tree(tmp_path / "v", "b/b_g20_c01.mp4", "b/b_g21_c01.mp4"), [])
    for video in gone[-2:]:
        write_store(
            tmp_path / "data" / "jpg" / "b" / video.id,
            "x",
            [simplejpeg.encode_jpeg(render("grow", 1)[0])],
        )
    label_own_videos(tmp_path / "data", gone, [], SPLIT)
    assert after.items() <= parts(tmp_path).items() and len(parts(tmp_path)) == 42
    assert label_own_videos(tmp_path / "data", gone, [], SPLIT) == {}


def test_folders_that_say_the_parts(tmp_path):
    names = [
        f"{part}/{label}/{part}{label}{n}"
        for part in ("train", "test")
        for label in "ab"
        for n in range(2)
    ]
    label_own_videos(tmp_path / "data", stored(tmp_path, *names), [], SPLIT)
    labels = tmp_path / "data" / "labels"
    assert sorted(load_labels(labels / "custom_test.csv").ids) == [
        "testa0",
        "testa1",
        "testb0",
        "testb1",
    ]
    assert len(load_labels(labels / "custom_train.csv")) == 4
    only = [f"train/{label}/x{label}{n}" for label in "ab" for n in range(4)]
    label_own_videos(tmp_path / "e" / "data", stored(tmp_path / "e", *only), [], SPLIT)
    assert list(parts(tmp_path / "e").values()).count("val") == 2


def test_a_csv_beside_the_videos(tmp_path):
    videos = stored(tmp_path, *map(str, range(8)))
    rows = [f"{'ab'[n % 2]},{n}{'.mp4' if n < 4 else ''}" for n in range(8)]
    path = tmp_path / "v" / "mine.csv"
    path.write_text("\n".join(["label,video", *rows]))
    label_own_videos(tmp_path / "data", videos, [path], SPLIT)
    assert sorted(parts(tmp_path).values()) == ["train"] * 6 + ["val"] * 2
    # with a split of its own
    path.write_text(
        "\n".join(
            [
                "label,video,split",
                *(f"{r},{'val' if i < 2 else 'train'}" for i, r in enumerate(rows)),
            ]
        )
    )
    label_own_videos(tmp_path / "data", videos, [path], SPLIT)
    assert {name for name, part in parts(tmp_path).items() if part == "val"} == {"0", "1"}
    # a row without a video, by file and row
    path.write_text(path.read_text() + "\na,nowhere,train\na,elsewhere,train")
    with pytest.raises(DataError, match=r"mine\.csv:10: no video 'nowhere' in .*1 more rows"):
        label_own_videos(tmp_path / "data", videos, [path], SPLIT)
    label_own_videos(tmp_path / "data", videos, [path], SPLIT._replace(skip_bad=True))
    assert len(parts(tmp_path)) == 8


def test_one_source_for_each_class_cannot_be_divided(tmp_path):
    names = [f"{label}/{label}_g01_c{n:02}" for label in "ab" for n in range(4)]
    with pytest.raises(DataError, match="no video is left for validation"):
        label_own_videos(tmp_path / "data", stored(tmp_path, *names), [], SPLIT)
    assert not (tmp_path / "data" / "labels").exists()


def test_labels_of_the_user_are_taken_as_they_are(tmp_path, videos):
    labels = tmp_path / "d" / "labels"
    labels.mkdir(parents=True)
    names = {
        label: sorted(p.stem for p in (videos / label).iterdir()) for label in ("grow", "shrink")
    }
    rows = [f"{label},{name}" for label, ids in names.items() for name in ids]
    for part, chosen in (("train", rows[1:]), ("val", rows[:1])):
        (labels / f"mine_{part}.csv").write_text("\n".join(["label,id", *chosen]))
    found, csvs = look_at(videos, complete("custom", dataset=str(tmp_path / "d")), SPLIT)
    assert csvs == []
    assert not label(tmp_path / "d", found, csvs, SPLIT, complete("custom", dataset="d"))
    config = complete("custom", dataset="d", labels=str(labels))
    assert not label(tmp_path / "other", found, csvs, SPLIT, config)
    assert sorted(path.name for path in labels.iterdir()) == ["mine_train.csv", "mine_val.csv"]
    assert not (tmp_path / "other").exists()
