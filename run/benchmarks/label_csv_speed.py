"""Compare ways to hold a label csv of a million rows: numpy arrays (ours) and Python objects.

It measures the time and memory of loading, in a process of its own for each way, and how much
memory each loader worker takes. Workers are forked and share the table's memory with the main
process until either of them writes to it. Reading a Python object changes its reference count and
so copies it to the worker; reading an array copies nothing.
"""

from __future__ import annotations

import argparse
import csv
import gc
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from data.annotations.label_csv import load_labels

MIB = 2**20


def measure(args: argparse.Namespace) -> list[dict]:
    """Return a row for each way.

    cpu_s is the CPU time of loading; peak_mb and kept_mb are the memory that loading takes at its
    peak and in the end. growth_mb_a_worker is the memory that a worker takes for itself by reading
    every row once, and growth_percent its share of kept_mb. All are medians.
    """
    spawn = multiprocessing.get_context("spawn")
    results: dict[str, list[dict]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        path = write_csv(Path(folder) / "x_train.csv", args.rows)
        for _ in range(args.repeats):
            for way in WAYS:
                with spawn.Pool(1) as pool:
                    results[way].append(pool.apply(measure_one, (way, path)))
        for way, runs in results.items():
            receiver, sender = spawn.Pipe(duplex=False)
            process = spawn.Process(target=measure_workers, args=(way, path, args.workers, sender))
            process.start()
            growth = receiver.recv()
            process.join()
            runs[0]["growth_mb_a_worker"] = growth
    rows = []
    for way, runs in results.items():
        row = {"way": way, "rows": args.rows}
        for key in ("cpu_s", "peak_mb", "kept_mb"):
            row[key] = statistics.median(run[key] for run in runs)
        row["growth_mb_a_worker"] = runs[0]["growth_mb_a_worker"]
        row["growth_percent"] = 100 * row["growth_mb_a_worker"] / row["kept_mb"]
        rows.append(row)
    return rows


def write_csv(path: Path, rows: int) -> Path:
    """Write a csv in the format of Kinetics' training list, and return its path."""
    with path.open("w") as file:
        file.write("label,youtube_id,time_start,time_end,split\n")
        for n in range(rows):
            start = n % 290
            file.write(f"class number {n * 7919 % 700},{n * 7919 % 10**11:011d},")
            file.write(f"{start},{start + 10},train\n")
    return path


def as_objects(path: Path) -> list[tuple[str, int]]:
    """Load the csv as a list of (folder, label)."""
    numbers: dict[str, int] = {}
    with path.open(newline="") as file:
        return [
            (
                f"{row['youtube_id']}_{int(row['time_start']):06d}_{int(row['time_end']):06d}",
                numbers.setdefault(row["label"], len(numbers)),
            )
            for row in csv.DictReader(file)
        ]


def read_objects(table: list[tuple[str, int]]) -> int:
    """Read every row of the list."""
    return sum(len(name) + label for name, label in table)


def read_arrays(table) -> int:
    """Read every row of the arrays, one by one, as a loader does."""
    return sum(len(table.ids[i]) + int(table.labels[i]) for i in range(len(table)))


WAYS: dict[str, tuple[Callable, Callable]] = {
    "arrays (ours)": (load_labels, read_arrays),
    "Python objects": (as_objects, read_objects),
}


def measure_one(way: str, path: Path) -> dict:
    """Load the csv in one way; return cpu_s, peak_mb and kept_mb. Call it in a new process."""
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    reset_peak()
    start = time.process_time()
    table = WAYS[way][0](path)
    spent = time.process_time() - start
    peak = peak_rss()
    gc.collect()
    kept = process.memory_info().rss
    assert WAYS[way][1](table) > 0
    return {
        "cpu_s": spent,
        "peak_mb": (peak - before) / MIB,
        "kept_mb": max(kept - before, MIB) / MIB,
    }


def reset_peak() -> None:
    """Reset the kernel's record of this process's peak memory (Linux: clear_refs in proc(5))."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_rss() -> int:
    """Return the peak memory of this process, or since `reset_peak`, in bytes (Linux: proc(5))."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("no VmHWM in /proc/self/status")


def measure_workers(way: str, path: Path, workers: int, sender) -> None:
    """Send to the pipe how many MB of its own (median) a forked worker needs to read every row.

    The memory of a worker that reads nothing is subtracted.
    """
    load, read = WAYS[way]
    table = load(path)
    fork = multiprocessing.get_context("fork")

    def work(pipe, busy: bool) -> None:
        if busy:
            read(table)
        pipe.send(psutil.Process().memory_full_info().uss)
        pipe.recv()  # wait until all are measured: pages of an ended process would not be shared

    def own_memory(busy: bool) -> list[int]:
        pipes = [fork.Pipe() for _ in range(workers)]
        processes = [fork.Process(target=work, args=(child, busy)) for _, child in pipes]
        for process in processes:
            process.start()
        memory = [parent.recv() for parent, _ in pipes]
        for parent, _ in pipes:
            parent.send(None)
        for process in processes:
            process.join()
        return memory

    idle, busy = statistics.median(own_memory(False)), statistics.median(own_memory(True))
    sender.send(max(busy - idle, 0) / MIB)
