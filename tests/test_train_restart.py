"""Starting a run again, from whatever an earlier one or an accident has left in its folder."""

import csv
import hashlib
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import NETWORK, assert_same_results, command, csv_rows, folder, start, train

from run.command_line import parse_config
from run.exit_codes import command as run_command
from train import loop as engine
from train.results import disk_space as train_space
from train.results.losses_file import open_losses

pytestmark = pytest.mark.fault

WORDS = ["--multigrid", "off", "--batch-size", "7", "--workers", "0", "--tensorboard", "False"]
AGAIN = [*WORDS, "--resume", "auto"]


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory) -> Path:
    """The results folder of a run of two epochs; tests work on copies."""
    out = tmp_path_factory.mktemp("finished")
    answer = train(tiny, out, *WORDS)
    assert answer.returncode == 0, answer.stderr
    assert "checkpoints will take 0." in answer.stderr and " are free in " in answer.stderr
    return folder(out)


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    """A copy of the finished run's results, below `tmp_path`."""
    return shutil.copytree(finished, folder(tmp_path))


def content(path: Path) -> dict[str, str]:
    """A hash of every file of a folder."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in path.iterdir()
        if file.name != "train.log"
    }


def refusal(answer) -> str:
    errors = [line for line in answer.stderr.splitlines() if line.startswith("error: ")]
    assert answer.returncode == 2 and len(errors) == 1, answer.stderr
    assert "Traceback" not in answer.stderr
    return errors[0]


def flip(path: Path) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 16
    path.write_bytes(damaged)


def test_from_an_older_epoch_where_newer_files_are_damaged(tiny, tmp_path, copy, finished):
    """The same bits as if nothing had happened; csv files are those of the checkpoint."""
    last, second = copy / "last.pth", copy / f"{NETWORK}_ep-0002.pth"
    flip(last)
    second.write_bytes(second.read_bytes()[:-1000])
    (copy / "train_results.csv").write_bytes(b"\0" * 200)
    (copy / "val_results.csv").write_text("")
    answer = train(tiny, tmp_path, *AGAIN)
    assert answer.returncode == 0, answer.stderr
    for path in (last, second):
        assert f"it is now {path.name}.damaged, and the run continues from" in answer.stderr
    assert f"continues from {copy / f'{NETWORK}_ep-0001.pth'}: epoch 2, step 2" in answer.stderr
    assert_same_results(copy, finished)
    rows, losses = csv_rows(finished / "train_results.csv"), open_losses(finished)["loss"]
    means = losses.astype(np.float64).mean(1)
    assert means == pytest.approx([float(row["Loss"]) for row in rows], rel=1e-3)


def test_from_the_newest_epoch_where_last_pth_is_gone(tiny, tmp_path, copy, finished):
    (copy / "last.pth").unlink()
    (copy / "train_results.csv").unlink()
    answer = train(tiny, tmp_path, *AGAIN)
    assert answer.returncode == 0, answer.stderr
    assert f"{copy / 'last.pth'} is missing" in answer.stderr
    assert (copy / "train_results.csv").read_text() == (finished / "train_results.csv").read_text()
    assert content(copy)["best.pth"] == content(finished)["best.pth"]


def test_from_a_slim_checkpoint_only_where_there_is_no_other(tiny, tmp_path, copy):
    for path in copy.glob("*.pth"):
        if path.name != "best.pth":
            path.unlink()
    answer = train(tiny, tmp_path, *AGAIN, "--end-epoch", "3")
    assert answer.returncode == 0, answer.stderr
    assert "best.pth was saved without the optimiser's state" in answer.stderr
    state = torch.load(copy / "last.pth", weights_only=True)
    assert state["epoch"] == 3 and state["optimizer"]["state"]


def test_nothing_is_overwritten_unless_asked(tiny, tmp_path, copy):
    before = content(copy)
    said = refusal(train(tiny, tmp_path, *WORDS))
    for part in (str(copy), "--resume auto", "--task-name", "--overwrite True"):
        assert part in said
    for name in ("last.pth", f"{NETWORK}_ep-0002.pth", f"{NETWORK}_ep-0001.pth", "best.pth"):
        flip(copy / name)  # now there is nothing to continue from
    damaged = content(copy)
    refusal(train(tiny, tmp_path, *WORDS, "--overwrite", "True", "--log-file", str(tmp_path)))
    for _ in range(2):
        assert "--overwrite True" in refusal(train(tiny, tmp_path, *AGAIN))
        assert content(copy) == damaged
    answer = train(tiny, tmp_path, *WORDS, "--overwrite", "True", "--end-epoch", "1")
    assert answer.returncode == 0, answer.stderr
    assert sorted(path.name for path in copy.glob("*.pth*")) == [
        "best.pth", f"{NETWORK}_ep-0001.pth", "last.pth",
    ]  # fmt: skip
    with (copy / "train_results.csv").open() as file:
        assert [row["Epoch"] for row in csv.DictReader(file)] == ["1"]
    assert content(copy)[f"{NETWORK}_ep-0001.pth"] != before[f"{NETWORK}_ep-0001.pth"]


def test_resume_by_epoch_with_a_damaged_csv_and_epochs_that_come_again(tiny, tmp_path, copy):
    (copy / "val_results.csv").write_text("Epoch,Top1\nfirst,many\n")
    first = str(copy / f"{NETWORK}_ep-0001.pth")
    before, rows = content(copy), csv_rows(copy / "train_results.csv")
    answer = train(tiny, tmp_path, *WORDS, "--resume-epoch", "2", "--pretrained-3d", first)
    assert answer.returncode == 0, answer.stderr
    after = content(copy)
    assert csv_rows(copy / "train_results.csv") == rows
    assert after[f"{NETWORK}_ep-0001.pth"] == before[f"{NETWORK}_ep-0001.pth"]
    assert after[f"{NETWORK}_ep-0002.pth.replaced"] == before[f"{NETWORK}_ep-0002.pth"]
    assert after["val_results.csv.damaged"] == before["val_results.csv"]
    assert "val_results.csv cannot be read" in answer.stderr


def test_a_second_training_in_the_same_folder_is_refused(tiny, tmp_path):
    run = start(tiny, tmp_path, *WORDS, "--end-epoch", "9999", "--keep", "1")
    run.wait_for("Batch [")
    for more in ([], ["--resume", "auto"], ["--overwrite", "True"]):
        said = refusal(train(tiny, tmp_path, *WORDS, *more))
        assert f"another training (process {run.pid} on " in said and str(folder(tmp_path)) in said
    os.kill(run.pid, signal.SIGINT)
    assert run.wait() == 130, run.said()
    assert not (folder(tmp_path) / "train.lock").exists()


def test_a_results_folder_that_goes_while_training_is_named(tiny, tmp_path):
    run = start(tiny, tmp_path, *WORDS, "--end-epoch", "9999", "--keep", "1")
    run.wait_for("Batch [")
    moved = folder(tmp_path).rename(tmp_path / "moved")
    assert run.wait() == 2, run.said()
    assert "Traceback" not in run.said()
    said = run.said().splitlines()[-1]
    assert said.startswith(f"error: {folder(tmp_path)}/"), said
    assert said.endswith(": No such file or directory"), said
    assert moved.is_dir()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--log-file", "."], ": Is a directory"),
        (["--model-dir", "file"], "a file has the name of the results folder"),
        (["--task-name", "x" * 250], ": File name too long"),
        (["--task-name", "/a/b/circle"], "circle: "),
    ],
    ids=["a log that is a folder", "a file", "a long name", "a circle of links"],
)
def test_what_cannot_be_written_is_one_line_and_leaves_nothing(tiny, tmp_path, options, said):
    (tmp_path / "file").write_text("something")
    (tmp_path / f"{NETWORK}_gates_False_" / "a" / "b").mkdir(parents=True)
    circle = tmp_path / f"{NETWORK}_gates_False_" / "a" / "b" / "circle"
    circle.symlink_to(circle)
    before = sorted(tmp_path.rglob("*"))
    options = [str(tmp_path / word) if word in (".", "file") else word for word in options]
    assert said in refusal(train(tiny, tmp_path, *WORDS, *options))
    assert sorted(tmp_path.rglob("*")) == before


def test_too_little_space_is_one_line_before_the_first_step(tiny, tmp_path, monkeypatch, capsys):
    usage = shutil.disk_usage(tmp_path)._replace(free=10**7)
    monkeypatch.setattr(train_space.shutil, "disk_usage", lambda path: usage)
    config = parse_config("custom", command(tiny, tmp_path, *WORDS)[2:])
    assert run_command(lambda: engine.train(config)) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and "free disk space, keep fewer checkpoints by --keep N" in error[0]
    assert f"0.01 GB are free in {folder(tmp_path)}" in error[0]
    assert not list(tmp_path.iterdir())
