"""Schedules: every clip once an epoch, legal shapes, the published example, the lr's formula."""

import hashlib
import inspect
import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data.clips.loader import StepSampler
from run.command_line import complete
from train.config import Config
from train.schedule.epoch_table import cut
from train.schedule.learning_rate import batch_size_factor
from train.schedule.multigrid_phases import even_size
from train.schedule.plan_table import plan_table
from train.schedule.steps_table import make_schedule
from train.setup import check_shares
from train.train_errors import TrainError


def config(**options) -> Config:
    defaults = {
        "batch_size": 32,
        "clip_length": 16,
        "clip_size": 224,
        "end_epoch": 20,
        "lr_base": 0.1,
        "lr_steps": [8, 14],
    }
    return Config(**{**defaults, **options})


# FACTS of Wu et al.: the worked example of the paper's schedule
PUBLISHED = {
    "multigrid": "paper",
    "batch_size": 64,
    "clip_length": 32,
    "end_epoch": 239,
    "lr_steps": [94, 154, 196],
}

GOLDEN = Path(__file__).parent / "golden" / "schedules.json"
RECORDED = {
    "epoch": ({}, 9537),
    "epoch, few clips": ({"warmup_epochs": 2.5}, 100),
    "epoch, fewer than a batch": ({"lr_policy": "constant"}, 10),
    "epoch, adamw, cosine": ({"optimiser": "adamw", "lr_policy": "cosine"}, 5003),
    "epoch, other shapes": (
        {"multigrid_frames": [8, 1], "multigrid_areas": [3, 1], "multigrid_short": [5, 3, 2]},
        4001,
    ),
    "epoch, small clips": ({"clip_length": 3, "clip_size": 21, "warmup_epochs": 1.0}, 2222),
    "epoch, no short cycles": ({"short_cycles": False, "batch_size": 7}, 333),
    "epoch, no long cycles": ({"long_cycles": False}, 777),
    "paper": (PUBLISHED, 24_000),
    "paper, few clips": ({"multigrid": "paper", "batch_size": 16}, 50),
    "paper, few epochs": ({"multigrid": "paper", "end_epoch": 4, "lr_steps": [1, 2, 3]}, 400),
    "paper, cosine": ({"multigrid": "paper", "lr_policy": "cosine", "warmup_epochs": 3.0}, 3001),
    "paper, no long cycles": ({"multigrid": "paper", "long_cycles": False}, 401),
    "paper, no short cycles": ({"multigrid": "paper", "short_cycles": False}, 2001),
    "paper, one shape": (
        {"multigrid": "paper", "multigrid_frames": [1], "multigrid_areas": [1]},
        903,
    ),
    "off": ({"multigrid": "off", "clip_size": 225, "lr_factor": 0.3}, 1000),
}


configs = st.builds(
    config,
    multigrid=st.sampled_from(["epoch", "paper", "off"]),
    long_cycles=st.booleans(),
    short_cycles=st.booleans(),
    batch_size=st.integers(1, 40),
    clip_length=st.integers(1, 33),
    clip_size=st.integers(16, 300),
    end_epoch=st.integers(1, 25),
    lr_steps=st.sets(st.integers(1, 30), max_size=4).map(sorted),
    lr_policy=st.sampled_from(["step", "cosine", "constant"]),
    optimiser=st.sampled_from(["sgd", "adamw"]),
    multigrid_lr_power=st.sampled_from([None, 0.0, 0.7]),
    warmup_epochs=st.sampled_from([0.0, 0.4, 1.0, 2.5]),
)


@pytest.mark.parametrize("name", RECORDED)
def test_schedules_are_the_recorded_ones(name, request):
    """`--update-golden` records them anew, after a change that is meant to change schedules."""
    options, n_clips = RECORDED[name]
    schedule = make_schedule(config(**options), n_clips)
    plans = [schedule.plan(step) for step in range(schedule.total_steps)]
    shapes = np.array([plan[:5] for plan in plans], dtype="<i8")
    every = max(1, schedule.total_steps // 4)
    sample = [*range(0, schedule.total_steps, every), schedule.total_steps - 1]
    result = {
        "steps": schedule.total_steps,
        "sha256 of all (epoch, start, batch, frames, size)": hashlib.sha256(shapes).hexdigest(),
        "step, epoch, start, batch, frames, size": [[step, *plans[step][:5]] for step in sample],
        "learning rates of these steps": [schedule.lr(step) for step in sample],
        "mean learning rate": sum(map(schedule.lr, range(len(plans)))) / len(plans),
    }
    recorded = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if request.config.getoption("--update-golden"):
        GOLDEN.write_text(json.dumps({**recorded, name: result}, indent=1) + "\n")
        return
    for key, value in recorded[name].items():  # other libraries may round a cosine differently
        assert result[key] == (pytest.approx(value, rel=1e-12) if "rate" in key else value), key


@settings(max_examples=150, deadline=None)
@given(configs, st.integers(1, 400))
@example(config(batch_size=4), 12)
@example(config(batch_size=4, multigrid="paper"), 12)
def test_every_clip_once_an_epoch_in_legal_steps(options, n_clips):
    schedule = make_schedule(options, n_clips)
    multigrid = options.multigrid != "off" and (options.long_cycles or options.short_cycles)
    at = 0
    for epoch in range(1, schedule.epochs + 1):
        steps = schedule.epoch_steps(epoch)
        assert steps.start == at and len(steps) > 0
        at, seen = steps.stop, 0
        for step in steps:
            plan = schedule.plan(step)
            assert plan.epoch == epoch
            assert plan.start == seen and 1 <= plan.batch <= n_clips
            assert 1 <= plan.frames <= options.clip_length
            assert plan.stretch == options.clip_length / plan.frames >= 1
            assert 16 <= plan.size <= even_size(options.clip_size)
            assert plan.size % 2 == 0 or not multigrid
            seen += plan.batch
        assert seen == n_clips
    assert at == schedule.total_steps
    for outside in (-1, at):
        with pytest.raises(IndexError):
            schedule.plan(outside)


@settings(max_examples=60, deadline=None)
@given(configs, st.integers(1, 400))
def test_the_table_adds_up_and_no_phase_is_empty(options, n_clips):
    schedule = make_schedule(options, n_clips)
    phases = schedule.phases()
    assert sum(phase["steps"] for phase in phases) == schedule.total_steps
    assert sum(phase["clips"] for phase in phases) == schedule.epochs * n_clips
    assert sum(phase["share"] for phase in phases) == pytest.approx(1)
    assert all(phase["steps"] > 0 and phase["clips"] > 0 for phase in phases)
    ends = [phase["end_epoch"] for phase in phases]
    assert ends == sorted(ends) and ends[-1] == schedule.epochs
    assert phases[-1]["frames"] == options.clip_length  # the full shape has the last word
    assert phases[-1]["size"] in (options.clip_size, even_size(options.clip_size))


# half of 1 + cos(pi * k / 8) for k = 0 to 8, from a table of cosines
COSINE = [
    1,
    0.9619397663,
    0.8535533906,
    0.6913417162,
    0.5,
    0.3086582838,
    0.1464466094,
    0.0380602337,
]


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        ({"lr_policy": "constant"}, [0.1] * 8),
        ({"lr_policy": "cosine"}, [0.1 * share for share in COSINE]),
        ({"lr_policy": "step", "lr_steps": [1, 3], "lr_factor": 0.2},
         [0.1, 0.1, 0.02, 0.02, 0.02, 0.02, 0.004, 0.004]),
        ({"lr_policy": "constant", "warmup_epochs": 2},
         [0.025, 0.05, 0.075, 0.1, 0.1, 0.1, 0.1, 0.1]),
        ({"lr_policy": "constant", "warmup_epochs": 0.75},
         [0.0666666667, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]),
        ({"lr_policy": "step", "lr_steps": [1], "warmup_epochs": 2},
         [0.025, 0.05, 0.0075, 0.01, 0.01, 0.01, 0.01, 0.01]),
    ],
)  # fmt: skip
def test_rates_of_four_epochs_of_two_steps_by_hand(options, rates):
    schedule = make_schedule(config(multigrid="off", batch_size=10, end_epoch=4, **options), 20)
    assert [schedule.lr(step) for step in range(8)] == pytest.approx(rates, rel=1e-8)


def steps_by_phase(schedule) -> list[list[int]]:
    """The steps of the first epoch, phase by phase."""
    phase = schedule.table["phase"]
    return [list(g) for _, g in itertools.groupby(schedule.epoch_steps(1), phase.__getitem__)]


@pytest.mark.parametrize(
    ("options", "clips", "rates"),
    [
        ({}, 96_000, [0.1, 0.05, 0.025, 0.0125]),  # as the batch: 8, 4, 2, 1
        ({"optimiser": "adamw"}, 96_000, [0.1, 0.0707106781, 0.05, 0.0353553391]),  # its root
        ({"multigrid_lr_power": 0.0}, 96_000, [0.1] * 4),
        ({"long_cycles": False}, 96_000, [0.1]),
        ({}, 2 * 48 + 47, [0.1, 0.05]),  # as many shapes as the clips make full batches
        ({}, 3 * 48, [0.025, 0.05, 0.025]),  # the first part has 48 clips, its batch would be 192
        ({"clip_length": 2}, 96_000, [0.1, 0.1, 0.05, 0.025]),  # two times fewer frames, not four
    ],
)
def test_rates_of_the_quarters_of_an_epoch_by_hand(options, clips, rates):
    schedule = make_schedule(config(**{"batch_size": 48, **options}), clips)
    quarters = steps_by_phase(schedule)
    assert [schedule.lr(steps[0]) for steps in quarters] == pytest.approx(rates, rel=1e-8)
    assert [schedule.lr(steps[-1]) for steps in quarters] == pytest.approx(rates, rel=1e-8)


def test_quarters_of_the_original():
    options = config(batch_size=48, clip_length=16, clip_size=224)
    schedule = make_schedule(options, 96_000)
    quarters = steps_by_phase(schedule)
    assert len(quarters) == 4
    first = [schedule.plan(step)[2:] for step in quarters[0][:4]]
    assert first == [(384, 4, 160, 4), (768, 4, 112, 4), (1536, 4, 80, 4), (384, 4, 160, 4)]
    last = [schedule.plan(step)[2:] for step in quarters[3][:4]]
    assert last == [(48, 16, 224, 1), (96, 16, 160, 1), (192, 16, 112, 1), (48, 16, 224, 1)]
    assert [schedule.lr(steps[0]) for steps in quarters] == pytest.approx(
        [0.1, 0.05, 0.025, 0.0125]
    )
    for steps in quarters:
        assert sum(schedule.plan(step).batch for step in steps) == 24_000
    assert schedule.plan(schedule.total_steps - 1).frames == 16


def test_the_published_schedule_to_the_number():
    schedule = make_schedule(config(**PUBLISHED), 240_000)
    phases = schedule.phases()
    fine_tuned = 343  # halfway through the fine-tuning phase, where the lr steps
    ends = [73, 110, 142, 158, 205, 228, 248, 259, 291, 308, 322, 329, fine_tuned, 358]
    assert [phase["end_epoch"] for phase in phases] == ends
    assert [phase["lr"] for phase in phases] == pytest.approx(
        [0.8, 0.4, 0.2, 0.1, 0.08, 0.04, 0.02, 0.01, 0.008, 0.004, 0.002, 0.001, 0.001, 0.0001]
    )
    assert [(p["batch"], p["frames"], p["size"]) for p in phases[:4]] == [
        (512, 8, 160),
        (256, 16, 160),
        (128, 16, 224),
        (64, 32, 224),
    ]
    assert schedule.epochs == 358
    assert "3.42 times the steps" in plan_table(schedule)


def test_the_paper_s_short_cycle_takes_the_default_sides_then_the_long_cycle_s():
    schedule = make_schedule(config(**PUBLISHED), 240_000)
    full = schedule.epoch_steps(358)[:3]
    shapes = {schedule.plan(step)[2:5] for step in full}
    assert shapes == {(256, 32, 112), (128, 32, 160), (64, 32, 224)}
    coarse = [schedule.plan(step)[2:5] for step in range(3)]
    assert coarse == [(1024, 8, 112), (512, 8, 160), (512, 8, 160)]
    assert len({schedule.lr(step) for step in schedule.epoch_steps(1)}) == 1


@pytest.mark.parametrize(("policy", "half"), [("cosine", 0.5), ("constant", 1)])
def test_the_paper_s_cycles_go_with_any_lr_policy(policy, half):
    schedule = make_schedule(config(**{**PUBLISHED, "lr_policy": policy}), 24_000)
    factors = [schedule.lr(schedule.epoch_steps(epoch)[0]) for epoch in (1, 74, 111, 143)]
    assert schedule.lr(0) == pytest.approx(0.8)
    if policy == "constant":
        assert factors == pytest.approx([0.8, 0.4, 0.2, 0.1])
    middle = schedule.total_steps // 2
    times = schedule.phase_shapes[schedule.table["phase"][middle]].shape.batch // 64
    assert schedule.lr(middle) == pytest.approx(0.1 * half * times, rel=1e-3)


def test_phases_without_an_epoch_are_left_out_and_said(caplog):
    schedule = make_schedule(config(multigrid="paper", end_epoch=4, lr_steps=[1, 2, 3]), 4000)
    assert "have no epoch in 6 epochs" in caplog.text
    assert schedule.epochs == 6 and schedule.plan(schedule.total_steps - 1).frames == 16


def test_a_long_cycle_without_lr_steps_still_ends_with_fine_tuning():
    schedule = make_schedule(config(multigrid="paper", lr_steps=[], end_epoch=40), 4000)
    assert len(schedule.phases()) == 5  # four shapes, and the full one again
    assert schedule.lr(schedule.total_steps - 1) == pytest.approx(0.1)


def test_a_dataset_smaller_than_the_batch_lowers_the_paper_s_rate():
    schedule = make_schedule(config(multigrid="paper"), 64)  # the coarsest batch would be 256
    assert schedule.plan(0).batch == 64
    assert schedule.lr(0) == pytest.approx(0.2)


def test_the_paper_s_rate_goes_by_the_root_of_the_batch_with_adamw():
    schedule = make_schedule(config(multigrid="paper", optimiser="adamw"), 4000)
    assert schedule.lr(0) == pytest.approx(0.1 * math.sqrt(8))


def test_one_rate_for_all_batches_where_asked_for():
    schedule = make_schedule(config(multigrid="paper", multigrid_lr_power=0.0), 4000)
    assert {schedule.lr(step) for step in schedule.epoch_steps(1)} == {0.1}
    assert schedule.lr(schedule.epoch_steps(schedule.epochs)[0]) == pytest.approx(0.1 * 0.1**2)


def test_tiny_datasets_keep_the_full_shape_and_rate():
    schedule = make_schedule(config(batch_size=4), 3)
    assert schedule.plan(0)[2:] == (3, 16, 224, 1.0)
    assert schedule.lr(0) == pytest.approx(0.1)


def test_a_dataset_of_less_than_half_a_batch_lowers_the_rate():
    schedule = make_schedule(config(batch_size=40), 10)
    assert schedule.plan(0)[2:] == (10, 16, 224, 1.0)
    assert schedule.lr(0) == pytest.approx(0.1 / 4)


@pytest.mark.parametrize(("long", "short"), [(False, True), (True, False), (False, False)])
@pytest.mark.parametrize("policy", ["epoch", "paper"])
def test_cycles_switch(policy, long, short):
    schedule = make_schedule(
        config(multigrid=policy, long_cycles=long, short_cycles=short, end_epoch=60), 3000
    )
    plans = [schedule.plan(step) for step in range(schedule.total_steps)]
    assert ({plan.frames for plan in plans} == {16}) is not long
    by_epoch = [
        {plan.size for plan in plans if plan.epoch == epoch and plan.frames == 16}
        for epoch in (1, schedule.epochs)
    ]
    assert (len(by_epoch[1]) == 3) is short
    if not (long or short):
        assert schedule.epochs == 60 and "1.00 times the work" in plan_table(schedule)


def test_off_is_the_options_to_the_letter():
    schedule = make_schedule(config(multigrid="off", clip_size=225, lr_steps=[8, 14]), 100)
    assert [schedule.plan(step)[2:5] for step in schedule.epoch_steps(1)] == [
        (32, 16, 225),
        (32, 16, 225),
        (36, 16, 225),
    ]
    rates = [schedule.lr(schedule.epoch_steps(epoch)[0]) for epoch in (8, 9, 14, 15)]
    assert rates == pytest.approx([0.1, 0.01, 0.01, 0.001])


@given(st.integers(1, 500), st.lists(st.integers(1, 60), min_size=1, max_size=3), st.integers(0, 2))
def test_cut(clips, sizes, first):
    first %= len(sizes)
    positions, batches = (values.tolist() for values in cut(clips, sizes, first=first))
    assert sum(batches) == clips
    if 2 * clips < min(sizes):
        assert (positions, batches) == ([first], [clips])
        return
    for position, batch in zip(positions, batches, strict=True):
        assert sizes[position] / 2 <= batch <= 1.5 * sizes[position]
    whole = clips // sum(sizes) * len(sizes)  # no size is skipped in whole cycles
    assert positions[:whole] == [(first + i) % len(sizes) for i in range(whole)]
    nominal = [sizes[position] for position in positions]
    assert batches[: max(whole, 1) - 1] == nominal[: max(whole, 1) - 1]
    left, after = clips, first
    for position, batch in zip(positions, batches, strict=True):  # one batch after the other
        in_order = [(after + i) % len(sizes) for i in range(len(sizes))]
        assert position == next(i for i in in_order if 2 * left >= sizes[i])
        assert batch == min(sizes[position], left) or batch == left
        left, after = left - batch, position + 1


def check_no_small_step_has_the_full_rate(options, n_clips):
    """A step of less than half of its shape's batch has the learning rate of so small a batch."""
    options = replace(options, lr_policy="constant", lr_base=1.0, warmup_epochs=0.0)
    schedule = make_schedule(options, n_clips)
    for number, phase in enumerate(schedule.phase_shapes):
        steps = schedule.table[schedule.table["phase"] == number]
        # clips cannot shrink below 16 pixels, where two shapes may differ in their batch alone
        nominal = {shape[1:]: shape.batch for shape in sorted(phase.short_cycle, reverse=True)}
        for (frames, size), wanted in nominal.items():
            own = steps[(steps["frames"] == frames) & (steps["size"] == size)]
            steps = steps[(steps["frames"] != frames) | (steps["size"] != size)]
            small = 2 * own["batch"] < wanted
            assert (own["lr"][~small] == phase.lr_factor).all()
            assert (own["batch"] <= 1.5 * wanted).all()
            assert (own["batch"][small] < phase.shape.batch).all()
            for batch, lr in set(own[small][["batch", "lr"]].tolist()):
                factor = batch_size_factor(options, batch / phase.shape.batch)
                assert lr == pytest.approx(phase.lr_factor * factor)
        assert not len(steps)
    return schedule


@settings(max_examples=200, deadline=None)
@given(configs, st.integers(1, 3000))
@example(config(batch_size=40), 19)
@example(config(batch_size=32, multigrid="off"), 33)
def test_no_step_below_half_of_its_batch_has_the_full_rate(options, n_clips):
    check_no_small_step_has_the_full_rate(options, n_clips)


@pytest.mark.fault
def test_no_size_of_a_dataset_leaves_a_small_step_at_the_full_rate(trials):
    trial = trials(
        "no step below half of its batch at the full rate, every clip once an epoch",
        "dataset sizes from 1 to 485,000, the defaults of all datasets, three policies",
    )
    sizes = np.random.default_rng(0).integers(1, 20_000, trial.number(8, 200)).tolist()
    cases = itertools.product(("ucf101", "hacs", "kinetics", "hmdb51"), ("epoch", "paper", "off"))
    for name, policy in cases:
        options = complete(name, dataset="x", multigrid=policy)
        for n_clips in [*sizes, 485_000]:
            schedule = check_no_small_step_has_the_full_rate(options, n_clips)
            table = schedule.table
            clips = np.bincount(table["epoch"], weights=table["batch"])[1:]
            once = (clips == n_clips).all() and len(clips) == schedule.epochs
            trial.add(once, (name, policy, n_clips))


def test_hacs_s_defaults_have_no_tiny_step():
    """485,000 clips: there was a step of 2 clips where 384 are nominal."""
    smallest, largest = make_schedule(complete("hacs", dataset="x"), 485_000).batch_range()
    assert smallest >= 24 and largest <= 1.5 * 1536


def test_the_schedule_does_not_know_the_number_of_devices():
    assert list(inspect.signature(make_schedule).parameters) == ["config", "n_clips"]
    schedule = make_schedule(config(batch_size=16, end_epoch=3, multigrid="off"), 5000)
    assert [schedule.epoch_steps(epoch).stop for epoch in (1, 2, 3)] == [313, 626, 939]
    check_shares(schedule, 8)
    with pytest.raises(TrainError, match=r"8 clips, which 16 processes .* --batch-size to 32"):
        check_shares(schedule, 16)


def test_a_dataset_too_small_for_the_processes_is_refused():
    schedule = make_schedule(config(batch_size=16), 14)
    check_shares(schedule, 14)
    with pytest.raises(TrainError, match=r"start at most 14 processes, or raise"):
        check_shares(schedule, 15)
    with pytest.raises(TrainError, match=r"start at most 3 processes$"):
        check_shares(make_schedule(config(batch_size=16), 3), 4)


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_ranks_share_every_step_evenly(world_size):
    schedule = make_schedule(config(batch_size=16, end_epoch=1), 333)
    samplers = [
        StepSampler(
            333,
            schedule.plan,
            range(schedule.total_steps),
            seed=1,
            rank=rank,
            world_size=world_size,
        )
        for rank in range(world_size)
    ]
    seen = []
    for shares in zip(*samplers, strict=True):
        sizes = [len(share) for share in shares]
        assert max(sizes) - min(sizes) <= 1 and min(sizes) >= 1
        seen += [request.index for share in shares for request in share]
    assert sorted(seen) == list(range(333))


def test_largest_shapes_cover_every_step():
    schedule = make_schedule(config(), 5000)
    largest = schedule.largest_shapes()
    assert largest[0].batch * largest[0].frames * largest[0].size ** 2 == max(
        p.batch * p.frames * p.size**2 for p in map(schedule.plan, range(schedule.total_steps))
    )
    batches = {(plan.frames, plan.size): plan.batch for plan in largest}
    assert len(batches) == len(largest)
    for step in range(schedule.total_steps):
        plan = schedule.plan(step)
        assert plan.batch <= batches[plan.frames, plan.size]


def test_what_is_looked_up_are_plain_numbers():
    schedule = make_schedule(config(), 1000)
    assert all(type(value) in (int, float) for value in schedule.plan(7))
    assert type(schedule.lr(7)) is float


@pytest.mark.parametrize(("policy", "steps"), [("off", 975_000), ("epoch", 196_000)])
def test_the_table_of_a_large_run_takes_little_memory(policy, steps):
    """Kinetics-400, 130 epochs."""
    options = config(lr_steps=[40, 70, 95], end_epoch=130, multigrid=policy)
    schedule = make_schedule(options, 240_000)
    assert schedule.total_steps == pytest.approx(steps, rel=0.03)
    assert schedule.table.nbytes <= 30 * schedule.total_steps


def test_more_steps_than_a_table_should_hold_are_refused():
    with pytest.raises(TrainError, match=r"100,000,000 steps.*lower --end-epoch or raise --batch"):
        make_schedule(config(batch_size=1, end_epoch=10_000), 10_000)


@pytest.mark.parametrize(
    ("options", "clips", "words"),
    [
        ({}, 0, "no clips"),
        ({"clip_size": 12}, 10, "--clip-size 12"),
        ({"warmup_epochs": -1}, 10, "--warmup-epochs"),
        ({"multigrid_epochs": 0}, 10, "--multigrid-epochs"),
        ({"multigrid_frames": [2, 1]}, 10, "equally many"),
        ({"multigrid_areas": [2, 2, 1, 2]}, 10, "coarse to fine"),
        ({"multigrid_short": [0]}, 10, "at least 1"),
    ],
)
def test_impossible_options_are_named(options, clips, words):
    options = config(train_frame_interval=[1], **options)
    with pytest.raises(TrainError, match=words):
        options.check()
        make_schedule(options, clips)


def test_the_table_says_what_is_saved():
    table = plan_table(make_schedule(config(**PUBLISHED), 240_000)).splitlines()
    assert len({len(line) for line in table[:15]}) == 1  # aligned
    assert "3.42 times the steps" in table[-1]
