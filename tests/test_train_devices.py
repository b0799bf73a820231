"""Two gloo processes do what one does; devices that are not there are refused."""

import contextlib
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch
from runs import ROOT, environment, folder, start, train
from two_steps import compare, difference, options_in, steps_of_processes, two_steps

from train.devices import open_devices
from train.distributed import all_reduce_max
from train.results.losses_file import open_losses
from train.stopwatch import Stopwatch
from train.train_errors import TrainError

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def test_two_processes_give_the_gradients_of_one(tiny, tmp_path):
    parts = steps_of_processes(2, options_in(tiny, tmp_path), tmp_path / "steps.pt")
    one_process = two_steps(options_in(tiny, tmp_path), shares=2)
    compare(one_process, parts)
    for name in ("top1", "top5", "loss"):
        assert one_process["scores"][name] == pytest.approx(parts["scores"][name], rel=1e-4)
    # batch norm was in training mode: with other clips in its sub-batches, the update is another
    assert difference(two_steps(options_in(tiny, tmp_path), shares=1), parts) > 0.5
    assert difference(two_steps(options_in(tiny, tmp_path, "--bn-clips", "8")), parts) > 0.5


def test_micro_batches_give_the_gradients_of_the_whole(tiny, tmp_path):
    parts = two_steps(options_in(tiny, tmp_path, "--micro-batch", "4"))
    compare(two_steps(options_in(tiny, tmp_path)), parts)


def test_a_run_under_torchrun_writes_one_set_of_files(tiny, tmp_path):
    answer = train(tiny, tmp_path, "--end-epoch", "1", "--multigrid", "epoch", launcher=TORCHRUN)
    assert answer.returncode == 0, answer.stderr
    for name, clips in (("train_results.csv", "14"), ("val_results.csv", "6")):
        with (folder(tmp_path) / name).open() as file:
            assert [row["Clips"] for row in csv.DictReader(file)] == [clips]
    with (folder(tmp_path) / "val_predictions.csv").open() as file:  # of both processes
        assert [row["Video"][-4:] for row in csv.DictReader(file)] == [f"val{n}" for n in range(6)]
    losses = open_losses(folder(tmp_path))["loss"]  # of both processes, too
    with (folder(tmp_path) / "train_results.csv").open() as file:
        mean = float(next(csv.DictReader(file))["Loss"])
    assert losses.shape == (1, 14)
    assert losses.astype(np.float64).mean() == pytest.approx(mean, rel=1e-3)
    assert (folder(tmp_path) / "report.html").exists()
    assert (folder(tmp_path) / "last.pth").exists()


def test_a_killed_process_ends_the_run(tiny, tmp_path):
    run = start(tiny, tmp_path, "--end-epoch", "50", launcher=TORCHRUN)
    run.wait_for("Batch [")
    ranks = [
        child
        for child in psutil.Process(run.pid).children(recursive=True)
        if child.ppid() == run.pid and "train_custom.py" in " ".join(child.cmdline())
    ]
    os.kill(ranks[-1].pid, signal.SIGKILL)
    since = time.monotonic()
    assert run.wait() != 0 and time.monotonic() - since < 60
    assert re.search(r"exitcode *: *-9|SIGKILL", run.said()), run.said()


def test_a_scheduler_s_sigterm_reaches_launcher_and_processes_alike(tiny, tmp_path):
    run = start(tiny, tmp_path, "--end-epoch", "50", "--workers", "1", launcher=TORCHRUN)
    run.wait_for("Batch [", 2)
    there = [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]
    for process in there:
        process.terminate()
    assert run.wait() != 0
    assert psutil.wait_procs(there, timeout=10)[1] == []
    assert torch.load(folder(tmp_path) / "last.pth", weights_only=True)["step"] >= 2, run.said()


TWO_HOSTS = """
set -e
unshare --net sleep 600 & other=$!
trap 'kill $other' EXIT
until [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do sleep 0.05; done
there="nsenter --target $other --net"
ip link add left type veth peer name right netns $other
ip address add 10.99.0.1/24 dev left
$there ip address add 10.99.0.2/24 dev right
ip link set lo up; ip link set left up
$there ip link set lo up; $there ip link set right up
nodes="-m torch.distributed.run --nnodes 2 --nproc-per-node 1 --master-addr 10.99.0.1"
GLOO_SOCKET_IFNAME=right $there $PYTHON $nodes --node-rank 1 "$@" & second=$!
GLOO_SOCKET_IFNAME=left $PYTHON $nodes --node-rank 0 "$@"
wait $second
"""


@pytest.mark.slow
def test_two_hosts_give_the_gradients_of_one(tiny, tmp_path):
    """Two network namespaces, which vanish with their last process, joined by a cable."""
    namespace = ("unshare", "--net")
    if not shutil.which("unshare") or not shutil.which("ip"):
        pytest.skip("needs unshare and ip")
    if subprocess.run([*namespace, "ip", "link", "add", "left", "type", "veth"]).returncode:
        pytest.skip("this user may not make network namespaces")
    options = options_in(tiny, tmp_path)
    script = [str(ROOT / "tests" / "two_steps.py"), str(tmp_path / "steps.pt"), *options]
    process = subprocess.Popen(
        [*namespace, "sh", "-c", TWO_HOSTS, "hosts", *script],
        stderr=subprocess.PIPE,
        text=True,
        env=environment() | {"PYTHON": sys.executable},
        start_new_session=True,
    )
    try:
        said = process.communicate(timeout=200)[1]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, said
    one_process = two_steps(options, shares=2)
    compare(one_process, torch.load(tmp_path / "steps.pt", weights_only=True))


def test_gpus_that_are_not_there_are_refused():
    with (
        pytest.raises(TrainError, match=f"this machine has {torch.cuda.device_count()}"),
        open_devices(torch.cuda.device_count() + 1, "auto"),
    ):
        pass


def test_the_cpu_computes_in_float32_unless_told():
    with open_devices(0, "auto") as devices:
        assert (devices.precision, devices.device_count, devices.is_first) == ("fp32", 1, True)
        assert all_reduce_max(devices, [0.0, 3.0]) == [0.0, 3.0]
    with open_devices(0, "bf16") as devices, devices.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
        assert product.dtype == torch.bfloat16


def test_the_stopwatch_adds_up():
    watch = Stopwatch(torch.device("cpu"))
    for _ in range(2):
        with watch.running():
            time.sleep(0.01)
    assert 0.02 <= watch.seconds() < 1
