"""Time the networks' forward pass and training step side by side: plain, srtg, mtnet, torchvision.

All networks take turns in one process, each on the same clip and with the same optimiser (SGD,
Nesterov, fused); times are medians over the rounds. `ratio` is the median over the rounds of the
step's time over that of the network named in `against` in the same round, from `ratio_low` to
`ratio_high` the middle half of them: a machine's own pace drifts by more than what is looked for.
GMAC/s is the nominal arithmetic of a step over its time (torchvision's r3d_18 does not pool behind
its stem and has several times the arithmetic of ours). Also there: the
machine's best convolution rate, found by timing 3x3x3 convolutions alone, and the share of it that
r3d_34's own convolutions reach.

--gpus 1 times them on the GPU, in mixed precision; each time then waits for the GPU to finish.

--peer FOLDER times another implementation beside ours: FOLDER (or a package or module inside it)
must offer functions named as the originals\', `srtg_r3d_34(num_classes=...)`, `MTNet_s(...)`.
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

#: Network -> the one that its step is compared with.
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    shape = ("BATCH", "FRAMES", "SIZE")
    parser.add_argument("--shape", type=int, nargs=3, default=(4, 8, 112), metavar=shape)
    parser.add_argument("--rounds", type=int, default=15, help="turns of each (default: 15)")
    parser.add_argument("--threads", type=int, help="threads of torch (default: its own choice)")
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="cpu, with --threads 1, also tells the truth beside other jobs",
    )
    parser.add_argument("--gpus", type=int, default=0, choices=(0, 1), help="1: on the GPU")
    parser.add_argument("--networks", nargs="*", default=list(AGAINST), help="which, by name")
    parser.add_argument("--peer", type=Path, help="folder of another implementation")


def measure(args: argparse.Namespace) -> list[dict]:
    """Rows of network, forward_ms, step_ms, against, ratio; the last says what the machine can."""
    if args.threads:
        torch.set_num_threads(args.threads)
    with open_devices(args.gpus, "auto") as devices:
        return _measure_on(devices, args)


def _measure_on(devices: Devices, args: argparse.Namespace) -> list[dict]:
    batch, frames, size = args.shape
    clock = _gpu_clock if devices.gpus else CLOCKS[args.clock]
    generator = torch.Generator().manual_seed(0)
    clips = torch.randn(batch, 3, frames, size, size, generator=generator).to(devices.device)
    labels = torch.randint(CLASSES, (batch,), generator=generator).to(devices.device)
    contenders = {name: _build(name) for name in args.networks}
    if args.peer:
        contenders |= _peers(args.peer, args.networks)
    steps = {
        name: _training_step(net.to(devices.device), clips, labels, clock, devices)
        for name, net in contenders.items()
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for turn in tqdm(range(args.rounds + 1), unit="round", desc="timing", disable=None):
        for name, step in steps.items():
            measured = step()
            if turn:  # the first turn warms up
                times[name].append(measured)
    rows = [_row(name, times) for name in times]
    for row in rows:  # a backward pass is two forward passes' arithmetic
        macs = 3 * batch * count_macs(contenders[row["network"]], frames, size, size)
        row["GMAC/s"] = macs / 1e6 / row["step_ms"]
    return rows + _throughput(contenders, clips, clock, devices)


def _gpu_clock() -> float:
    """The time, once the GPU has done what it was given."""
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
    """A function that trains one step and gives its (forward, whole) time in seconds."""
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
    """{"peer NAME": net} of every asked name that some module in `folder` has a function for.

    Raises:
        NetworkError: the folder has none of them.
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
    """Every module in the folder and in its packages that can be imported."""
    for info in pkgutil.walk_packages([str(folder)], onerror=lambda name: None):
        try:
            yield importlib.import_module(info.name)
        except Exception as trouble:  # a peer\'s script may do or lack anything
            tqdm.write(f"peer: {info.name} cannot be imported ({trouble})")


def _throughput(
    contenders: dict[str, nn.Module], clips: torch.Tensor, clock: Clock, devices: Devices
) -> list[dict]:
    """Convolution rates in GMAC/s, forward: the best of single layers, and all of r3d_34\'s."""
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
    """(multiply-accumulates, seconds) spent in the convolutions of the quickest of five passes."""
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
    """GMAC/s, the best of five, of one 3x3x3 convolution over (4, channels, 4, side, side)."""
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
