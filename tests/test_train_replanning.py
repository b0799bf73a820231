"""Schedules that are planned anew: compressed into less time, shortened, extended."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.config import Config
from train.schedule.replanning import parts_after, parts_problem
from train.schedule.steps_table import make_schedule, work_of
from train.setup import _shapes
from train.train_errors import TrainError

CONFIG = Config(
    batch_size=4, clip_length=8, clip_size=64, end_epoch=10, lr_base=0.1, lr_steps=[4, 8],
    multigrid="off",
)  # fmt: skip


def planned(parts, clips=40, **options):
    return make_schedule(replace(CONFIG, schedule_parts=parts, **options), clips)


def test_a_compressed_schedule_goes_through_all_rates_and_its_last_epoch_has_fewer_clips():
    schedule = planned([[0, 2.5, 10]])
    assert schedule.epochs == 3 and schedule.total_steps == 25
    assert schedule.table["batch"][schedule.table["epoch"] == 3].sum() == 20
    rates = schedule.table["lr"]
    assert np.allclose(rates[:10], 0.1)
    assert np.allclose(rates[10:20], 0.01) and np.allclose(rates[20:], 0.001)


def test_the_first_epochs_are_compressed_but_not_below_a_tenth_of_the_run():
    whole, compressed = planned([]), planned([[0, 2, 10]])
    assert [whole.is_within_first(0.5, step) for step in (4, 5)] == [True, False]
    assert [compressed.is_within_first(2.0, step) for step in (3, 4)] == [True, False]
    assert [compressed.is_within_first(0.5, step) for step in (1, 2)] == [True, False]
    assert [compressed.is_within_first(0.05, step) for step in (0, 1)] == [True, False]
    assert not compressed.is_within_first(0.0, 0)


def test_warm_up_of_a_short_run_takes_a_tenth_of_its_steps():
    rates = planned([[0, 2, 10]], lr_policy="constant", warmup_epochs=0.5, clips=200).table["lr"]
    assert len(rates) == 100
    assert np.allclose(rates, [0.1 * min(1, (k + 1) / 10) for k in range(100)])


def test_warm_up_and_cosine_are_compressed_too():
    rates = planned([[0, 2, 10]], lr_policy="cosine", warmup_epochs=5).table["lr"]
    cosine = [0.05 * (1 + np.cos(np.pi * k / 20)) for k in range(20)]
    assert np.allclose(rates, [rate * min(k + 1, 10) / 10 for k, rate in enumerate(cosine)])


def test_phases_of_the_paper_s_policy_may_end_within_an_epoch():
    options = {"multigrid": "paper", "short_cycles": False, "lr_steps": []}
    schedule = planned([[0, 0.5, 15]], clips=4000, **options)
    *long_cycle, fine_tuning = schedule.phases()
    assert [(row["batch"], row["frames"], row["size"]) for row in long_cycle] == [
        (32, 2, 46), (16, 4, 46), (8, 4, 64), (4, 8, 64)
    ]  # fmt: skip
    steps = [row["steps"] for row in long_cycle]
    assert max(steps) - min(steps) <= 1 and fine_tuning["frames"] == 8
    assert schedule.epochs == 1 and schedule.table["batch"].sum() == 2000


@pytest.mark.parametrize("cycles", [(True, False), (True, True), (False, True), (False, False)])
def test_an_epoch_more_is_more_work_and_not_another_layout(cycles):
    options = {"multigrid": "paper", "long_cycles": cycles[0], "short_cycles": cycles[1]}
    for epochs in range(1, 15):
        less, whole = (
            work_of(planned([[0, end, 15]], 4000, **options).table).sum()
            for end in (epochs - 0.001, epochs)
        )
        assert whole == pytest.approx(less, rel=0.03)


def test_a_compressed_run_has_no_shape_that_was_not_measured():
    config = replace(CONFIG, multigrid="paper", short_cycles=False, end_epoch=1, lr_steps=[])
    config = replace(config, max_minutes=1.0)
    measured = {(p.frames, p.size) for p in _shapes(config, make_schedule(config, 1200))}
    shapes = {(2, 46), (4, 46), (4, 64), (8, 64)}  # those of the long cycle
    for epochs in (0.1, 0.5, 1.0):
        table = make_schedule(replace(config, schedule_parts=[[0, epochs, 2]]), 1200).table
        taken = set(zip(table["frames"].tolist(), table["size"].tolist(), strict=True))
        assert shapes <= taken <= measured


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 3000), st.floats(0.01, 0.999), st.booleans(), st.sampled_from([[], [4, 8]]))
def test_a_compressed_run_of_the_paper_s_policy_has_every_clip_it_should(
    clips, share, short_cycles, lr_steps
):
    options = {"multigrid": "paper", "short_cycles": short_cycles, "lr_steps": lr_steps}
    table = planned([[0, 15 * share, 15]], clips, **options).table
    ends = (table["epoch"].astype(int) - 1) * clips + table["start"] + table["batch"]
    assert np.array_equal(ends, table["batch"].astype(int).cumsum())
    assert abs(ends[-1] - 15 * share * clips) <= 1
    assert table["frames"][-1] == 8 and (table["lr"] > 0).all()
    # of the largest batch there may be one and a half
    assert table["batch"].max() <= 1.5 * 4 * 8 * 4


def test_an_extended_cosine_keeps_its_steps_and_follows_the_longer_one_from_then_on():
    short, long = (planned([], lr_policy="cosine", end_epoch=n) for n in (10, 20))
    parts = [[0, 10, 10], [100, 20, 20]]
    both = planned(parts, lr_policy="cosine", end_epoch=20)
    assert np.array_equal(both.table["lr"][:100], short.table["lr"])
    assert np.array_equal(both.table["lr"][100:], long.table["lr"][100:])
    for name in ("epoch", "start", "batch", "frames", "size"):
        assert np.array_equal(both.table[name], long.table[name])


def test_a_run_that_must_end_within_its_epoch_keeps_the_epochs_last_steps():
    before = planned([], clips=200, multigrid="epoch", lr_policy="cosine")
    second = before.epoch_steps(2)
    step = second.start + 2
    options = {"clips": 200, "multigrid": "epoch", "lr_policy": "cosine"}
    schedule = planned([[0, 10, 10], [step, 1.7, 10]], **options)
    kept = schedule.table[step:]
    assert 0 < len(kept) < second.stop - step and schedule.epochs == 2
    last = before.table[second.stop - len(kept) : second.stop]
    for name in ("epoch", "start", "batch", "frames", "size"):
        assert np.array_equal(kept[name], last[name])
    assert kept["lr"][-1] < 0.05 * before.table["lr"][:step].max()


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["off", "epoch", "paper"]),
    st.sampled_from(["step", "cosine", "constant"]),
    st.integers(1, 60),
    st.lists(st.tuples(st.integers(1, 200), st.floats(0.01, 1)), max_size=3),
)
def test_whatever_is_planned_anew_no_step_that_was_taken_changes(multigrid, policy, clips, changes):
    options = {"multigrid": multigrid, "lr_policy": policy, "warmup_epochs": 1.0}
    schedule = planned([], clips, **options)
    full, parts = schedule.epochs, [[0, schedule.epochs, schedule.epochs]]
    cut = set()  # epochs within which the run has ended for a while
    for after, share in changes:
        step = parts[-1][0] + after
        if step >= schedule.total_steps:
            break
        before, parts = schedule, [*parts, [step, max(1 / clips, share * full), full]]
        assert parts_problem(parts) == ""
        schedule = planned(parts, clips, **options)
        table = schedule.table
        for name in ("epoch", "start", "batch", "frames", "size", "lr"):
            assert np.array_equal(before.table[name][:step], table[name][:step])
        assert step <= schedule.total_steps and np.isfinite(table["lr"]).all()
        cut.add(schedule.epochs)
        assert (np.diff(table["epoch"]) >= 0).all() and set(np.diff(table["epoch"])) <= {0, 1}
        for epoch in range(1, schedule.epochs + 1):
            rows = table[table["epoch"] == epoch]
            ends = rows["start"] + rows["batch"]
            assert (rows["start"][1:] >= ends[:-1]).all() and ends[-1] <= clips  # no clip twice
            assert ends[-1] == clips or epoch in cut
        assert max(phase["end_epoch"] for phase in schedule.phases()) == schedule.epochs


THEN = {"end_epoch": 10, "schedule_parts": []}


def test_parts_are_taken_over_and_added_to():
    cosine = replace(CONFIG, lr_policy="cosine")
    fitted = [[0, 2.5, 10]]
    assert parts_after(cosine, THEN | {"schedule_parts": fitted}, 7) == fitted
    assert parts_after(cosine, {"lr_base": 0.1}, 7) == []  # of an earlier version
    longer = replace(cosine, end_epoch=20)
    assert parts_after(longer, THEN, 100) == [[0, 10, 10], [100, 20, 20]]
    assert parts_after(longer, THEN, 0) == []
    extended = {"end_epoch": 20, "schedule_parts": [[0, 10, 10], [100, 20, 20]]}
    assert parts_after(replace(cosine, end_epoch=30), extended, 150) == [
        *extended["schedule_parts"], [150, 30, 30],
    ]  # fmt: skip
    assert parts_after(replace(CONFIG, end_epoch=20), THEN, 100) == []  # steps do not change


def test_an_end_that_cannot_move_is_refused_with_the_reason():
    longer = replace(CONFIG, end_epoch=20)
    with pytest.raises(TrainError, match="--end-epoch 10, not 20: the phases of --multigrid paper"):
        parts_after(replace(longer, multigrid="paper"), THEN, 5)
    with pytest.raises(TrainError, match="fitted to --max-minutes"):
        parts_after(longer, THEN | {"schedule_parts": [[0, 2.5, 10]]}, 5)


@pytest.mark.parametrize(
    "parts",
    [[[0, 1]], [[0, 1, float("nan")]], [[1, 2, 3]], [[0, 2, 3], [0, 2, 3]], [[0, 2, 3], [5, 0, 3]],
     [[0, 4, 3]], [[0, 1, 1e9]], [[0, 2, 3], [2.0**70, 2, 3]], [[0, 2, 3], [2, -1, 3]]],
)  # fmt: skip
def test_damaged_parts_are_refused(parts):
    assert parts_problem(parts)
    assert not parts_problem([[0, 2.5, 10], [7, 9, 10]]) and not parts_problem([])
