"""What --plan prints: recipe, steps, time, disk and warnings, without leaving anything."""

import re

import pytest
from runs import command, folder

from data.data_error import DataError
from run.command_line import parse_config
from run.plan import main as plan
from train import plan_report
from train.loop import train

WORDS = ["--recipe", "auto", "--workers", "0", "--plan", "--end-epoch", "3"]


@pytest.fixture
def planned(tiny, tmp_path, monkeypatch, capsys):
    """Prints the plan of a run on the small dataset; returns what was printed."""
    monkeypatch.setattr(plan_report, "PICTURE", tmp_path / "plan.png")

    def print_plan(*more: str) -> str:
        train(parse_config("custom", command(tiny, tmp_path / "out", *WORDS, *more)[2:]))
        return capsys.readouterr().out

    return print_plan


def test_it_prints_recipe_steps_time_disk_and_warnings(planned, tmp_path):
    said = planned()
    assert "recipe scratch: the original's options need 2,000 optimiser steps" in said
    assert "3 epochs of 14 clips, 12 steps" in said
    assert re.search(r"from step 0 on it takes about \d+ (s|min) on CPU, fp32, with val", said)
    assert "checkpoints will take 0." in said and "GB are free" in said
    assert "warning: the run has 12 optimiser steps" in said
    assert (tmp_path / "plan.png").stat().st_size > 10_000
    assert not folder(tmp_path / "out").exists()


def test_it_says_why_it_cannot_estimate_the_time(planned, monkeypatch):
    def fail(run):
        raise DataError("video3: its frames cannot be read")

    monkeypatch.setattr(plan_report, "time_steps", fail)
    assert "the time cannot be estimated: video3: its frames cannot be read" in planned()


def test_too_little_space_is_a_warning(planned, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("usage", (), {"free": 10**6}))
    assert "warning: checkpoints will take" in planned()


def test_without_data_it_names_the_recipe_but_no_time(capsys):
    plan(["--dataset-size", "180", "--end-epoch", "15"])
    said = capsys.readouterr().out
    assert "recipe scratch" in said and "345 steps" in said and "the time needs the data" in said
