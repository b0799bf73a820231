"""Options are read and what they name is looked for before torch is imported; no bars in files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data.synthetic import write_videos
from run.worker_pool import VideoTask, run_tasks

ROOT = Path(__file__).parent.parent
COMMANDS = (
    "benchmark", "check", "compare", "convert", "demo", "doctor", "download", "evaluate", "explain",
    "export", "features", "labels", "networks", "options_page", "plan", "predict", "report", "tune",
)  # fmt: skip
SCRIPTS = sorted(path.name for path in ROOT.glob("train_*.py"))

#: Runs each command in turn, in one process, and prints its exit code and whether torch came along.
PROGRAM = """
import contextlib, io, json, logging, runpy, sys
answers = []
for words in json.loads(sys.argv[1]):
    name, *sys.argv[1:] = words
    sys.argv[0], said = name, io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            if name.endswith(".py"):
                runpy.run_path(name, run_name="__main__")
            else:
                runpy.run_module(name, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    torch = sorted({"torch", "torchvision"} & sys.modules.keys())
    answers.append((words, code, torch, said.getvalue()))
    for module in torch:  # so that the next command is judged on its own
        del sys.modules[module]
print(json.dumps(answers))
"""


def run_each(commands: list[list[str]], folder: Path) -> list[tuple[list[str], int, list, str]]:
    """(words, exit code, which of torch and torchvision were imported, output) of each command."""
    for script in SCRIPTS:
        (folder / script).symlink_to(ROOT / script)
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, json.dumps(commands)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def test_help_needs_no_torch(tmp_path):
    commands = [[name, "--help"] for name in (*SCRIPTS, *(f"run.{name}" for name in COMMANDS))]
    commands += [["run.labels", "kinetics", "--help"], ["run.networks"]]
    commands += [["run.benchmark", name, "--help"] for name in ("networks", "multigrid", "gpu")]
    for words, code, imported, said in run_each(commands, tmp_path):
        assert (code, imported) == (0, []), (words, said[-500:])
        assert "usage:" in said or words == ["run.networks"]


def test_every_command_is_tried():
    modules = {path.stem for path in (ROOT / "run").glob("*.py") if "__main__" in path.read_text()}
    assert modules == set(COMMANDS)


@pytest.fixture
def dataset(tmp_path) -> Path:
    """A dataset's folder that holds a jpg folder and no label csv."""
    (tmp_path / "set" / "jpg" / "wave" / "a").mkdir(parents=True)
    return tmp_path / "set"


def test_errors_that_need_no_tensor_need_no_torch(dataset, tmp_path):
    (tmp_path / "rows.csv").write_text("label,id\nwave,a\n")
    there = ["--dataset", str(dataset)]
    custom = ["train_custom.py", *there, "--labels", "rows.csv"]
    wrong = {
        "did you mean --clip-size": ["train_ucf101.py", *there, "--clip-sise", "3"],
        "--batch-size 0": ["train_hacs.py", *there, "--batch-size", "0"],
        "not a list of integers": ["train_mit.py", *there, "--lr-steps", "x"],
        "has the variants 200": ["train_kinetics.py", *there, "--variant", "5"],
        "/no/such: no such folder": ["train_hmdb51.py", "--dataset", "/no/such"],
        "holds no folder jpg/": ["train_ucf101.py", "--dataset", str(tmp_path)],
        "no diving48_train.csv": ["train_diving48.py", *there],
        "none.csv: no such label csv": ["train_custom.py", *there, "--labels", "none.csv"],
        "unknown network 'r3d_19'": [*custom, "--network", "r3d_19"],
        "augmentation 'redme'": [*custom, "--augmentation", "redme"],
        "--pretrained-3d none.pth": [*custom, "--pretrained-3d", "none.pth"],
        "e.pth: there is no such file": ["run.evaluate", "--checkpoint", "e.pth", *there],
        "p.pth: there is no such file": ["run.predict", "--checkpoint", "p.pth", "a.mp4"],
        "nearest are torchvision:s3d": ["run.predict", "--checkpoint", "torchvision:s3", "a.mp4"],
        "/nowhere: no such folder": ["run.evaluate", "--checkpoint", "rows.csv", "--dataset",
                                     "/nowhere"],
        "x.pth: there is no such file": ["run.explain", "--checkpoint", "x.pth", "a.mp4"],
        "argument --random-networks: 0": ["run.explain", "a.mp4", "--random-networks", "0"],
        "f.pth: there is no such file": ["run.features", "--checkpoint", "f.pth", *there],
        "o.pth: there is no such file": ["run.export", "--checkpoint", "o.pth"],
        "invalid choice: 'tflite'": ["run.export", "--checkpoint", "r.csv", "--format", "tflite"],
        "/none: no such folder": ["run.features", "--checkpoint", "rows.csv", "--dataset", "/none"],
        "--views": ["run.predict", "--checkpoint", "p.pth", "a.mp4", "--views", "0"],
        "argument --short-side": ["run.convert", *there, "--videos", "v", "--short-side", "x"],
        "v: no such folder": ["run.convert", *there, "--videos", "v"],
        "/no: no such folder": ["run.check", "/no"],
        "/no: No such file": ["run.doctor", "--folder", "/no"],
        "d.csv": ["run.download", "d.csv", "videos"],
        "u/trainlist01.txt: cannot be read": ["run.labels", "ucf101", "u"],
        "unknown network 'r3d_20'": ["run.networks", "r3d_20"],
        "--dataset-size": ["run.plan"],
        "unknown network 'r3d_21'": ["run.tune", *there, "--network", "r3d_21"],
        "/no: there is no such folder": ["run.report", "/no"],
        "config.json is missing": ["run.report", "set", "--serve"],
        "/left: no such folder": ["run.compare", "/left", "/right"],
        "unrecognised --bogus": ["run.demo", "--bogus"],
        "invalid choice": ["run.benchmark", "bogus"],
        "argument --rounds": ["run.benchmark", "networks", "--rounds", "x"],
    }  # fmt: skip
    for said, (words, code, imported, output) in zip(
        wrong, run_each(list(wrong.values()), tmp_path), strict=True
    ):
        assert (code, imported) == (2, []), (words, output[-800:])
        assert said in output, (words, output[-800:])


def test_progress_bars_are_silent_where_stderr_is_no_terminal(tmp_path, capfd):
    tasks = [VideoTask(tmp_path / name, tmp_path / name) for name in "abc"]
    assert run_tasks(tasks, lambda task, stop: None, 2) == []
    write_videos(tmp_path / "videos", 1, seed=0, prefix="x")
    assert capfd.readouterr().err == ""
