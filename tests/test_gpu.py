"""What can only be seen on GPUs: `make gpu` runs it; elsewhere every test is skipped, and says so.

Every computation is compared with the CPU's, in float32, on the same clips and from the same seed.
"""

import contextlib
import csv
import json
import signal

import pytest
import torch
from runs import assert_same_results, command, folder, same_bits, train, train_until
from torch import nn
from two_steps import compare, difference, options_in, steps_of_processes, two_steps

from data.clips.loader import StepPlan
from network import build_network, gate_rates
from run import evaluate, predict
from run.command_line import parse_config
from train.batchnorm import StepNorms, synchronise_batch_norm
from train.devices import Devices, open_devices
from train.divergence import check_last_step
from train.loaders import training_batches
from train.memory import empty_clips, forward_and_backward, micro_batch_sizes
from train.prefetch import prefetched
from train.setup import prepare
from train.speed_monitor import SpeedMonitor
from train.step import train_step

pytestmark = pytest.mark.gpu

#: How far two updates with frozen norms may be from those of float32, over their own length.
FAR = {"fp32": 0.02, "fp16": 0.15, "bf16": 0.3}
#: The same with batch norm over few values, which amplifies how devices round.
TRAINING = 0.15
PRECISIONS = ("fp32", "bf16", "fp16")


@contextlib.contextmanager
def run_on(tiny, out, *words: str):
    config = parse_config("custom", [*command(tiny, out, "--workers", "0")[2:], *words])
    with open_devices(config.gpus, config.precision) as devices:
        run = prepare(config, devices)
        run.batches = prefetched(training_batches(run), devices)
        run.parallel_net.train()
        yield run


def take_step(run) -> None:
    train_step(run, next(run.batches), SpeedMonitor(run.devices.device))
    check_last_step(run)
    run.step += 1


def state(run) -> list[torch.Tensor]:
    """Copies of everything that a step changes, but for the loss scale."""
    momenta = [
        value
        for entry in run.optimiser.state.values()
        for value in entry.values()
        if isinstance(value, torch.Tensor)
    ]
    averages = list(run.ema.state_dict().values()) if run.ema else []
    tensors = [*run.net.state_dict().values(), *momenta, *averages, run.meter.sums]
    return [tensor.detach().cpu().clone() for tensor in tensors]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_two_steps_on_a_gpu_are_those_of_the_cpu(tiny, tmp_path, precision):
    options = options_in(tiny, tmp_path, "--micro-batch", "8")
    reference = two_steps(options, frozen=True)
    on_gpu = two_steps([*options, "--gpus", "1", "--precision", precision], frozen=True)
    compare(reference, on_gpu, tolerance=FAR[precision])


def test_batch_norm_on_a_gpu_is_that_of_the_cpu(tiny, tmp_path):
    options = options_in(tiny, tmp_path, "--micro-batch", "8")
    compare(two_steps(options), two_steps([*options, "--gpus", "1"]), tolerance=TRAINING)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("options", [[], ["--clip-grad", "1"]], ids=["", "clipped"])
def test_a_loss_that_is_not_finite_changes_nothing(tiny, tmp_path, precision, options):
    words = ["--gpus", "1", "--precision", precision, "--on-nan", "skip:9", "--ema", "0.9"]
    with run_on(tiny, tmp_path, *words, *options) as run:
        take_step(run)
        weight = run.net.fc.weight.clone()
        with torch.no_grad():
            run.net.fc.weight.fill_(3e38)
        before = state(run)
        take_step(run)
        assert all(map(same_bits, before, state(run))) and run.skipped_steps == 1
        with torch.no_grad():
            run.net.fc.weight.copy_(weight)
        take_step(run)  # and it goes on
        assert all(value.isfinite().all() for value in state(run))
        assert not all(map(same_bits, before, state(run))) and run.skipped_steps == 1


def test_a_step_waits_for_the_device_nowhere(tiny, tmp_path):
    words = ["--gpus", "1", "--multigrid", "off", "--micro-batch", "4", "--end-epoch", "9"]
    with run_on(tiny, tmp_path, *words) as run:
        for _ in range(2):  # the first steps make streams, workspaces and momenta
            take_step(run)
        train_step(run, next(run.batches), SpeedMonitor(run.devices.device))
        run.step += 1
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")  # raises where the host waits for the device
        try:
            train_step(run, next(run.batches), SpeedMonitor(run.devices.device))
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_run_learns_in_mixed_precision_with_everything_on(tiny, tmp_path, precision):
    words = ["--gpus", "1", "--precision", precision, "--network", "srtg_r3d_18", "--gates"]
    words += ["--ema", "0.9", "--mixup", "0.2", "--clip-grad", "1", "--precise-bn", "1"]
    answer = train(tiny, tmp_path, *words)
    assert answer.returncode == 0, answer.stderr
    checkpoint = torch.load(
        folder(tmp_path, "srtg_r3d_18", gates=True) / "last.pth",
        weights_only=True,
        map_location="cpu",
    )
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())
    assert (checkpoint["scaler"] != {}) == (precision == "fp16")


def test_gates_and_their_rates(tiny, tmp_path):
    words = ["--gpus", "1", "--network", "srtg_r3d_18", "--gates"]
    with run_on(tiny, tmp_path, *words) as run:
        take_step(run)
        rates = gate_rates(run.net)
        assert rates and all(0 <= rate <= 1 for rate in rates.values())


def test_the_probe_finds_what_fits_and_leaves_nothing(tiny):
    with open_devices(1, "auto") as devices:
        net = build_network("r3d_18", 3).to(devices.device)
        StepNorms(net, devices, 8)
        plans = [StepPlan(1, 0, 64, 8, 112)]
        ample = micro_batch_sizes(net, devices, "auto", plans)(8, 112)
        held = torch.cuda.memory_allocated(devices.device)
        parameters = sum(parameter.nbytes for parameter in net.parameters())
        assert held < 2 * parameters + 2**26 and all(p.grad is None for p in net.parameters())
        filler = torch.empty(int(0.9 * torch.cuda.mem_get_info(devices.device)[0]) - 2**31,
                             dtype=torch.uint8, device=devices.device)  # fmt: skip
        scarce = micro_batch_sizes(net, devices, "auto", plans)(8, 112)
        assert 1 <= scarce <= ample and len(filler)
        net.train()
        forward_and_backward(
            net, devices, empty_clips(devices, plans[0], scarce)
        )  # and it does fit


def test_a_resumed_run_has_the_same_bits(tiny, tmp_path):
    words = ["--gpus", "1", "--deterministic", "True", "--save-steps", "1", "--ema", "0.9"]
    answer = train(tiny, tmp_path / "whole", *words)
    assert answer.returncode == 0, answer.stderr
    code = train_until(tiny, tmp_path / "killed", 2, signal.SIGTERM, *words)
    assert code == 143
    answer = train(tiny, tmp_path / "killed", *words, "--resume", "auto")
    assert answer.returncode == 0, answer.stderr
    assert_same_results(folder(tmp_path / "whole"), folder(tmp_path / "killed"))


def test_a_checkpoint_of_a_gpu_is_scored_on_both(tiny, tmp_path):
    words = ["--gpus", "1", "--precision", "fp32", "--end-epoch", "1", "--precise-bn", "3"]
    answer = train(tiny, tmp_path, *words, "--network", "r3d_18")
    assert answer.returncode == 0, answer.stderr
    last = str(folder(tmp_path, "r3d_18") / "last.pth")
    where = ["--checkpoint", last, "--dataset", str(tiny), "--workers", "0"]
    where += ["--labels", str(tiny / "labels" / "tiny_train.csv"), "--precision", "fp32"]
    scores = [evaluate.main([*where, "--gpus", gpus])["forward"] for gpus in ("0", "1")]
    assert scores[0]["loss"] == pytest.approx(scores[1]["loss"], rel=0.01)
    store = next((tiny / "jpg" / "grow").iterdir())
    said = []
    for gpus in ("0", "1"):
        out = str(tmp_path / f"{gpus}.json")
        predict.main(["--checkpoint", last, str(store), "--gpus", gpus, "--json", out])
        (row,) = json.loads((tmp_path / f"{gpus}.json").read_text())["videos"]
        said.append({one["class"]: one["score"] for one in row["top"]})
    for name in ("grow", "move_left", "darken"):
        assert said[0][name] == pytest.approx(said[1][name], abs=0.05)


@pytest.mark.gpu(count=2)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_data_parallel_takes_the_steps_of_one_device(tiny, tmp_path, precision):
    options = options_in(tiny, tmp_path, "--micro-batch", "8")
    reference = two_steps(options, frozen=True)
    parts = two_steps([*options, "--gpus", "2", "--precision", precision], frozen=True)
    compare(reference, parts, tolerance=FAR[precision])


@pytest.mark.gpu(count=2)
def test_data_parallel_takes_statistics_over_the_clips_of_each_device(tiny, tmp_path):
    options = options_in(tiny, tmp_path, "--micro-batch", "8")  # over four clips of eight
    parts = two_steps([*options, "--gpus", "2"])
    compare(two_steps(options), parts, tolerance=TRAINING)


@pytest.mark.gpu(count=2)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_every_replica_computes_in_the_precision_asked_for(tiny, tmp_path, precision):
    wanted = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    found = []
    with run_on(tiny, tmp_path, "--gpus", "2", "--precision", precision) as run:
        run.net.fc.register_forward_hook(
            lambda *args: found.append((args[2].device, args[2].dtype))
        )
        take_step(run)
    assert {dtype for _, dtype in found} == {wanted} and len({device for device, _ in found}) == 2


@pytest.mark.gpu(count=2)
def test_two_ranks_over_nccl_take_the_steps_of_one(tiny, tmp_path):
    options = options_in(tiny, tmp_path)
    parts = steps_of_processes(2, [*options, "--gpus", "1"], tmp_path / "steps.pt")
    compare(two_steps(options, shares=2), parts, tolerance=TRAINING)


@pytest.mark.gpu(count=2)
def test_two_ranks_share_the_statistics_of_batch_norm(tiny, tmp_path):
    options = options_in(tiny, tmp_path, "--bn-clips", "8")
    parts = steps_of_processes(2, [*options, "--gpus", "1"], tmp_path / "steps.pt")
    compare(two_steps(options, shares=2), parts, tolerance=TRAINING)
    alone = two_steps(options_in(tiny, tmp_path, "--bn-clips", "4"), shares=2)
    assert difference(alone, parts) > 0.5


@pytest.mark.gpu(count=4)
def test_pairs_of_four_ranks_share_the_statistics_of_batch_norm(tiny, tmp_path):
    options = options_in(tiny, tmp_path, "--bn-clips", "4")  # of eight: two clips a rank
    # the second step has six clips, so that the pairs have four and two of them
    parts = steps_of_processes(4, [*options, "--gpus", "1"], tmp_path / "steps.pt", steps=1)
    compare(two_steps(options, shares=4, steps=1), parts, tolerance=TRAINING)


@pytest.mark.gpu(count=2)
def test_a_run_under_torchrun_writes_one_set_of_files(tiny, tmp_path):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    words = ["--gpus", "1", "--end-epoch", "1", "--multigrid", "epoch"]
    answer = train(tiny, tmp_path, *words, launcher=launcher)
    assert answer.returncode == 0, answer.stderr
    for name, clips in (("train_results.csv", "14"), ("val_results.csv", "6")):
        with (folder(tmp_path) / name).open() as file:
            assert [row["Clips"] for row in csv.DictReader(file)] == [clips]


def test_synchronised_norms_of_one_rank_are_batch_norm(tmp_path):
    """SyncBatchNorm in a group of one rank over nccl: the layers accept what StepNorms makes."""
    torch.distributed.init_process_group(
        "nccl", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    try:
        device = torch.device("cuda", 0)
        net = nn.Sequential(nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4)).to(device)
        norms = StepNorms(net, Devices(device, 1, "fp32"), 8)
        clips = torch.randn(4, 3, 2, 8, 8, device=device)
        expected = net(clips)
        synchronise_batch_norm(net)
        assert torch.allclose(net(clips), expected, atol=1e-5)
        norms.split()
    finally:
        torch.distributed.destroy_process_group()
