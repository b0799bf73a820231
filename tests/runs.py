"""Real training runs in subprocesses, for the tests of `train`."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
NETWORK = "ir_csn_50"  # the smallest there is: checkpoints of 23 MB
SHAPE = "--clip-length 4 --clip-size 32 --batch-size 4 --bn-clips 4 --lr-base 0.01 --lr-steps 1"
OPTIONS = f"--network {NETWORK} {SHAPE} --gpus 0 --log-interval 1 --end-epoch 2".split()


def command(root: Path, out: Path, *options: str, launcher: tuple[str, ...] = ()) -> list[str]:
    """The command line of a run on the dataset in `root`, its results below `out`."""
    where = ["--dataset", str(root), "--labels", str(root / "labels" / "tiny_train.csv")]
    script = [sys.executable, *launcher, str(ROOT / "train_custom.py")]
    return [*script, *where, "--model-dir", str(out), *OPTIONS, *options]


def train(root: Path, out: Path, *options: str, **how) -> subprocess.CompletedProcess:
    """Run to the end."""
    return subprocess.run(
        command(root, out, *options, **how), capture_output=True, text=True, env=environment()
    )


def train_until(
    root: Path,
    out: Path,
    lines: int,
    number: signal.Signals,
    *options: str,
    group: bool = False,
    delay: float = 0.0,
) -> int:
    """Run, send signal `number` after so many logged steps and seconds. Returns the exit code."""
    process = subprocess.Popen(
        command(root, out, *options),
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    for line in process.stderr:
        lines -= "Batch [" in line
        if lines <= 0:
            break
    time.sleep(delay)
    if group:  # as a terminal does
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    process.stderr.read()
    return process.wait()


def environment() -> dict[str, str]:
    """One thread: clips as small as these take longer with more."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def folder(out: Path) -> Path:
    return out / f"{NETWORK}_gates_False"


def same_bits(a, b) -> bool:
    """Whether two checkpoints, or parts of them, are equal to the bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_bits(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same_bits, a, b))
    return a == b


def assert_same_results(one: Path, other: Path) -> None:
    """Weights, optimiser, averages, scores and csv rows of two runs are equal to the bit."""
    states = [torch.load(folder(out) / "last.pth", weights_only=True) for out in (one, other)]
    for name in ("state_dict", "optimizer", "scaler", "ema", "epoch", "step", "best_top1", "meter"):
        assert same_bits(states[0][name], states[1][name]), name
    for name in ("train_results.csv", "val_results.csv"):
        assert (folder(one) / name).read_text() == (folder(other) / name).read_text()
