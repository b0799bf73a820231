"""run.tune: the learning-rate range test, its suggestion, its picture, its refusals."""

import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from runs import command

from run import tune
from run.exit_codes import command as run_command
from train.config import Config
from train.learning_rate_finder import RangeTest, draw_range, smoothed, verdict

CONFIG = Config(network="r3d_18", optimiser="adamw", batch_size=8, lr_base=5e-4, recipe="scratch")
RATES = np.geomspace(1e-5, 1e-1, 100)
NOISE = 0.1 * np.sin(np.arange(100) * 2.7)


def curve(loss, noise=NOISE, *, until=100):
    losses = np.array([loss(rate) for rate in RATES])[:until] + noise[:until]
    return RangeTest(RATES[:until], losses, CONFIG, 1e-1)


def test_a_third_of_the_rate_from_which_the_loss_rises_is_suggested():
    falls = curve(lambda rate: 3 - min(1, 200 * rate) + max(0.0, 100 * (rate - 0.01)))
    assert falls.has_risen and falls.has_fallen and 0.009 < falls.limit < 0.015
    assert falls.suggestion == pytest.approx(falls.limit / 3, rel=0.05)
    said = verdict(falls, 61.0)
    assert f"--lr-base {falls.suggestion:g}\n" in said and "--batch-size 8" in said
    assert "--recipe scratch takes 0.0005" in said and "has not fallen" not in said


def test_a_loss_that_never_falls_shows_only_where_training_becomes_unstable():
    flat = curve(lambda rate: 2 + max(0.0, 100 * (rate - 0.01)))
    assert flat.has_risen and not flat.has_fallen and 0.008 < flat.limit < 0.015
    assert "where training becomes unstable" in verdict(flat, 5.0)


def test_a_loss_that_never_rises_asks_for_higher_rates():
    falling = curve(lambda rate: 3 - 20 * rate)
    assert not falling.has_risen and falling.suggestion == pytest.approx(0.1 / 3, rel=0.05)
    assert "try a higher --to" in verdict(falling, 5.0)


def test_a_test_that_ended_early_counts_as_risen():
    ended = curve(lambda rate: 2.0, until=60)  # then the loss was not finite
    assert ended.has_risen and ended.limit == RATES[59]


@given(st.lists(st.floats(0, 100), min_size=1, max_size=200))
def test_smoothed_losses_stay_within_their_bounds(values):
    losses = np.array(values)
    means = smoothed(losses)
    assert means.shape == losses.shape
    assert losses.min() - 1e-9 <= means.min() and means.max() <= losses.max() + 1e-9


def test_smoothing_does_not_shift_a_line():
    line = np.linspace(0, 1, 100)
    assert np.abs(smoothed(line) - line)[15:-15].max() < 1e-4


def test_the_picture_has_curve_and_suggestion(tmp_path):
    draw_range(curve(lambda rate: 3 - min(1, 200 * rate) + 30 * rate), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (840, 480) and len(set(picture.convert("L").tobytes())) > 20


SMALL = ["--workers", "0", "--clip-length", "2", "--clip-size", "16", "--batch-size", "4"]
SMALL += ["--augmentation", "none"]


def words(tiny, tmp_path, *more):
    given = command(tiny, tmp_path / "out", *SMALL)[2:]
    return [*given, "--png", str(tmp_path / "t.png"), "--json", str(tmp_path / "t.json"), *more]


def test_the_command_trains_draws_and_suggests(tiny, tmp_path, capsys):
    tune.main(words(tiny, tmp_path, "--steps", "20", "--minutes", "60", "--from", "1e-6"))
    content = json.loads((tmp_path / "t.json").read_text())
    rates = [row["lr"] for row in content["rows"]]
    assert rates[0] == pytest.approx(1e-6) and rates == sorted(rates) and len(rates) <= 20
    assert rates[-1] == pytest.approx(0.05) or len(rates) < 20  # a hundred times --lr-base
    assert f"--lr-base {content['suggestion']:g}\n" in capsys.readouterr().out
    assert (tmp_path / "t.png").exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--from", "1", "--to", "0.1"), "--from 1 --to 0.1: the first must be the lower one"),
        (("--minutes", "0.01", "--steps", "50000"), "show no curve: give --minutes"),
        (("--steps", "3"), "must be at least 20"),
        (("--from", "0"), "must be at least 1e-12"),
        (("--network", "r3d_19"), "unknown network 'r3d_19'"),
    ],
)
def test_bad_input_is_one_line(tiny, tmp_path, capsys, monkeypatch, more, said):
    if "--minutes" in more:  # the time of a step depends on the machine
        from train import learning_rate_finder
        from train.run_clock import StepTimes

        monkeypatch.setattr(learning_rate_finder, "time_steps", lambda run: None)
        monkeypatch.setattr(StepTimes, "seconds", lambda self, steps: 1.0)
    monkeypatch.setattr(sys, "argv", ["tune", *words(tiny, tmp_path, *more)])
    try:
        code = run_command(tune.main)
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2 and said in error
    assert [line[:7] for line in error.splitlines() if line.startswith("error")] == ["error: "]
    assert not (tmp_path / "out").exists() and not (tmp_path / "t.png").exists()
