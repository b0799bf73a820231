"""Compare the time of exported networks with that of torch, on the CPU.

Each network answers the same uint8 clips in three ways, which take turns: torch, the program of
torch.export, and onnxruntime on the ONNX file, with equally many threads. Normalisation is part of
all. Times are medians over the rounds. `ratio` is the median over the rounds of a way's time
divided by torch's in the same round; half of the ratios lie between `ratio_low` and `ratio_high`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from network import build_network
from run.export import check_packages
from run.exporting.agreement import Answer
from run.exporting.clip_axes import clip_axes, random_clips
from run.exporting.exported_network import ExportedNetwork
from run.exporting.formats import FORMATS

CLASSES = 10
WAYS = {"torch": "torch.export", "onnx": "onnxruntime"}


def measure(args: argparse.Namespace) -> list[dict]:
    """Return a row for each network and way, as the module's docstring says."""
    check_packages(list(WAYS))
    if args.threads:
        torch.set_num_threads(args.threads)
    return [row for name in args.networks for row in _measure_network(name, args)]


def _measure_network(name: str, args: argparse.Namespace) -> list[dict]:
    batch, frames, size = args.shape
    torch.manual_seed(0)
    net = ExportedNetwork(build_network(name, CLASSES)).eval().requires_grad_(False)
    clips = random_clips((batch, frames, size, size))
    ways: dict[str, Answer] = {"torch": lambda clips: net(torch.from_numpy(clips)).numpy()}
    with tempfile.TemporaryDirectory() as folder:
        for file_format, way in WAYS.items():
            path = Path(folder, f"x{FORMATS[file_format].suffix}")
            FORMATS[file_format].write(net, clip_axes(name, file_format, frames, size), {}, path)
            ways[way] = FORMATS[file_format].answer(path)
    times: dict[str, list[float]] = {way: [] for way in ways}
    for turn in tqdm(range(args.rounds + 1), unit="round", desc=name, disable=None):
        for way, answer in ways.items():
            start = time.perf_counter()
            answer(clips)
            if turn:  # the first round only warms up
                times[way].append(time.perf_counter() - start)
    return [_row(name, way, times) for way in ways]


def _row(name: str, way: str, times: dict[str, list[float]]) -> dict:
    pairs = zip(times[way], times["torch"], strict=True)
    low, ratio, high = np.quantile([mine / base for mine, base in pairs], [0.25, 0.5, 0.75])
    return {
        "network": name,
        "way": way,
        "ms": 1e3 * statistics.median(times[way]),
        "ratio": float(ratio),
        "ratio_low": float(low),
        "ratio_high": float(high),
    }
