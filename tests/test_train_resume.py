"""Runs that are killed and resumed give what the uninterrupted run gives, to the bit."""

import itertools
import os
import random
import shutil
import signal
import time

import psutil
import pytest
import torch
from runs import assert_same_results, csv_rows, folder, same_bits, start, train, train_until

pytestmark = pytest.mark.fault

LONG = ["--batch-size", "2", "--end-epoch", "12", "--save-steps", "1"]
SOME = ["--ema", "0.9", "--mixup", "0.2", "--label-smoothing", "0.1", "--clip-grad", "1"]
GATED = "srtg_r3dxt34_32d"
EVERYTHING = (
    f"--network {GATED} --gates --clip-size 16 --multigrid epoch --workers 1 --optimiser adamw "
    "--lr-base 0.001 --lr-policy cosine --warmup-epochs 0.5 --decay-norms False --ema 0.9 "
    "--mixup 0.2 --cutmix 1 --label-smoothing 0.1 --clip-grad 1 --micro-batch 3 --flip "
    "--erase 0.5 --crop multiscale --precise-bn 1 --tensorboard False --save-steps 4"
).split()


def options(policy: str, workers: int) -> list[str]:
    return ["--multigrid", policy, "--workers", str(workers), "--save-steps", "2", *SOME]


def resume_until_done(root, out, words) -> None:
    answer = train(root, out, *words, "--resume", "auto")
    assert answer.returncode == 0, answer.stderr


def wait_until_nobody_is_left(group: int) -> None:
    """Fails where a process of the group outlives its first one by ten seconds."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("a process stayed behind")


@pytest.fixture(scope="module")
def uninterrupted(tiny, tmp_path_factory):
    """Where the run with some options and no interruption is."""
    done = {}

    def results(*words: str):
        if words not in done:
            done[words] = tmp_path_factory.mktemp("uninterrupted")
            answer = train(tiny, done[words], *words)
            assert answer.returncode == 0, answer.stderr
        return done[words]

    return results


def test_sigkill_in_the_middle_of_an_epoch(tiny, tmp_path, uninterrupted):
    words = options("epoch", 2)
    run = start(tiny, tmp_path, *words, fresh=True)
    run.wait_for("Batch [", 5)
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    wait_until_nobody_is_left(run.pid)
    state = torch.load(folder(tmp_path) / "last.pth", weights_only=True)
    assert state["step"] == 4  # of six, in the middle of the second epoch
    resume_until_done(tiny, tmp_path, words)
    assert_same_results(folder(tmp_path), folder(uninterrupted(*options("epoch", 0))))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_whole_group(tiny, tmp_path, uninterrupted, number, code):
    """As of a scheduler or a terminal: it reaches the workers too."""
    words = [*options("epoch", 2), "--save-steps", "0"]  # saved by nothing else in the first epoch
    run = start(tiny, tmp_path, *words, fresh=number == signal.SIGTERM)
    run.wait_for("Batch [", 2)
    os.killpg(run.pid, number)
    assert run.wait() == code, run.said()
    assert "Traceback" not in run.said() and run.said().splitlines()[-1].startswith("interrupted: ")
    wait_until_nobody_is_left(run.pid)
    assert torch.load(folder(tmp_path) / "last.pth", weights_only=True)["step"] in (2, 3)
    resume_until_done(tiny, tmp_path, words)
    assert_same_results(folder(tmp_path), folder(uninterrupted(*options("epoch", 0))))


def test_a_full_disk_ends_in_one_line_and_loses_nothing(tiny, tmp_path, uninterrupted):
    """The limit on a file's size stands for the disk's: it comes in the middle of a checkpoint."""
    words = options("epoch", 0)
    run = start(tiny, tmp_path, *words)
    run.wait_for("Batch [", 3)
    psutil.Process(run.pid).rlimit(psutil.RLIMIT_FSIZE, (1 << 20, psutil.RLIM_INFINITY))
    assert run.wait() == 2, run.said()
    last = folder(tmp_path) / "last.pth"
    error = run.said().splitlines()[-1]  # of last.pth, or of the epoch's own file
    assert error.startswith(f"error: {last.parent}") and error.endswith(".pth: File too large")
    assert "Traceback" not in run.said()
    assert not list(last.parent.glob(".*"))  # the half-written file is gone
    assert torch.load(last, weights_only=True)["step"] in (2, 3, 4)
    resume_until_done(tiny, tmp_path, words)
    assert_same_results(folder(tmp_path), folder(uninterrupted(*words)))


@pytest.mark.parametrize(
    "precision",
    ["fp16", *(pytest.param(name, marks=pytest.mark.slow) for name in ("fp32", "bf16"))],
)
def test_with_everything_on(tiny, tmp_path, uninterrupted, precision):
    words = [*EVERYTHING, "--precision", precision]
    assert train_until(tiny, tmp_path, 5, signal.SIGKILL, *words) == -signal.SIGKILL
    cut, whole = (folder(out, GATED, gates=True) for out in (tmp_path, uninterrupted(*words)))
    assert torch.load(cut / "last.pth", weights_only=True)["step"] == 4  # of six
    resume_until_done(tiny, tmp_path, words)
    assert_same_results(cut, whole)
    state = torch.load(cut / "last.pth", weights_only=True)
    assert state["ema"] and state["counts"] and (cut / "gates.csv").exists()
    assert bool(state["scaler"]) == (precision == "fp16")


def test_resume_epoch_goes_on_with_the_same_bits(tiny, tmp_path, uninterrupted):
    words = [*EVERYTHING, "--precision", "fp16"]
    whole, parted = (folder(out, GATED, gates=True) for out in (uninterrupted(*words), tmp_path))
    first = str(whole / f"{GATED}_ep-0001.pth")
    answer = train(tiny, tmp_path, *words, "--resume-epoch", "2", "--pretrained-3d", first)
    assert answer.returncode == 0, answer.stderr
    states = [torch.load(path / "last.pth", weights_only=True) for path in (whole, parted)]
    for name in ("state_dict", "optimizer", "scaler", "ema", "best_top1", "step"):
        assert same_bits(states[0][name], states[1][name]), name
    for name in ("train_results.csv", "val_results.csv", "gates.csv"):
        assert csv_rows(whole / name)[1:] == csv_rows(parted / name), name


def test_what_is_not_of_this_run_is_refused_in_one_line(tiny, tmp_path, uninterrupted):
    last = folder(tmp_path) / "last.pth"
    last.parent.mkdir(parents=True)
    content = bytearray((folder(uninterrupted(*options("epoch", 0))) / "last.pth").read_bytes())
    last.write_bytes(content)

    def refusal(root, *more: str) -> str:
        answer = train(root, tmp_path, *options("epoch", 0), *more, "--resume", "auto")
        errors = [line for line in answer.stderr.splitlines() if line.startswith("error: ")]
        assert answer.returncode == 2 and len(errors) == 1, answer.stderr
        assert "Traceback" not in answer.stderr
        return errors[0]

    assert "was trained with --batch-size 4, not 8" in refusal(tiny, "--batch-size", "8")
    fewer = shutil.copytree(tiny, tmp_path / "fewer", symlinks=True)
    csv_file = fewer / "labels" / "tiny_train.csv"
    csv_file.write_text("\n".join(csv_file.read_text().splitlines()[:-1]) + "\n")
    said = refusal(fewer)
    assert "other videos or labels" in said and str(last) in said
    middle = len(content) // 2
    content[middle] ^= 16
    last.write_bytes(content)
    said = refusal(tiny)
    assert "damaged" in said and str(last) in said
    last.write_bytes(content[:middle])
    assert str(last) in refusal(tiny)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "workers"), list(itertools.product(("off", "epoch", "paper"), (0, 2)))
)
def test_thirty_kills(tiny, tmp_path, uninterrupted, policy, workers):
    """Five kills each of six kinds of run, after a random number of steps and milliseconds."""
    rng = random.Random(f"{policy}{workers}")
    words = [*options(policy, workers), *LONG]
    for _ in range(5):
        code = train_until(
            tiny, tmp_path, rng.randint(1, 4), signal.SIGKILL, *words, "--resume", "auto",
            delay=rng.random(),
        )  # fmt: skip
        assert code == -signal.SIGKILL
    resume_until_done(tiny, tmp_path, words)
    whole = uninterrupted(*options(policy, 0), *LONG)
    assert_same_results(folder(tmp_path), folder(whole))
