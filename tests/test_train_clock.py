"""How long a run takes: times of steps and epochs, the time left, when last.pth is due."""

import csv
import json
import math
import signal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runs import NETWORK, command, csv_rows, folder, train_until

import train.loop as engine
from data.clips.loader import StepPlan
from run.command_line import parse_config
from train import run_clock
from train.config import Config
from train.run_clock import RunClock, StepTimes, duration
from train.save_clock import SaveClock
from train.schedule.steps_table import make_schedule


def schedule(**options):
    words = {"batch_size": 4, "clip_length": 8, "clip_size": 64, "end_epoch": 3, "lr_base": 0.1}
    return make_schedule(Config(**{**words, "lr_steps": [2], "multigrid": "off", **options}), 16)


def test_the_time_of_steps_follows_their_clips_and_shapes():
    times, table = StepTimes(), schedule().table
    assert math.isnan(times.seconds(table)) and times.seconds(table[:0]) == 0
    times.add(StepPlan(1, 0, 4, 8, 64), 2.0)
    assert times.seconds(table) == pytest.approx(12 * 2.0)
    # a shape that nobody has timed: as many pixels a second as the others
    assert times.seconds_a_clip(4, 32) == pytest.approx(0.5 / 8)
    times.add(StepPlan(1, 0, 8, 4, 32), 4.0)
    assert times.seconds_a_clip(4, 32) == 0.5 == times.seconds_a_clip(8, 64)


def test_late_steps_count_more_than_early_ones():
    times = StepTimes()
    for seconds in [1.0] * 100 + [3.0] * 100:
        times.add(StepPlan(1, 0, 1, 8, 64), seconds)
    assert 2.6 < times.seconds_a_clip(8, 64) < 3


def test_the_first_step_of_a_process_counts_until_there_is_another():
    clock, step = RunClock(), StepPlan(1, 0, 4, 8, 64)
    clock.add_step(step, 100.0)
    assert clock.step_times.seconds_a_clip(8, 64) == 25
    clock.add_step(step, 4.0)
    assert clock.step_times.seconds_a_clip(8, 64) == 1


@pytest.mark.parametrize(("every", "validations"), [(1, 3), (2, 2), (3, 1), (9, 1)])
def test_the_time_left_has_steps_validations_and_ends_of_epochs(every, validations):
    clock, plan = RunClock(val_clips=6), schedule()
    assert math.isnan(clock.seconds_left(plan, 0, epoch=1, every=every))
    clock.add_step(plan.plan(0), 2.0)
    # six clips of validation at a third of the half second of a training clip
    assert clock.seconds_left(plan, 0, epoch=1, every=every) == pytest.approx(24 + validations)
    clock.validation, clock.saving = 10.0, 5.0
    left = clock.seconds_left(plan, 3, epoch=1, every=every)
    assert left == pytest.approx(18 + 10 * validations + 15)
    assert clock.seconds_left(plan, 12, epoch=4, every=every) == 0


def test_the_times_of_earlier_processes_are_added(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(run_clock.time, "monotonic", lambda: now[0])
    clock = RunClock()
    now[0] += 5  # prepares
    clock.begin_training()
    now[0] += 7
    assert (clock.spent, clock.epoch_seconds) == (12, 7)
    saved = clock.state_dict()
    again = RunClock()
    again.load_state_dict(json.loads(json.dumps(saved)))
    now[0] += 2
    assert (again.spent, again.epoch_seconds) == (14, 9)
    again.begin_epoch()
    now[0] += 1
    assert (again.spent, again.epoch_seconds) == (15, 1)
    again.load_state_dict({})  # of a checkpoint of an earlier version
    assert again.spent == 3


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (45.4, "45 s"), (99.4, "99 s"), (99.6, "2 min"), (3600, "60 min"),
     (5969, "99 min"), (5971, "1 h 40 min"), (172_000, "47 h 47 min"), (172_800, "2 d 0 h"),
     (math.nan, "unknown")],
)  # fmt: skip
def test_a_duration_reads_well(seconds, text):
    assert duration(seconds) == text


@given(st.floats(0, 1e9))
def test_a_duration_is_near_what_it_says(seconds):
    units = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
    words = duration(seconds).split()
    said = sum(int(n) * units[unit] for n, unit in zip(words[::2], words[1::2], strict=True))
    assert abs(said - seconds) <= max(0.51, 0.26 * seconds) and abs(said - seconds) <= 3600


def test_last_pth_is_due_at_first_and_then_by_time(monkeypatch, tmp_path):
    from train import save_clock

    now = [50.0]
    monkeypatch.setattr(save_clock.time, "monotonic", lambda: now[0])
    saved = SaveClock()
    assert saved.seconds == math.inf
    saved.saved_last(3)
    now[0] += 20
    assert (saved.step, saved.seconds, saved.newer) == (3, 20, None)
    saved.saved_epoch(6, tmp_path / "e.pth")
    assert (saved.step, saved.seconds, saved.newer) == (6, 20, tmp_path / "e.pth")
    saved.saved_last(7)
    assert (saved.step, saved.seconds, saved.newer) == (7, 0, None)


FAST = [
    "--workers",
    "0",
    "--clip-length",
    "2",
    "--clip-size",
    "16",
    "--batch-size",
    "8",
    "--multigrid",
    "off",
]


def options(tiny, out, *more):
    return command(tiny, out, *FAST, *more)[2:]


def test_short_epochs_write_last_pth_and_curves_at_first_and_at_the_end_only(
    tiny, tmp_path, monkeypatch, caplog
):
    """Each epoch's own checkpoint and the csv rows are written in every epoch."""
    seen = []
    finish = engine.finish_epoch

    def watched(run, recorder, scores):
        finish(run, recorder, scores)
        picture = folder(tmp_path) / "curves.png"
        state = torch.load(folder(tmp_path) / "last.pth", weights_only=True)
        own = (folder(tmp_path) / f"{NETWORK}_ep-{run.epoch - 1:04d}.pth").exists()
        rows = len(csv_rows(folder(tmp_path) / "train_results.csv"))
        seen.append((state["epoch"], picture.stat().st_mtime_ns, own, rows))

    monkeypatch.setattr(engine, "finish_epoch", watched)
    caplog.set_level("INFO")
    words = ["--end-epoch", "3", "--epoch-save-seconds", "9999", "--tensorboard", "False"]
    engine.train(parse_config("custom", options(tiny, tmp_path, *words)))
    saved, drawn, own, rows = zip(*seen, strict=True)
    assert saved == (1, 1, 3) and all(own) and rows == (1, 2, 3)
    assert drawn[0] == drawn[1] < drawn[2]
    with (folder(tmp_path) / "val_results.csv").open() as file:
        table = list(csv.DictReader(file))
    assert list(table[0])[:4] == ["Epoch", "Top1", "Top5", "Loss"]
    assert all(float(row["Seconds"]) > 0 for row in table)
    assert float(table[0]["SecondsLeft"]) > 0 == float(table[-1]["SecondsLeft"])
    best = [max(float(row["Top1"]) for row in table[: n + 1]) for n in range(3)]
    assert [float(row["BestTop1"]) for row in table] == best
    log = (folder(tmp_path) / "train.log").read_text()
    assert log.count(" | best top1 ") == 3 and log.count(" left\n") == 2


def test_a_signal_between_two_saves_loses_no_step(tiny, tmp_path):
    words = [*FAST, "--end-epoch", "500", "--epoch-save-seconds", "9999"]
    assert train_until(tiny, tmp_path, 5, signal.SIGTERM, *words) == 143
    state = torch.load(folder(tmp_path) / "last.pth", weights_only=True)
    assert state["step"] >= 5 and (folder(tmp_path) / "curves.png").exists()
    assert state["epoch"] == len(csv_rows(folder(tmp_path) / "train_results.csv"))
    assert state["clock"]["spent"] > state["clock"]["epoch"] >= 0
