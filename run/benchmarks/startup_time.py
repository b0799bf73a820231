"""Compare the time that `--help` takes with the time that importing torch takes.

The commands import torch only after they have read and checked their options, so `--help` should
take less than 0.4 of the time of `import torch`. Each command is started in a new Python process,
alternating with `import torch`. Times are medians.
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


def measure(args: argparse.Namespace) -> list[dict]:
    """Return a row for each command: command, help_s, import_torch_s, ratio."""
    helps: dict[str, list[float]] = {command: [] for command in COMMANDS}
    imports: list[float] = []
    for repeat in range(args.repeats + 1):
        torch = seconds("-c", "import torch")
        times = {command: seconds(*command.split(), "--help") for command in COMMANDS}
        if repeat:  # the first round is not counted: it reads the files from the disk
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
    """Run `python <words>` in a new process and return how many seconds it took."""
    since = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - since
