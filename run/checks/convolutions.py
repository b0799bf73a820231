"""Findings about the 3D convolutions of torch on this machine: right numbers, sane speed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import torch

from run.checks.finding import ERROR, NOTE, OK, WARNING, Finding
from run.checks.machine import nvidia_gpus
from train.convolution_check import Accuracy, Speed, measure_accuracy, measure_speed
from train.devices import Devices, open_devices

SLOWER = 1.5  # times slower than fp32 contiguous is a warning; on a GPU it should be faster
MORE_MEMORY = 2.0  # times the memory of fp32
UPGRADE = "install torch 2.10 or newer (with cuDNN 9.15 or newer), or train with --precision {}"


def check_torch(gpus: int | None) -> list[Finding]:
    """Return findings about torch, its GPUs and its convolutions.

    Args:
        gpus: 0 checks the CPU; None checks the first GPU if there is one.
    """
    with open_devices(gpus, "auto", most=1) as devices:
        accuracy, speed = measure_accuracy(devices), measure_speed(devices)
        return [
            *_versions(devices),
            *judge_accuracy(accuracy, devices.precision),
            *judge_speed(speed, on_gpu=devices.on_gpu, default=devices.precision),
        ]


def _versions(devices: Devices) -> list[Finding]:
    cudnn = torch.backends.cudnn.version()
    parts = [f"torch {torch.__version__}", f"CUDA {torch.version.cuda}", f"cuDNN {cudnn}"]
    count = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
    text = f"{', '.join(parts)}; GPUs that torch can use: {count}; checked: {devices.describe()}"
    findings = [Finding(OK, "torch", text)]
    if not count and nvidia_gpus():
        text = "nvidia-smi shows GPUs, but torch cannot use them"
        remedy = "update the NVIDIA driver, or install the torch that fits it (pytorch.org)"
        findings.append(Finding(WARNING, "torch", text, remedy))
    return findings + (known_trouble(torch.__version__, cudnn) if devices.on_gpu else [])


def known_trouble(version: str, cudnn: int | None) -> list[Finding]:
    """Return a warning if this pair of releases is known to compute Conv3d in bf16 badly.

    Args:
        version: of torch.
        cudnn: number of cuDNN's release, such as 91002 for 9.10.2; None without cuDNN.
    """
    number = tuple(map(int, re.match(r"(\d+)\.(\d+)", version).groups()))
    release = (cudnn // 10_000, cudnn // 100 % 100) if cudnn else None
    if number == (2, 9) and release and (9, 8) <= release <= (9, 14):
        text = (
            f"torch {version} with cuDNN {release[0]}.{release[1]} is known to compute 3D "
            "convolutions in bf16 slowly, with up to 17 times the memory, and wrongly for large "
            "inputs (pytorch issues 163539, 166122, 166480)"
        )
        return [Finding(WARNING, "known trouble", text, UPGRADE.format("fp16"))]
    return []


def judge_accuracy(rows: Iterable[Accuracy], default: str) -> list[Finding]:
    """Return a finding for each precision; wrong numbers in the default precision are an error."""
    findings = []
    by_precision: dict[str, list[Accuracy]] = {}
    for row in rows:
        by_precision.setdefault(row.precision, []).append(row)
    for precision, results in by_precision.items():
        subject = f"numbers, {precision}"
        wrong = [row for row in results if not row.right and not row.trouble]
        absent = [row for row in results if row.trouble]
        if wrong:
            places = [
                f"{row.layer}, {row.layout}: off by {row.error:.2g}, rounding explains "
                f"{row.limit:g}"
                for row in wrong
            ]
            text = f"{len(wrong)} of {len(results)} convolutions are wrong"
            others = [p for p in by_precision if all(row.right for row in by_precision[p])]
            remedy = UPGRADE.format(others[0] if others else "fp32")
            level = ERROR if precision == default else WARNING
            findings.append(Finding(level, subject, text, remedy, tuple(places)))
        elif len(absent) == len(results):
            level = ERROR if precision == default else NOTE
            findings.append(Finding(level, subject, f"not on this device ({absent[0].trouble})"))
        else:
            ran = [row for row in results if not row.trouble]
            text = (
                f"{len(ran)} convolutions agree with float64 (largest error "
                f"{max(row.error for row in ran):.1e})"
            )
            for row in absent:
                text += f"; {row.layer}, {row.layout} could not run ({row.trouble})"
            findings.append(Finding(OK, subject, text))
    return findings


def judge_speed(rows: Iterable[Speed], *, on_gpu: bool, default: str) -> list[Finding]:
    """Return a finding for each precision: time and memory, compared with contiguous fp32.

    A CPU has no fast half-precision convolutions, and `--precision auto` chooses fp32 there, so
    slow ones are a warning only on a GPU.
    """
    rows = list(rows)
    findings = []
    base = next(row for row in rows if (row.precision, row.layout) == ("fp32", "contiguous"))
    for precision in dict.fromkeys(row.precision for row in rows):
        mine = [row for row in rows if row.precision == precision]
        text = "; ".join(map(_in_words, mine))
        ratio = max(row.time_ms for row in mine) / base.time_ms
        memory = max(row.memory_mib for row in mine) / base.memory_mib
        level, remedy = OK, ""
        if ratio > SLOWER:
            text += f": up to {ratio:.1f} times as long as fp32"
            level = NOTE
            if on_gpu or precision == default:
                level, remedy = WARNING, UPGRADE.format("fp32" if precision != "fp32" else "auto")
        if memory > MORE_MEMORY:  # never with nan
            text += f": up to {memory:.1f} times the memory of fp32"
            level, remedy = WARNING, UPGRADE.format("fp32")
        findings.append(Finding(level, f"speed, {precision}", text, remedy))
    return findings


def _in_words(row: Speed) -> str:
    memory = "" if math.isnan(row.memory_mib) else f", {row.memory_mib:.0f} MiB"
    return f"{row.layout} {row.time_ms:.1f} ms{memory}"
