"""Time `--help` of a training script and of the commands against importing torch.

Options are read, and what they name is looked for, before torch is imported. Each command runs in a
new interpreter, in turn with `import torch`; times are medians, and the ratio should be below 0.4.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
COMMANDS = ("train_ucf101.py", "-m run.convert", "-m run.plan", "-m run.evaluate", "-m run.predict")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--repeats", type=int, default=5, help="how often each command is run")


def measure(args: argparse.Namespace) -> list[dict]:
    """Rows of command, help_s, import_torch_s, ratio."""
    helps: dict[str, list[float]] = {command: [] for command in COMMANDS}
    imports: list[float] = []
    for repeat in range(args.repeats + 1):
        torch = seconds("-c", "import torch")
        times = {command: seconds(*command.split(), "--help") for command in COMMANDS}
        if repeat:  # the first round reads the files from the disk
            imports.append(torch)
            for command, taken in times.items():
                helps[command].append(taken)
    torch = statistics.median(imports)
    return [
        {
            "command": f"python {command} --help",
            "help_s": statistics.median(times),
            "import_torch_s": torch,
            "ratio": statistics.median(times) / torch,
        }
        for command, times in helps.items()
    ]


def seconds(*words: str) -> float:
    """Run `python <words>` in a new interpreter; return the seconds until it has ended."""
    since = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - since
