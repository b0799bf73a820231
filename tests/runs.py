"""Real training runs in processes of their own, for the tests of `train`.

A run is forked from a server that has imported everything, which takes a third of the time of a new
interpreter; `fresh` and `launcher` start one as a user does.
"""

import csv
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

ROOT = Path(__file__).parent.parent
NETWORK = "ir_csn_50"  # the smallest there is: checkpoints of 23 MB
# a rate at which batches of one to four clips do not diverge
SHAPE = "--clip-length 4 --clip-size 32 --batch-size 4 --bn-clips 4 --lr-base 0.0005 --lr-steps 1"
OPTIONS = f"--network {NETWORK} {SHAPE} --gpus 0 --log-interval 1 --end-epoch 2".split()
OPTIONS += ["--recipe", "original"]

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "run.own_videos",
        "train.loop",
        "torch._dynamo",
        "torch.utils.tensorboard",
        "matplotlib.figure",
    ]
)


@dataclass
class Run:
    """A process that trains, and the files that its stdout and stderr go to."""

    pid: int
    wait: Callable[[], int]
    folder: tempfile.TemporaryDirectory

    def said(self, stream: str = "stderr") -> str:
        """What it has written so far."""
        return (Path(self.folder.name) / stream).read_text()

    def wait_for(self, text: str, count: int = 1) -> None:
        """Return as soon as it has said `text` so many times, or has ended."""
        while self.said().count(text) < count and not ended(self.pid):
            time.sleep(0.005)


def ended(pid: int) -> bool:
    """Whether there is no such process, or nothing but its exit code is left of it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def command(root: Path, out: Path, *options: str, launcher: tuple[str, ...] = ()) -> list[str]:
    """The command line of a run on the dataset in `root`, its results below `out`."""
    where = ["--dataset", str(root), "--labels", str(root / "labels" / "tiny_train.csv")]
    script = [sys.executable, *launcher, str(ROOT / "train_custom.py")]
    return [*script, *where, "--model-dir", str(out), *OPTIONS, *options]


def start(
    root: Path,
    out: Path,
    *options: str,
    fresh: bool = False,
    launcher: tuple[str, ...] = (),
    cwd: Path = ROOT,
    variables: dict[str, str] | None = None,
) -> Run:
    """Start a run, the first process of a session and group of its own.

    `variables` are added to its environment.
    """
    folder = tempfile.TemporaryDirectory()
    words = command(root, out, *options, launcher=launcher)
    if fresh or launcher:
        with (
            (Path(folder.name) / "stdout").open("w") as stdout,
            (Path(folder.name) / "stderr").open("w") as stderr,
        ):
            process = subprocess.Popen(
                words,
                stdout=stdout,
                stderr=stderr,
                env=environment() | (variables or {}),
                cwd=cwd,
                start_new_session=True,
            )
        return Run(process.pid, process.wait, folder)
    forked = SERVER.Process(target=_forked, args=(words[1:], folder.name, cwd, variables))
    forked.start()
    while not (Path(folder.name) / "stderr").exists() and forked.is_alive():
        time.sleep(0.005)

    def wait() -> int:
        forked.join()
        return forked.exitcode

    return Run(forked.pid, wait, folder)


def as_ranks(world_size: int) -> list[dict[str, str]]:
    """For each rank of a distributed run on this machine, what a launcher puts in its environment.

    Without a launcher nobody ends the other ranks where one has failed: they have to notice.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world_size)}
    return [
        {**place, "RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(world_size)}
        for rank in range(world_size)
    ]


def _forked(
    argv: list[str], folder: str, cwd: Path, variables: dict[str, str] | None = None
) -> None:
    os.setsid()
    os.chdir(cwd)
    multiprocessing.set_start_method(None, force=True)  # workers start as they would anywhere
    os.environ.update(environment() | (variables or {}))
    torch.set_num_threads(1)
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(Path(folder) / name, os.O_CREAT | os.O_WRONLY, 0o600)
        os.dup2(file, number)
    sys.stdout, sys.stderr = open(1, "w", buffering=1), open(2, "w", buffering=1)  # noqa: SIM115
    sys.argv = argv
    from run.own_videos import main

    main()


def train(root: Path, out: Path, *options: str, **how) -> subprocess.CompletedProcess:
    """Run to the end."""
    run = start(root, out, *options, **how)
    code = run.wait()
    return subprocess.CompletedProcess(options, code, run.said("stdout"), run.said())


def train_until(
    root: Path,
    out: Path,
    lines: int,
    number: signal.Signals,
    *options: str,
    group: bool = False,
    delay: float = 0.0,
    **how,
) -> int:
    """Run, send signal `number` after so many logged steps and seconds. Returns the exit code.

    `group`: to all processes of the run, as a terminal or a scheduler does.
    """
    run = start(root, out, *options, **how)
    run.wait_for("Batch [", lines)
    time.sleep(delay)
    (os.killpg if group else os.kill)(run.pid, number)
    return run.wait()


def environment() -> dict[str, str]:
    """One thread: clips as small as these take longer with more."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def folder(out: Path, network: str = NETWORK, *, gates: bool = False) -> Path:
    return out / f"{network}_gates_{gates}"


def same_bits(a, b) -> bool:
    """Whether two checkpoints, or parts of them, are equal to the bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_bits(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same_bits, a, b))
    return a == b or (a != a and b != b)  # NaN, as of a loss, is equal to itself here


STATE = (
    "state_dict",
    "optimizer",
    "scaler",
    "ema",
    "counts",
    "epoch",
    "step",
    "best_top1",
    "meter",
    "losses",
    "history",
)
TABLES = ("train_results.csv", "val_results.csv", "gates.csv")
#: The columns that differ between runs.
TIMES = ("Seconds", "SecondsLeft", "Reading", "Forward", "Backward")


def without_times(state: dict) -> dict:
    """A checkpoint whose history lacks the columns of times."""
    history = {
        table: [{k: v for k, v in row.items() if k not in TIMES} for row in rows]
        for table, rows in state["history"].items()
    }
    return {**state, "history": history}


def csv_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a csv file as text, without the columns of times."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def assert_same_results(one: Path, other: Path) -> None:
    """Weights, optimiser, averages, scores and csv rows of two runs are equal to the bit.

    `one` and `other` are results folders. Times are not compared.
    """
    states = [
        without_times(torch.load(path / "last.pth", weights_only=True)) for path in (one, other)
    ]
    for name in STATE:
        assert same_bits(states[0][name], states[1][name]), name
    for name in TABLES:
        assert (one / name).exists() == (other / name).exists(), name
        if (one / name).exists():
            assert csv_rows(one / name) == csv_rows(other / name), name
    assert (one / "train_losses.npy").read_bytes() == (other / "train_losses.npy").read_bytes()
