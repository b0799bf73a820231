"""The losses of short runs on the CPU, as they were: a change that should change none proves it.

After a change that should: `pytest tests/test_train_golden.py --update-golden`, and say why in the
commit. Nothing else writes the golden file.

float32 losses are compared to the last digit of the csv where the same libraries compute on the
same kind of CPU. Elsewhere they say nothing: batch norm over a handful of clips enlarges rounding
by 1e5, and with other kernels of oneDNN or torch (`ONEDNN_MAX_CPU_ISA=AVX`,
`ATEN_CPU_CAPABILITY=default`) the same runs' losses were up to 24 % apart. In float64, from weights
that numpy draws, the same two settings leave a first step's loss as it is and move the second's by
6e-6 at most, so these are compared everywhere, within 1e-4.
"""

import csv
import itertools
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import command, folder, train
from torch import nn

from run.command_line import parse_config
from train.devices import open_devices
from train.loaders import training_batches
from train.setup import prepare
from train.speed_monitor import SpeedMonitor
from train.step import train_step

GOLDEN = Path(__file__).parent / "golden" / "losses.json"
RUNS = {
    "epoch": ["--multigrid", "epoch", "--lr-base", "0.0005"],
    "paper, adamw": ["--multigrid", "paper", "--optimiser", "adamw", "--lr-base", "0.001"],
}


def made_with() -> dict[str, str]:
    """What rounds: the libraries that compute, and the kind of CPU that they choose kernels for."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    pairs = [[part.strip() for part in line.split(":")] for line in lines if ":" in line]
    kind = [f"{k} {v}" for k, v in pairs if k in ("vendor_id", "cpu family", "model")]
    return {
        **{name: version(name) for name in ("torch", "numpy", "simplejpeg")},
        "cpu": ", ".join([torch.backends.cpu.get_cpu_capability(), *dict.fromkeys(kind)]),
    }


@pytest.fixture
def golden(request):
    """Compares losses with the golden ones of a name, or writes them under `--update-golden`."""

    def compare(name: str, losses: list[float], *, within: float | None) -> None:
        content = json.loads(GOLDEN.read_text())
        if request.config.getoption("--update-golden"):
            content[name] = {"losses": losses, "made with": made_with()}
            GOLDEN.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
        elif name not in content:
            pytest.fail(f"{GOLDEN} has no losses of {name!r}: write them by --update-golden")
        elif within:
            assert losses == pytest.approx(content[name]["losses"], rel=within)
        elif content[name]["made with"] == made_with():
            assert losses == content[name]["losses"]
        else:
            pytest.skip(f"made with {content[name]['made with']}, which rounds otherwise")

    return compare


@pytest.mark.parametrize("name", RUNS)
def test_losses(tiny, tmp_path, golden, name):
    answer = train(tiny, tmp_path, *RUNS[name], "--workers", "0")
    assert answer.returncode == 0, answer.stderr
    with (folder(tmp_path) / "train_results.csv").open() as file:
        golden(name, [float(row["Loss"]) for row in csv.DictReader(file)], within=None)


def test_losses_in_float64_on_any_machine(tiny, tmp_path, golden):
    words = command(tiny, tmp_path, "--workers", "0", "--augmentation", "none")[2:]
    config = parse_config("custom", words)
    with open_devices(0, "fp32") as devices:
        run = prepare(config, devices)
        draw_in_float64(run.net, run.optimiser)
        run.parallel_net.train()
        losses = []
        for batch in itertools.islice(training_batches(run), 2):  # the second sees an update
            losses.append(train_step(run, batch, SpeedMonitor(devices.device)).loss)
            run.step += 1
    golden("float64", losses, within=1e-4)


def draw_in_float64(net: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Weights by numpy, whose normal numbers are the same on every CPU; all in double precision."""
    for state in optimiser.state.values():
        state.update({name: v.double() for name, v in state.items() if isinstance(v, torch.Tensor)})
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for weight in net.parameters():
            if weight.ndim > 1:
                values = rng.standard_normal(weight.shape) * np.sqrt(2 / weight[0].numel())
                weight.copy_(torch.from_numpy(values))
    net.double()
    net.register_forward_pre_hook(lambda module, inputs: (inputs[0].double(),))
