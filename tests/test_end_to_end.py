"""The commands as a user types them, in processes, from video files to predictions."""

import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from runs import ROOT, environment, train

SMALL = "--network ir_csn_50 --clip-length 4 --clip-size 32 --batch-size 8 --gpus 0 --workers 1"


def run(*words: object, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """`python <words>`, its output as text."""
    return subprocess.run(
        [sys.executable, *(part for word in words for part in str(word).split(" "))],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment(),
    )


def succeed(*words: object, **options) -> str:
    answer = run(*words, **options)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout + answer.stderr


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """The demo, at a size at which it learns nothing but runs through everything."""
    root = tmp_path_factory.mktemp("demo")
    said = succeed("-m run.demo --scale 0.04 --end-epoch 1 --warmup-epochs 0 --root", root, SMALL)
    assert "frames reversed" in said and "curves.png" in said and "report.html" in said
    return root


@pytest.fixture(scope="module")
def results(demo) -> Path:
    return demo / "results" / "ir_csn_50_gates_False"


def test_the_demo_leaves_what_it_says(results):
    (evaluation,) = (results / "evaluation").iterdir()
    for path in (results / "curves.png", evaluation / "time_probe.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
    assert "Confusion matrix" in (results / "report.html").read_text()
    assert (results / "train.log").stat().st_size and (results / "demo.txt").stat().st_size
    assert (results / "explained" / "film_strip.png").stat().st_size
    timeline = results / "predicted" / "long_video"
    assert (timeline / "timeline.png").stat().st_size and (timeline / "annotated.mp4").exists()
    said = (results / "demo.txt").read_text()
    for name in ("report.html", "explained/", "predicted/", "long_video/"):
        assert name in said
    with (results / "val_results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:4] == ["Epoch", "Top1", "Top5", "Loss"] and len(rows) == 1
    state = torch.load(results / "last.pth", weights_only=True)
    assert {"state_dict", "epoch", "optimizer"} <= state.keys() and state["epoch"] == 1


def test_a_second_demo_reuses_everything(demo, results):
    before = {path: path.stat().st_mtime_ns for path in (demo / "videos").rglob("*.mp4")}
    trained = (results / "last.pth").stat().st_mtime_ns
    said = succeed("-m run.demo --scale 0.04 --end-epoch 1 --warmup-epochs 0 --root", demo, SMALL)
    assert {path: path.stat().st_mtime_ns for path in (demo / "videos").rglob("*.mp4")} == before
    assert (results / "last.pth").stat().st_mtime_ns == trained
    assert "frames in order" in said


def test_predict_a_video_file_and_a_frame_store(demo, results):
    video = next((demo / "videos" / "grow").glob("val_*.mp4"))
    store = next((demo / "jpg" / "grow").glob("val_*"))
    said = succeed("-m run.predict --checkpoint", results / "last.pth", video, store)
    assert said.count("%") >= 10 and str(video) in said and str(store) in said


def test_resume_by_epoch_as_the_original(demo, results, tmp_path):
    copy = shutil.copytree(results, tmp_path / results.name)
    common = (
        "train_custom.py --dataset", demo, "--labels", demo / "labels" / "motion_train.csv",
        SMALL, "--multigrid off --augmentation none --model-dir", tmp_path,
    )  # fmt: skip
    succeed(
        *common, "--resume-epoch 2 --end-epoch 2 --pretrained-3d", copy / "ir_csn_50_ep-0001.pth"
    )
    with (copy / "train_results.csv").open() as file:
        assert [row["Epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    assert torch.load(copy / "ir_csn_50_ep-0002.pth", weights_only=True)["epoch"] == 2


def test_fine_tune_on_other_classes(demo, results, tmp_path):
    for part in ("train", "val"):
        lines = (demo / "labels" / f"motion_{part}.csv").read_text().splitlines()
        wanted = [line for line in lines[1:] if line.startswith(("grow", "shrink", "darken"))]
        (tmp_path / f"three_{part}.csv").write_text("\n".join([lines[0], *wanted]) + "\n")
    said = succeed(
        "train_custom.py --dataset", demo, "--labels", tmp_path / "three_train.csv",
        SMALL, "--end-epoch 1 --fine-tune True --model-dir", tmp_path / "out",
        "--pretrained-3d", results / "last.pth",
    )  # fmt: skip
    assert re.search(r"skipped +fc\.weight", said) and "classifier" in said
    checkpoint = tmp_path / "out" / "ir_csn_50_gates_False" / "last.pth"
    state = torch.load(checkpoint, weights_only=True)
    assert state["classes"] == ["shrink", "grow", "darken"]
    assert state["state_dict"]["fc.weight"].shape[0] == 3


def test_real_videos_from_files_to_scores(real_data, tmp_path):
    clips = real_data / "clips" / "ucf101" / "videos"
    for folder in sorted(clips.iterdir())[:3]:
        (tmp_path / "videos" / folder.name).mkdir(parents=True)
        for video in [*sorted(folder.glob("*_g0[1-2]_*"))[:2], *sorted(folder.glob("*_g2*"))[:3]]:
            (tmp_path / "videos" / folder.name / video.name).symlink_to(video)
    root = tmp_path / "data"
    succeed("-m run.convert --videos", tmp_path / "videos", "--dataset", root, "--short-side 64")
    said = succeed(
        "train_ucf101.py --dataset", root, SMALL, "--end-epoch 2 --model-dir", tmp_path / "out"
    )
    assert "the labels have 3 of the 101 classes of UCF101" in said
    best = tmp_path / "out" / "ir_csn_50_gates_False" / "best.pth"
    said = succeed("-m run.evaluate --order all --checkpoint", best, "--dataset", root)
    assert "forward" in said and "6 videos, 3 classes" in said


def bad_row(demo: Path, tmp_path: Path, line: str, *, part: str = "train") -> Path:
    """The demo's csvs in `tmp_path`, with one more row. Returns the training csv."""
    for name in ("train", "val"):
        text = (demo / "labels" / f"motion_{name}.csv").read_text()
        (tmp_path / f"m_{name}.csv").write_text(text + (f"{line}\n" if name == part else ""))
    return tmp_path / "m_train.csv"


def no_checkpoint(demo: Path, tmp_path: Path) -> str:
    (tmp_path / "notes.pth").write_text("not a checkpoint")
    return f"--pretrained-3d {tmp_path / 'notes.pth'}"


def empty_folder(demo: Path, tmp_path: Path) -> str:
    (tmp_path / "empty").mkdir()
    return f"--dataset {tmp_path / 'empty'}"


def no_column(demo: Path, tmp_path: Path) -> str:
    (tmp_path / "x_train.csv").write_text("name_of_class,video\na,b\n")
    return f"--labels {tmp_path / 'x_train.csv'}"


def nothing_usable(demo: Path, tmp_path: Path) -> str:
    (tmp_path / "x_train.csv").write_text("label,id,split\ngrow,nowhere,train\n")
    return f"--labels {tmp_path / 'x_train.csv'} --skip-bad"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (lambda demo, tmp: "--dataset /no/such/folder", "/no/such/folder: no such folder"),
        (empty_folder, "run.convert"),
        (no_column, "x_train.csv:1: no column label"),
        (lambda demo, tmp: f"--labels {bad_row(demo, tmp, 'grow,gone,train')}", "m_train.csv:50: "),
        (
            lambda demo, tmp: f"--labels {bad_row(demo, tmp, 'dance,x,val', part='val')}",
            "unknown class 'dance'",
        ),
        (nothing_usable, "x_train.csv"),
        (lambda demo, tmp: "--network srtg_r3d_35", "srtg_r3d_34"),
        (no_checkpoint, "notes.pth"),
        (lambda demo, tmp: "--pretrained-3d /no/such.pth", "/no/such.pth"),
        (lambda demo, tmp: "--gpus 64", "--gpus 64"),
        (lambda demo, tmp: "--resume-epoch 9", "--resume-epoch 9 is past the last epoch, 1"),
        (lambda demo, tmp: "--augmentation nonsense", "nonsense"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(demo, tmp_path, options, said):
    labels = str(demo / "labels" / "motion_train.csv")
    words = f"{SMALL} --end-epoch 1 {options(demo, tmp_path)}".split()
    answer = train(demo, tmp_path / "out", "--labels", labels, *words, fresh=said == "run.convert")
    errors = [line for line in answer.stderr.splitlines() if line.startswith("error: ")]
    assert answer.returncode == 2, answer.stderr
    assert len(errors) == 1 and said in errors[0], answer.stderr
    assert "Traceback" not in answer.stderr and not (tmp_path / "out").exists()


def test_rows_that_cannot_be_used_are_skipped_on_request(demo, tmp_path):
    labels = bad_row(demo, tmp_path, "grow,gone,train")
    said = succeed(
        "train_custom.py --dataset", demo, "--labels", labels, SMALL,
        "--end-epoch 1 --skip-bad --model-dir", tmp_path / "out",
    )  # fmt: skip
    assert "1 rows are skipped" in said and "m_train.csv:50" in said
