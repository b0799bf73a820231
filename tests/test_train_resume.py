"""Runs that are killed and resumed give what the uninterrupted run gives, to the bit."""

import itertools
import random
import signal

import pytest
import torch
from runs import assert_same_results, folder, train, train_until

LONG = ["--batch-size", "2", "--end-epoch", "12", "--save-steps", "1"]
EVERYTHING = ["--ema", "0.9", "--mixup", "0.2", "--label-smoothing", "0.1", "--clip-grad", "1"]


def options(policy: str, workers: int) -> list[str]:
    return ["--multigrid", policy, "--workers", str(workers), "--save-steps", "2", *EVERYTHING]


def resume_until_done(root, out, words) -> None:
    answer = train(root, out, *words, "--resume", "auto")
    assert answer.returncode == 0, answer.stderr


@pytest.fixture(scope="module")
def uninterrupted(tiny, tmp_path_factory):
    """Results folder of the run without interruption, by policy and options (0 workers)."""
    done = {}

    def results(policy: str, *more: str):
        key = (policy, *more)
        if key not in done:
            done[key] = tmp_path_factory.mktemp(policy)
            answer = train(tiny, done[key], *options(policy, 0), *more)
            assert answer.returncode == 0, answer.stderr
        return done[key]

    return results


def test_sigkill_in_the_middle_of_an_epoch(tiny, tmp_path, uninterrupted):
    words = options("epoch", 2)
    assert train_until(tiny, tmp_path, 7, signal.SIGKILL, *words) == -signal.SIGKILL
    state = torch.load(folder(tmp_path) / "last.pth", weights_only=True)
    assert state["step"] == 6  # of eight, in the middle of the second epoch
    resume_until_done(tiny, tmp_path, words)
    assert_same_results(tmp_path, uninterrupted("epoch"))


def test_sigterm_saves_and_says_so(tiny, tmp_path, uninterrupted):
    words = options("epoch", 0)
    assert train_until(tiny, tmp_path, 3, signal.SIGTERM, *words) == 143
    resume_until_done(tiny, tmp_path, words)
    assert_same_results(tmp_path, uninterrupted("epoch"))


def test_ctrl_c_reaches_the_workers_too(tiny, tmp_path):
    code = train_until(tiny, tmp_path, 3, signal.SIGINT, *options("off", 2), group=True)
    assert code == 130
    assert torch.load(folder(tmp_path) / "last.pth", weights_only=True)["step"] >= 3


def test_other_options_or_a_damaged_checkpoint_are_refused(tiny, tmp_path, uninterrupted):
    last = folder(tmp_path) / "last.pth"
    last.parent.mkdir(parents=True)
    content = (folder(uninterrupted("epoch")) / "last.pth").read_bytes()
    last.write_bytes(content)
    answer = train(tiny, tmp_path, *options("epoch", 0), "--batch-size", "8", "--resume", "auto")
    assert answer.returncode == 2
    assert "was trained with --batch-size 4, not 8" in answer.stderr.splitlines()[-1]
    last.write_bytes(content[: len(content) // 2])
    answer = train(tiny, tmp_path, *options("epoch", 0), "--resume", "auto")
    assert answer.returncode == 2 and "last.pth" in answer.stderr.splitlines()[-1]


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
    assert_same_results(tmp_path, uninterrupted(policy, *LONG))
