"""--max-minutes and a moved --end-epoch: what fits, what is resumed, said and refused."""

import json
import shutil

import pytest
import torch
from runs import as_ranks, assert_same_results, command, csv_rows, folder, same_bits, start

import train.loop as engine
from data.clips.loader import StepPlan
from run.command_line import parse_config
from train import epoch_end, plan_report, step_timing, time_limit
from train.devices import open_devices
from train.loaders import batches_of_steps
from train.run_clock import RunClock
from train.setup import prepare
from train.speed_monitor import SpeedMonitor
from train.step import train_step
from train.time_limit import TimeLimit, fitted_parts
from train.train_errors import TrainError

SMALL = "--workers 0 --clip-length 2 --clip-size 16 --batch-size 4 --multigrid off --tensorboard"
WORDS = [*SMALL.split(), "False", "--lr-policy", "cosine", "--epoch-save-seconds", "9999"]
# batch norm over the two clips of a rank makes large gradients
CALM = ["--lr-base", "1e-5", "--clip-grad", "1"]
FIT = ["--end-epoch", "50", "--max-minutes", "10"]


def options(tiny, out, *more):
    return command(tiny, out, *WORDS, *more)[2:]


def train(tiny, out, *more):
    return engine.train(parse_config("custom", options(tiny, out, *more)))


@pytest.fixture
def new_run(tiny, tmp_path):
    """Makes runs in this process, before their first step."""
    with open_devices(0, "fp32") as devices:

        def make(*more, precision="fp32"):
            config = parse_config("custom", options(tiny, tmp_path, *more))
            with open_devices(0, precision) as those:
                return prepare(config, those if precision != "fp32" else devices)

        yield make


def slow(seconds_a_clip, *, times=1):
    """Stands in for timing steps: a clip takes so long. Fails when it is called more often."""
    calls = []

    def timed(run):
        run.clock.add_step = lambda plan, seconds: None  # real steps take what the machine takes
        calls.append(run.step)
        assert len(calls) <= times, "the steps are timed again"
        run.clock.step_times.add(StepPlan(1, 0, 1, 2, 16), seconds_a_clip)
        run.clock.validation, run.clock.saving = 2.0, 1.0

    return timed


# which schedule fits


def test_the_longest_schedule_that_fits_is_found(new_run):
    run = new_run("--end-epoch", "50")
    slow(1.0)(run)  # an epoch of 14 clips takes 14 s, and 3 s at its end
    assert fitted_parts(run, 50 * 17) == []
    assert fitted_parts(run, 50 * 17 - 1)[0][1] == pytest.approx(49 + 13 / 14)
    assert fitted_parts(run, 4 * 17 + 2.9)[0] == [0, 4, 50]
    assert fitted_parts(run, 4 * 17 + 3 + 8)[0] == [0, pytest.approx(4 + 8 / 14), 50]
    assert fitted_parts(run, 3 + 4)[0] == [0, pytest.approx(4 / 14), 50]
    with pytest.raises(
        TrainError, match=r"not enough for one step.*a step takes 4.0 s.*give at least 0\."
    ):
        fitted_parts(run, 3 + 3.5)


def test_validations_count_only_in_the_epochs_that_have_one(new_run):
    run = new_run("--end-epoch", "50", "--val-frequency", "5")
    slow(1.0)(run)
    assert fitted_parts(run, 9 * 15 + 2 * 2)[0] == [0, 9, 50]


def test_what_is_fitted_in_the_middle_of_a_run_begins_there(new_run):
    run = new_run("--end-epoch", "50")
    slow(1.0)(run)
    run.step, run.epoch = 9, 3  # of four steps an epoch: six clips of the third epoch are left
    assert fitted_parts(run, 10 + 3 + 17) == [[0, 50, 50], [9, 4, 50]]
    run.plan_anew([[0, 20, 50], [9, 4, 50]])
    assert fitted_parts(run, 10 + 3) == [[0, 20, 50], [9, 3, 50]]  # replaces what began here
    with pytest.raises(TrainError, match="not enough for one step"):
        fitted_parts(run, 1)
    ((_, _, _), last) = fitted_parts(run, 1, at_least_a_step=True)
    run.plan_anew([[0, 20, 50], last])
    assert run.schedule.total_steps == 10 and run.schedule.lr(9) < 0.03 * run.schedule.lr(0)


@pytest.mark.parametrize(("optimiser", "precision"), [("sgd", "fp32"), ("adamw", "fp16")])
def test_timing_steps_changes_nothing(new_run, optimiser, precision):
    words = ("--optimiser", optimiser, "--ema", "0.9", "--mixup", "0.2", "--multigrid", "epoch")
    runs = [new_run(*words, precision=precision) for _ in range(2)]
    before = torch.get_rng_state()
    step_timing.time_steps(runs[1])
    assert torch.equal(before, torch.get_rng_state())
    ends = []
    for run in runs:
        for batch in batches_of_steps(run, [0, 1]):
            train_step(run, batch, SpeedMonitor(run.devices.device))
            run.step += 1
        ends.append({**run.state_dict(), "clock": None})
    assert same_bits(*ends)
    times = runs[1].clock.step_times
    assert {*times._sums} == {(p.frames, p.size) for p in runs[1].schedule.largest_shapes()}
    assert 0 < runs[1].clock.seconds_left(runs[1].schedule, 0, epoch=1, every=1) < 1e4


# runs


class Enough(BaseException):
    """Ends a run in this process as abruptly as it can be done."""


def test_a_fitted_run_resumes_with_its_schedule_and_its_bits(tiny, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(time_limit, "time_steps", slow(10.0))  # 540 s: 3.8 epochs
    monkeypatch.setattr(epoch_end, "log_epoch", lambda *a, **k: None)
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    save = epoch_end.save_epoch

    def copied(where, *rest, **more):
        save(where, *rest, **more)
        if rest[-1]["epoch"] == 1:
            shutil.copytree(where, folder(parted))
            (folder(parted) / "train.lock").unlink()

    monkeypatch.setattr(epoch_end, "save_epoch", copied)
    train(tiny, whole, *FIT)
    (said,) = [line for line in caplog.messages if line.startswith("--max-minutes 10: the whole")]
    assert "would take about 1 h 59 min" in said and "compressed into 3.714 epochs" in said
    rates = [float(row["Lr"]) for row in csv_rows(folder(whole) / "train_results.csv")]
    assert len(rates) == 4 and rates[-1] < 0.02 * rates[0]
    last = torch.load(folder(whole) / "last.pth", weights_only=True)
    ((_, epochs, of),) = last["config"]["schedule_parts"]
    assert 3 < epochs < 4 and of == 50 and last["epoch"] == 4
    stored = json.loads((folder(whole) / "config.json").read_text())["options"]
    assert stored["schedule_parts"] == last["config"]["schedule_parts"]
    train(tiny, parted, *FIT, "--resume", "auto")  # must not time again
    assert_same_results(folder(whole), folder(parted))
    # without the option, the schedule stays as it was fitted
    train(tiny, parted, "--end-epoch", "50", "--resume", "auto")
    assert_same_results(folder(whole), folder(parted))
    # with more minutes, the run goes on
    monkeypatch.setattr(time_limit, "time_steps", slow(10.0))
    train(tiny, parted, "--end-epoch", "50", "--max-minutes", "13", "--resume", "auto")
    again = torch.load(folder(parted) / "last.pth", weights_only=True)
    assert "from step 15 on, the run is planned anew" in caplog.text
    assert again["epoch"] > 4 and len(again["config"]["schedule_parts"]) == 2


def test_a_run_that_is_too_slow_ends_in_good_order(tiny, tmp_path, monkeypatch, caplog):
    """It says so, the learning rate reaches its end, it is validated, everything is written."""
    caplog.set_level("INFO")
    monkeypatch.setattr(time_limit, "time_steps", slow(10.0))
    monkeypatch.setattr(time_limit, "PATIENCE", (0.0, 0.0))
    monkeypatch.setattr(time_limit, "LOOK_EVERY", 0.0)
    step, usual = engine.train_step, RunClock.spent
    late = []

    def taken(run, *rest):
        late[:] = [700.0] if run.step >= 5 else [0.0]  # the time is over after the sixth step
        return step(run, *rest)

    monkeypatch.setattr(engine, "train_step", taken)
    monkeypatch.setattr(
        RunClock, "spent", property(lambda clock: usual.fget(clock) + sum(late)), raising=True
    )
    train(tiny, tmp_path, *FIT)
    (said,) = [line for line in caplog.messages if "slower than it was estimated" in line]
    assert "it now ends after 1." in said and "in 1 steps" in said
    state = torch.load(folder(tmp_path) / "last.pth", weights_only=True)
    assert state["step"] == 7 and state["epoch"] == 2
    rows = [csv_rows(folder(tmp_path) / f"{part}_results.csv") for part in ("train", "val")]
    assert [len(table) for table in rows] == [2, 2]
    assert float(rows[0][1]["Lr"]) < 0.06 * float(rows[0][0]["Lr"])
    assert (folder(tmp_path) / "best.pth").exists()
    stored = json.loads((folder(tmp_path) / "config.json").read_text())["options"]
    assert stored["schedule_parts"] == state["config"]["schedule_parts"]
    assert [part[0] for part in stored["schedule_parts"]] == [0, 6]


def test_a_few_slow_steps_do_not_shorten_a_run(new_run, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time_limit.time, "monotonic", lambda: now[0])
    run = new_run(*FIT)
    left = [9999.0]
    monkeypatch.setattr(time_limit, "seconds_left", lambda run: left[0])
    limit = TimeLimit(run)  # of ten minutes: the patience is 30 s
    answers = []
    for seconds, estimate in [(20, 9999), (1, 10), (29, 9999), (0.5, 9999), (1, 9999), (29, 9999)]:
        now[0] += seconds
        left[0] = estimate
        answers.append(limit.is_too_short(run))
    assert answers == [False, False, False, False, True, False]
    run.step = run.schedule.total_steps - 1
    now[0] += 99
    assert not limit.is_too_short(run)


def test_minutes_below_one_step_are_one_line_and_leave_nothing(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(time_limit, "time_steps", slow(1000.0))
    with pytest.raises(TrainError, match=r"--max-minutes 10: not enough for one step"):
        train(tiny, tmp_path / "out", *FIT)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("minutes", ["-1", "nan", "1e9"])
def test_minutes_out_of_bounds_are_refused(tiny, tmp_path, minutes):
    with pytest.raises(TrainError, match=r"--max-minutes .*: must be at least 0"):
        parse_config("custom", options(tiny, tmp_path, "--max-minutes", minutes))


def test_auto_takes_the_recipe_for_the_steps_that_fit(tiny, tmp_path, monkeypatch, caplog, capsys):
    caplog.set_level("INFO")
    monkeypatch.setattr(plan_report, "PICTURE", tmp_path / "plan.png")
    monkeypatch.setattr(time_limit, "time_steps", slow(10.0, times=2))
    more = ["--recipe", "auto", "--end-epoch", "800", "--max-minutes", "20", "--plan"]
    train(tiny, tmp_path, *more)
    said = [line for line in caplog.messages if line.startswith("--max-minutes 20")]
    assert len(said) == 2  # once for each recipe
    assert "recipe scratch: the original's options would make" in capsys.readouterr().out


def test_a_cosine_run_is_extended(tiny, tmp_path, caplog):
    caplog.set_level("INFO")
    train(tiny, tmp_path, "--end-epoch", "2")
    train(tiny, tmp_path, "--end-epoch", "4", "--resume", "auto")
    (said,) = [line for line in caplog.messages if line.startswith("--end-epoch 4 instead of 2")]
    assert "from step 8 of epoch 3 on" in said and "the cosine of 4 epochs" in said
    rates = [float(row["Lr"]) for row in csv_rows(folder(tmp_path) / "train_results.csv")]
    assert len(rates) == 4 and rates[0] > rates[1] < rates[2] > rates[3]
    state = torch.load(folder(tmp_path) / "last.pth", weights_only=True)
    assert state["config"]["schedule_parts"] == [[0, 2, 2], [8, 4, 4]] and state["epoch"] == 4
    train(tiny, tmp_path, "--end-epoch", "4", "--resume", "auto")  # nothing is left to do
    assert sum("instead of" in line for line in caplog.messages) == 1
    with pytest.raises(TrainError, match="the phases of --multigrid paper"):
        paper = ["--multigrid", "paper", "--task-name", "paper", "--lr-steps", "1"]
        train(tiny, tmp_path, *paper, "--end-epoch", "1")
        train(tiny, tmp_path, *paper, "--end-epoch", "2", "--resume", "auto")


def test_two_ranks_time_their_steps_together(tiny, tmp_path):
    words = [*WORDS, *CALM, "--end-epoch", "1", "--max-minutes", "1000"]
    ranks = [start(tiny, tmp_path, *words, variables=v) for v in as_ranks(2)]
    assert [rank.wait() for rank in ranks] == [0, 0], [rank.said() for rank in ranks]
    assert "--max-minutes 1000: the whole schedule of 1 epochs takes" in ranks[0].said()


@pytest.mark.slow
def test_two_ranks_fit_and_shorten_together(tiny, tmp_path):
    """Rank 0 decides. The limit is real, so the run is timed, fitted and perhaps shortened."""
    words = [*WORDS, *CALM, "--end-epoch", "9999", "--max-minutes", "0.5"]
    ranks = [start(tiny, tmp_path, *words, variables=v) for v in as_ranks(2)]
    assert [rank.wait() for rank in ranks] == [0, 0], [rank.said() for rank in ranks]
    state = torch.load(folder(tmp_path) / "last.pth", weights_only=True)
    assert state["config"]["schedule_parts"] and state["epoch"] < 9999
    assert "compressed into" in ranks[0].said() and "compressed" not in ranks[1].said()
