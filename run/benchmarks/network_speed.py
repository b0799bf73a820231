"""Compare the time of a forward pass and of a training step between networks.

The networks are 3D ResNets with and without SRTG, an MTConv network and torchvision's r3d_18. They
take turns, in rounds of one training step each, on the same clips and with the same optimiser (SGD,
Nesterov, fused). Times are medians over the rounds. `against` names the network that a step is
compared with. As the speed of a machine drifts, the two are compared round by round: `ratio` is the
median of the ratios, and half of them lie between `ratio_low` and `ratio_high`.

GMAC/s are the multiply-accumulates of a step divided by its time. torchvision's r3d_18 has several
times as many as ours, since it does not pool after its stem. Two more rows show the fastest single
3x3x3 convolution on this machine, and how close the convolutions of r3d_34 come to it.

--gpus 1 runs on the GPU, in mixed precision. --peer FOLDER also runs another implementation: a
module in FOLDER must have functions with the original's names, such as
`srtg_r3d_34(num_classes=10)` or `MTNet_s(num_classes=10)`.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from network import NetworkError, build_network
from network.cost import count_macs
from train.devices import Devices, open_devices

#: Network -> the network that its step is compared with.
AGAINST = {
    "r3d_34": "r3d_34",
    "srtg_r3d_34": "r3d_34",
    "mtnet_s": "r3d_34",
    "r3d_50": "r3d_50",
    "srtg_r3d_50": "r3d_50",
    "r3d_18": "torchvision r3d_18",
    "torchvision r3d_18": "torchvision r3d_18",
}
CLASSES = 10
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Clock = Callable[[], float]


def measure(args: argparse.Namespace) -> list[dict]:
    """Return a row for each network and two about convolutions, as the module's docstring says."""
    if args.threads:
        torch.set_num_threads(args.threads)
    with open_devices(args.gpus, "auto") as devices:
        return _measure_on(devices, args)


def _measure_on(devices: Devices, args: argparse.Namespace) -> list[dict]:
    batch, frames, size = args.shape
    names = args.networks or list(AGAINST)
    clock = _gpu_clock if devices.gpus else CLOCKS[args.clock]
    generator = torch.Generator().manual_seed(0)
    clips = torch.randn(batch, 3, frames, size, size, generator=generator).to(devices.device)
    labels = torch.randint(CLASSES, (batch,), generator=generator).to(devices.device)
    contenders = {name: _build(name) for name in names}
    if args.peer:
        contenders |= _peers(args.peer, names)
    steps = {
        name: _training_step(net.to(devices.device), clips, labels, clock, devices)
        for name, net in contenders.items()
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for turn in tqdm(range(args.rounds + 1), unit="round", desc="timing", disable=None):
        for name, step in steps.items():
            measured = step()
            if turn:  # the first round only warms up
                times[name].append(measured)
    rows = [_row(name, times) for name in times]
    for row in rows:  # a backward pass has twice the arithmetic of a forward pass
        macs = 3 * batch * count_macs(contenders[row["network"]], frames, size, size)
        row["GMAC/s"] = macs / 1e6 / row["step_ms"]
    return rows + _throughput(contenders, clips, clock, devices)


def _gpu_clock() -> float:
    """Wait until the GPU has done its queued work, then return the time in seconds."""
    torch.accelerator.synchronize()
    return time.perf_counter()


def _row(name: str, times: dict[str, list[tuple[float, float]]]) -> dict:
    forward, step = (1e3 * statistics.median(column) for column in zip(*times[name], strict=True))
    row = {"network": name, "forward_ms": forward, "step_ms": step}
    against = name.removeprefix("peer ") if name.startswith("peer ") else AGAINST.get(name, name)
    if against not in times:
        return row
    pairs = zip(times[name], times[against], strict=True)
    low, ratio, high = np.quantile([mine[1] / base[1] for mine, base in pairs], [0.25, 0.5, 0.75])
    return row | {"against": against, "ratio": ratio, "ratio_low": low, "ratio_high": high}


def _build(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "torchvision r3d_18":
        from torchvision.models.video import r3d_18

        return r3d_18(num_classes=CLASSES)
    return build_network(name, CLASSES)


def _training_step(
    net: nn.Module, clips: torch.Tensor, labels: torch.Tensor, clock: Clock, devices: Devices
) -> Callable[[], tuple[float, float]]:
    """Return a function that takes a step and returns the seconds of (forward pass, whole step)."""
    optimiser = torch.optim.SGD(
        net.train().parameters(),
        lr=0.01,
        momentum=0.9,
        nesterov=True,
        weight_decay=1e-4,
        fused=True,
    )

    def step() -> tuple[float, float]:
        start = clock()
        with devices.autocast():
            logits = net(clips).float()
        forward = clock() - start
        optimiser.zero_grad()
        F.cross_entropy(logits, labels).backward()
        optimiser.step()
        return forward, clock() - start

    return step


def _peers(folder: Path, names: list[str]) -> dict[str, nn.Module]:
    """Build the networks that a module in `folder` has a function for; call each "peer NAME".

    Raises:
        NetworkError: there is none.
    """
    found: dict[str, nn.Module] = {}
    with _importable(folder):
        for module in _modules(folder):
            builders = {
                key.lower(): value for key, value in vars(module).items() if callable(value)
            }
            for name in names:
                if name.lower() in builders and f"peer {name}" not in found:
                    torch.manual_seed(0)
                    found[f"peer {name}"] = builders[name.lower()](num_classes=CLASSES)
    if not found:
        raise NetworkError(f"{folder}: no module there has a function named as {', '.join(names)}")
    return found


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder.resolve()))
    try:
        yield
    finally:
        sys.path.remove(str(folder.resolve()))


def _modules(folder: Path) -> Iterator[object]:
    """Yield every module in the folder and in its packages that can be imported."""
    for info in pkgutil.walk_packages([str(folder)], onerror=lambda name: None):
        try:
            yield importlib.import_module(info.name)
        except Exception as trouble:  # a module of others can fail in any way
            tqdm.write(f"peer: {info.name} cannot be imported ({trouble})")


def _throughput(
    contenders: dict[str, nn.Module], clips: torch.Tensor, clock: Clock, devices: Devices
) -> list[dict]:
    """Return a row for the fastest single convolution, and one for all those of r3d_34."""
    if "r3d_34" not in contenders:
        return []
    with devices.autocast():
        macs, seconds = _convolutions(contenders["r3d_34"], clips, clock)
        best = max(
            _single_rate(channels, side, clock, devices)
            for channels in (64, 128, 256)
            for side in (14, 28)
        )
    return [
        {"network": "best single convolution", "GMAC/s": best},
        {
            "network": "r3d_34's convolutions",
            "GMAC/s": macs / seconds / 1e9,
            "against": "best single convolution",
            "ratio": macs / seconds / 1e9 / best,
        },
    ]


def _convolutions(net: nn.Module, clips: torch.Tensor, clock: Clock) -> tuple[int, float]:
    """Return the multiply-accumulates of a network's convolutions and the seconds that they take.

    The seconds are those of the fastest of five forward passes.
    """
    macs, seconds, started = 0, 0.0, 0.0

    def before(module: nn.Module, inputs: tuple) -> None:
        nonlocal started
        started = clock()

    def after(module: nn.Conv3d, inputs: tuple, output: torch.Tensor) -> None:
        nonlocal macs, seconds
        seconds += clock() - started
        macs += output.numel() * module.weight[0].numel()

    hooks = []
    for module in net.modules():
        if isinstance(module, nn.Conv3d):
            hooks += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    passes = []
    with torch.no_grad():
        for _ in range(5):
            macs, seconds = 0, 0.0
            net(clips)
            passes.append(seconds)
    for hook in hooks:
        hook.remove()
    return macs, min(passes)


def _single_rate(channels: int, side: int, clock: Clock, devices: Devices) -> float:
    """Return the best GMAC/s of six 3x3x3 convolutions over (4, channels, 4, side, side)."""
    layer = nn.Conv3d(channels, channels, 3, padding=1, bias=False)
    layer = layer.to(devices.device, memory_format=torch.channels_last_3d)
    x = torch.randn(4, channels, 4, side, side, device=devices.device)
    x = x.to(memory_format=torch.channels_last_3d)
    best = 0.0
    with torch.no_grad():
        for _ in range(6):
            start = clock()
            output = layer(x)
            seconds = clock() - start
            best = max(best, output.numel() * layer.weight[0].numel() / seconds / 1e9)
    return best
