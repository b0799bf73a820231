"""Measure networks, training step and multigrid on this machine's GPU, and write docs/gpu.md.

`make gpu` first runs the tests that need a GPU. Together they take about ten minutes. The page
names the device, its driver, the version of torch and the date; with --tests also the outcome of
the tests, which is read from the file that pytest wrote.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import platform
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import torch

from run.benchmarks.options import BENCHMARKS
from run.tables import markdown_table, text_cells
from train.devices import open_devices
from train.train_errors import TrainError

#: Benchmark -> its options: clips and networks large enough for a GPU, and few repetitions, so that
#: all of them take a few minutes.
RUNS = {
    "networks": "--gpus 1 --shape 8 16 112 --rounds 10",
    "step": "--shape 16 16 112 --network srtg_r3d_34 --epochs 2 --scale 0.2",
    "multigrid": "--policies epoch --seeds 1 --epochs 8 --scale 0.5",
}
TITLES = {
    "networks": "Networks, a training step in mixed precision",
    "step": "The training loop",
    "multigrid": "With and without multigrid",
}


def measure(args: argparse.Namespace) -> list[dict]:
    """Run the three benchmarks, write the page, and return all their rows.

    Raises:
        TrainError: this machine has no GPU. The page is not changed then.
    """
    with open_devices(None, "auto") as devices:
        if not devices.gpus:
            raise TrainError(f"this machine has no GPU: {args.out} stays as it is")
        facts = machine(devices.describe())
    if args.tests:
        facts["tests marked gpu"] = outcome(args.tests)
    results = {name: _run(name, words, args.root) for name, words in RUNS.items()}
    write_page(args.out, facts, results)
    return [{"benchmark": name, **row} for name, rows in results.items() for row in rows]


def _run(name: str, words: str, root: Path) -> list[dict]:
    benchmark = BENCHMARKS[name]
    parser = argparse.ArgumentParser()
    benchmark.add_options(parser)
    options = words.split()
    if name != "networks":
        options += ["--root", str(root)]
    if name == "multigrid":
        options += ["--png", str(root / "multigrid.png")]
    module = importlib.import_module(f"run.benchmarks.{benchmark.module}")
    return module.measure(parser.parse_args(options))


def machine(device: str) -> dict[str, str]:
    """Return facts about this machine: device, driver, libraries, processor, date."""
    return {
        "device": device,
        "driver": driver(),
        "torch": torch.__version__,
        "CUDA": torch.version.cuda or "none",
        "cuDNN": str(torch.backends.cudnn.version()),
        "processor": platform.processor() or platform.machine(),
        "Python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }


def driver() -> str:
    """Return the version of the GPU's driver, or "unknown"."""
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(words, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    versions = sorted(set(answer.stdout.split()))
    return ", ".join(versions) if answer.returncode == 0 and versions else "unknown"


def outcome(junit: Path) -> str:
    """Return how many tests passed, failed (with their names) and were skipped, as text.

    Raises:
        TrainError: the file is missing, or is not one that pytest --junit-xml wrote.
    """
    try:
        cases = list(ElementTree.parse(junit).iter("testcase"))
    except (OSError, ElementTree.ParseError) as error:
        raise TrainError(f"--tests {junit}: cannot be read ({error})") from None
    children = {case.get("name"): {child.tag for child in case} for case in cases}
    failed = sorted(name for name, tags in children.items() if tags & {"failure", "error"})
    skipped = sum("skipped" in tags for tags in children.values())
    passed = len(children) - len(failed) - skipped
    names = f" ({', '.join(failed)})" if failed else ""
    return f"{passed} passed, {len(failed)} failed{names}, {skipped} skipped"


def write_page(path: Path, facts: dict[str, str], results: dict[str, list[dict]]) -> None:
    """Write the page: the facts, then the command and the table of each benchmark."""
    parts = ["# On a GPU\n\nWritten by `make gpu`; the command above each table prints it alone.\n"]
    parts += [*markdown_table(("what", ""), facts.items()), ""]
    for name, rows in results.items():
        parts.append(f"## {TITLES[name]}\n\n`python -m run.benchmark {name} {RUNS[name]}`\n")
        names, *cells = text_cells(rows)
        parts += [*markdown_table(names, cells), ""]
    path.write_text("\n".join(parts), encoding="utf-8")
