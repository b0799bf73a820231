"""`python -m run.doctor` says whether this machine can be used, and convolutions are compared."""

import re

import pytest
import torch.nn.functional as F

from data.store.ffmpeg import ffmpeg_executable
from run import doctor
from run.checks import machine
from run.checks.convolutions import judge_accuracy, judge_speed, known_trouble
from run.checks.finding import Finding, as_lines, worst
from run.exit_codes import command
from train.convolution_check import Speed, measure_accuracy
from train.devices import open_devices


def test_this_machine_can_be_used(capsys):
    assert command(lambda: doctor.main(["--gpus", "0"])) == 0
    said = capsys.readouterr().out
    for subject in ("versions", "ffmpeg", "cores", "disk", "numbers, fp32", "speed, fp32"):
        assert re.search(rf"^(ok|warning) +{subject}", said, re.M), subject
    assert "convolutions agree with float64" in said


def test_a_broken_ffmpeg_is_an_error(tmp_path, monkeypatch, capsys, request):
    script = tmp_path / "ffmpeg"
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    request.addfinalizer(ffmpeg_executable.cache_clear)
    ffmpeg_executable.cache_clear()
    (found,) = (f for f in machine.check_machine(tmp_path) if f.subject == "ffmpeg")
    assert found.level == "error" and "does not run" in found.text and found.remedy
    monkeypatch.setattr("run.checks.convolutions.check_torch", lambda gpus: [])  # saves seconds
    with pytest.raises(SystemExit) as stop:
        doctor.main(["--gpus", "0"])
    assert stop.value.code == 2
    assert "would fail" in capsys.readouterr().out


def rounded(clips, weights, **options):
    """A convolution that rounds its factors far too much."""
    return F.conv3d((clips * 2).round() / 2, weights, **options)


def first_half(clips, weights, **options):
    """A convolution that is wrong in channels last only, in its last channel only."""
    result = F.conv3d(clips, weights, **options)
    if clips.is_contiguous():
        return result
    return (
        result * (result.new_ones(result.shape[1]).cumsum(0) < result.shape[1])[:, None, None, None]
    )


@pytest.mark.parametrize("broken", [rounded, first_half])
def test_wrong_numbers_are_found(broken):
    with open_devices(0, "fp32") as devices:
        good = measure_accuracy(devices)
        bad = measure_accuracy(devices, broken)
    assert all(row.right for row in good if not row.trouble)
    in_channels_last = [row for row in bad if row.layout == "channels last" and not row.trouble]
    assert in_channels_last and not any(row.right for row in in_channels_last)
    level = {f.subject: f.level for f in judge_accuracy(bad, "fp32")}
    assert level["numbers, fp32"] == "error" and level["numbers, bf16"] == "warning"
    assert worst(judge_accuracy(good, "fp32")) in ("ok", "note")


def test_a_format_that_cannot_run_is_no_error_unless_it_is_used():
    def no_halves(clips, weights, **options):
        if clips.element_size() == 2:
            raise RuntimeError("not implemented\nfor this device")
        return F.conv3d(clips, weights, **options)

    with open_devices(0, "fp32") as devices:
        rows = measure_accuracy(devices, no_halves)
    assert {f.subject: f.level for f in judge_accuracy(rows, "fp32")} == {
        "numbers, fp32": "ok", "numbers, bf16": "note", "numbers, fp16": "note",
    }  # fmt: skip
    assert judge_accuracy(rows, "bf16")[1].level == "error"


def speeds(**times: float) -> list[Speed]:
    return [
        Speed(name, layout, ms, 2000.0 if name == "fp16" else 500.0)
        for name, ms in times.items()
        for layout in ("contiguous", "channels last")
    ]


def test_slow_half_precision_is_a_warning_on_a_gpu_only():
    rows = speeds(fp32=10.0, bf16=40.0)
    assert [f.level for f in judge_speed(rows, on_gpu=True, default="bf16")] == ["ok", "warning"]
    assert [f.level for f in judge_speed(rows, on_gpu=False, default="fp32")] == ["ok", "note"]
    (_, of_memory) = judge_speed(speeds(fp32=10.0, fp16=5.0), on_gpu=True, default="fp16")
    assert of_memory.level == "warning" and "4.0 times the memory" in of_memory.text


@pytest.mark.parametrize(
    ("version", "cudnn", "known"),
    [
        ("2.9.1+cu128", 91002, True), ("2.9.0", 90800, True), ("2.9.1", 91500, False),
        ("2.10.0", 91002, False), ("2.14.1+cu130", 92400, False), ("2.9.0+cpu", None, False),
    ],
)  # fmt: skip
def test_releases_with_known_trouble(version, cudnn, known):
    assert bool(known_trouble(version, cudnn)) is known


def test_too_little_of_something_is_a_warning_with_a_remedy(tmp_path, monkeypatch):
    for check, limit in (
        (machine.shared_memory, "ENOUGH_SHARED_MEMORY"),
        (machine.free_disk, "ENOUGH_DISK"),
    ):
        monkeypatch.setattr(machine, limit, 0)
        assert check(tmp_path).level == "ok"
        monkeypatch.setattr(machine, limit, 2**80)
        assert check(tmp_path).level == "warning" and check(tmp_path).remedy


def test_findings_as_lines():
    bad = Finding("error", "bcd", "bad", "mend it", ("here", "there", "x", "y", "z"))
    assert as_lines([Finding("ok", "a", "fine"), bad]).splitlines() == [
        "ok       a    fine", "error    bcd  bad", *(" " * 14 + word for word in ("here", "there",
        "x", "and 2 more", "-> mend it")),
    ]  # fmt: skip
