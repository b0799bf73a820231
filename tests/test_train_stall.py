"""A run whose workers stop or die ends with one line; resumed, it gives the same bits."""

import os
import shutil
import signal

import psutil
import pytest
from runs import assert_same_results, folder, start, train

pytestmark = pytest.mark.fault

# saved by nothing but the end of an epoch of seven steps, and by what is tested here
WORDS = ["--multigrid", "off", "--batch-size", "2", "--workers", "1", "--save-minutes", "0"]


@pytest.fixture(scope="module")
def uninterrupted(tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("uninterrupted")
    answer = train(tiny, out, *WORDS)
    assert answer.returncode == 0, answer.stderr
    return folder(out)


def worker_of(run) -> psutil.Process:
    (worker,) = psutil.Process(run.pid).children()
    return worker


@pytest.mark.parametrize(
    ("to_worker", "to_run", "timeout", "code", "words"),
    [
        (signal.SIGSTOP, signal.SIGTERM, "0", 143, ["interrupted: stopped by signal 15"]),
        pytest.param(
            *(signal.SIGSTOP, None, "2", 2),
            ["error: worker 0", "no batch for 2 seconds while reading"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *(signal.SIGKILL, None, "600", 2),
            ["error: worker 0", "died while reading", "memory"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["SIGTERM in a stall", "time-out", "killed worker"],
)
def test_nothing_is_lost(
    tiny, tmp_path, uninterrupted, to_worker, to_run, timeout, code, words, trials
):
    trial = trials("a run whose worker stops or dies loses nothing", "SIGSTOP, SIGKILL of a worker")
    run = start(tiny, tmp_path, *WORDS, "--batch-timeout", timeout)
    run.wait_for("Batch [", 2)
    worker = worker_of(run)
    worker.send_signal(to_worker)
    if to_run:
        os.kill(run.pid, to_run)
    assert run.wait() == code, run.said()
    said = run.said()
    last = said.splitlines()[-1]
    assert "Traceback" not in said and all(word in last for word in words), said
    if code == 2:
        assert f"(process {worker.pid})" in last and str(tiny) in last
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
    answer = train(tiny, tmp_path, *WORDS, "--resume", "auto")
    assert answer.returncode == 0 and "continues from" in answer.stderr, answer.stderr
    assert_same_results(folder(tmp_path), uninterrupted)
    trial.add(True)


def test_a_damaged_video_is_one_line_with_workers(tiny, tmp_path):
    root = shutil.copytree(tiny, tmp_path / "data")
    path = root / "jpg" / "darken" / "train2" / "frames.db"
    path.write_bytes(path.read_bytes()[:-4096])
    answer = train(root, tmp_path / "out", *WORDS)
    assert answer.returncode == 2
    errors = [line for line in answer.stderr.splitlines() if "cut off" in line]
    assert len(errors) == 1 and errors[0].startswith(f"error: {path}: is cut off")
    assert "Traceback" not in answer.stderr
