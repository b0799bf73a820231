"""What this machine's GPU does: networks, training step and multigrid on it, as docs/gpu.md.

`make gpu` runs the tests that need a GPU, then this, within about ten minutes. The page names the
device, its driver, torch and the day; --tests adds the outcome of the tests, from pytest's file.
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

from run.benchmark import BENCHMARKS
from train.devices import open_devices
from train.train_errors import TrainError

#: Benchmark -> what it is run with: clips and networks that a GPU needs some time for, and few
#: repetitions, so that all of it takes a few minutes.
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the page goes, and the tests' outcome."""
    parser.add_argument("--root", type=Path, default=Path("demo"), help="default: demo")
    parser.add_argument("--out", type=Path, default=Path("docs/gpu.md"), help="the page")
    parser.add_argument("--tests", type=Path, help="pytest's --junit-xml of the tests marked gpu")


def measure(args: argparse.Namespace) -> list[dict]:
    """All rows of the three benchmarks, each with its name; writes the page.

    Raises:
        TrainError: this machine has no GPU; the page stays as it is.
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
    module = importlib.import_module(f"run.benchmarks.{BENCHMARKS[name][0]}")
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    options = words.split()
    if name != "networks":
        options += ["--root", str(root)]
    if name == "multigrid":
        options += ["--png", str(root / "multigrid.png")]
    return module.measure(parser.parse_args(options))


def machine(device: str) -> dict[str, str]:
    """What was measured on: device, driver, libraries, processor and day."""
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
    """The version of the GPU's driver, or "unknown"."""
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(words, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    versions = sorted(set(answer.stdout.split()))
    return ", ".join(versions) if answer.returncode == 0 and versions else "unknown"


def outcome(junit: Path) -> str:
    """How many tests passed, failed (by name) and were skipped, from pytest's file.

    Raises:
        TrainError: the file is missing or is no such file.
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
    """The page: the facts, and a table and its command for each benchmark."""
    parts = ["# On a GPU\n\nWritten by `make gpu`; the command above each table prints it alone.\n"]
    parts.append(markdown([{"what": name, "": value} for name, value in facts.items()]))
    for name, rows in results.items():
        parts.append(f"## {TITLES[name]}\n\n`python -m run.benchmark {name} {RUNS[name]}`\n")
        parts.append(markdown(rows))
    path.write_text("\n".join(parts), encoding="utf-8")


def markdown(rows: list[dict]) -> str:
    """Rows of equal or differing keys as a table; floats with four digits."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [
        [f"{v:.4g}" if isinstance(v := row.get(c, ""), float) else str(v) for c in columns]
        for row in rows
    ]
    lines = [columns, ["---"] * len(columns), *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
