"""Every number of every command has bounds; names are checked before a dataset is scanned."""

import argparse
import importlib
import itertools
import math
import shutil
from dataclasses import fields

import pytest

from data.data_error import DataError
from data.dataset_defaults import DATASETS
from network.network_error import NetworkError
from run import evaluate, networks, plan, predict
from run.command_line import build_parser, parse_config
from run.exit_codes import command
from train.config import Config, bounds_of
from train.devices import open_devices
from train.option_bounds import Bounds, within
from train.schedule.steps_table import make_schedule
from train.setup import prepare
from train.train_errors import TrainError

WHERE = ["--dataset", "/d", "--labels", "/l"]
HOSTILE = [
    "-1", "0", "-0.5", "nan", "-nan", "inf", "-inf", "1e30", "-1e30", "1e400", "9" * 22,
    "-" + "9" * 22, "9" * 5000, "", " ", "x", "0x10", "1,2", "½", "٣", "True", "1;2", "--", "-",
    "1_000", "1e-320", "3,2,1", "x" * 10_000,
]  # fmt: skip


def numeric(item) -> bool:
    return str(item.type).removesuffix(" | None") in ("int", "float", "list[int]")


def test_every_number_has_bounds_on_both_sides():
    for item in fields(Config):
        bounds = item.metadata.get("bounds")
        assert (bounds is not None) == numeric(item), item.name
        if bounds:
            assert math.isfinite(bounds.low) and math.isfinite(bounds.high), item.name
            assert bounds.low < bounds.high, item.name


@pytest.mark.parametrize(
    "name", [item.name for item in fields(Config) if numeric(item) and item.name != "variant"]
)
def test_just_within_is_taken_and_just_beyond_is_refused(name):
    low, high, exclusive = bounds_of(name)
    kind = next(item.type for item in fields(Config) if item.name == name)
    step = 1 if "int" in kind else 0.25
    flag = f"--{name.replace('_', '-')}"
    script = "hmdb51"
    for value in (low - step, high if exclusive else high + step, math.nan, math.inf):
        with pytest.raises((TrainError, SystemExit)) as error:
            parse_config(script, [*WHERE, f"{flag}={value}"])
        if isinstance(error.value, TrainError):
            assert str(error.value).startswith(flag) and "must be at least" in str(error.value)
    if name in ("multigrid_frames", "multigrid_areas", "warmup_epochs"):
        return  # other rules leave less of the range
    for value in (low, high - step if exclusive else high):
        config = parse_config(script, [*WHERE, f"{flag}={value}"])
        assert getattr(config, name) in (value, [value])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--ema 1", "--ema 1.0: must be at least 0 and below 1"),
        ("--momentum 1", "--momentum 1.0: must be at least 0 and below 1"),
        ("--label-smoothing 1", "--label-smoothing 1.0: must be at least 0 and below 1"),
        ("--mixup inf", "--mixup inf: must be at least 0 and at most 100"),
        ("--workers 100000", "--workers 100000: must be at least 0 and at most 256"),
        ("--multigrid-epochs 1e30", "--multigrid-epochs 1e+30: must be at least 0.01"),
        ("--lr-steps 40,20", "--lr-steps 40,20: must increase"),
        ("--lr-steps 40,40", "--lr-steps 40,40: must increase"),
        ("--lr-steps 0,40", "--lr-steps 0: must be at least 1"),
        ("--warmup-epochs 11 --end-epoch 10", "--warmup-epochs 11: the warm-up must end within"),
        ("--warmup-epochs 6 --end-epoch 10 --multigrid paper --multigrid-epochs 0.5", "5 epochs"),
        (f"--random-seed {10**22}", "--random-seed 10000000000000000000000: must be at least 0"),
        ("--micro-batch 0", "--micro-batch 0: give auto or a number"),
        ("--micro-batch " + "9" * 5000, "--micro-batch 99999"),
        ("--on-nan skip:" + "9" * 5000, "--on-nan skip:9999"),
        ("--lr-steps " + ",".join(map(str, range(1, 99))), "--lr-steps: at most 50 numbers"),
    ],
)
def test_values_that_were_taken_are_refused(words, said):
    with pytest.raises(TrainError) as error:
        parse_config("ucf101", [*WHERE, *words.split()])
    assert said in str(error.value) and len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (evaluate, "--batch-size 0"), (evaluate, "--batch-size -4"), (evaluate, "--views 0"),
        (evaluate, "--workers -1"), (evaluate, "--split -1"), (evaluate, "--clip-size 3"),
        (predict, "--top -1"), (predict, "--top 0"), (predict, "--short-side 0"),
        (predict, "--views 1000000"), (predict, "--gpus -1"),
    ],
)  # fmt: skip
def test_evaluate_and_predict_have_bounds_too(module, words, capsys):
    given = ["--checkpoint", "c.pth", *(["--dataset", "/d"] if module is evaluate else ["v.mp4"])]
    with pytest.raises(SystemExit) as stop:
        module.build_parser().parse_args([*given, *words.split()])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1
    assert "must be at least" in error and words.split()[0] in error


def parsers():
    yield from ((name, lambda name=name: build_parser(name)) for name in DATASETS)
    for module in (evaluate, predict):
        yield module.__name__, module.build_parser
    yield "run.plan", lambda: plan.build_parser(["--dataset-size", "9"])


def test_no_option_of_a_command_is_a_number_without_bounds():
    for name, build in itertools.islice(parsers(), len(DATASETS), None):
        if name == "run.plan":
            continue  # its options are Config's, whose bounds Config.check looks at
        for action in build()._actions:
            unbounded = action.type in (int, float) and not action.choices
            assert not unbounded, f"{name} {action.option_strings}"


def outcome(attempt, capsys) -> str:
    """An empty string where the attempt ends as it may, else what went wrong."""
    capsys.readouterr()
    try:
        code = command(attempt)
    except SystemExit as stop:  # argparse's own
        code = stop.code
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    said = capsys.readouterr().err
    if code == 0 or (code == 2 and said.count("\n") == 1 and said.startswith("error: ")):
        return ""
    return f"exit code {code}, said {said[:200]!r}"


@pytest.mark.fault
def test_hostile_values_of_every_option(trials, capsys):
    trial = trials("a bad option is one line and exit code 2", "hostile values of every option")

    def attempt(script, words):
        config = parse_config(script, [*WHERE, *words])
        for item in fields(Config):
            value = getattr(config, item.name)
            if numeric(item) and value is not None:
                numbers = value if isinstance(value, list) else [value]
                assert all(map(item.metadata["bounds"].hold, numbers)), item.name
        schedule = make_schedule(config, 1000)
        for step in (0, schedule.total_steps - 1):
            assert math.isfinite(schedule.lr(step)) and schedule.plan(step).batch >= 1

    cases = [
        (script, item.name, value)
        for script in DATASETS
        for item in fields(Config)
        if not item.metadata.get("hidden") and (item.name != "variant" or script == "kinetics")
        for value in HOSTILE
    ]
    for script, name, value in cases[:: len(cases) // trial.number(200, len(cases))]:
        # both `--option value` and `--option=value`, which argparse reads differently
        for words in ([f"--{name.replace('_', '-')}", value], [f"--{name}={value}"]):
            wrong = outcome(lambda script=script, words=words: attempt(script, words), capsys)
            trial.add(not wrong, f"{script} {words[0][:60]} {value[:30]!r}: {wrong}")


@pytest.mark.fault
def test_hostile_values_of_evaluate_and_predict(trials, capsys, tmp_path):
    trial = trials("a bad option is one line and exit code 2", "run.evaluate, run.predict, others")
    missing = str(tmp_path / "none.pth")
    given = {
        evaluate: ["--checkpoint", missing, "--dataset", str(tmp_path)],
        predict: ["--checkpoint", missing, str(tmp_path / "none.mp4")],
        plan: ["--dataset-size", "1000"],
        networks: ["r3d_18"],
    }
    cases = [
        (module, flag, value)
        for module, flags in (
            (evaluate, [a.option_strings[-1] for a in evaluate.build_parser()._actions]),
            (predict, [a.option_strings[-1] for a in predict.build_parser()._actions
                       if a.option_strings]),
            (plan, ["--dataset-size"]),
            (networks, ["--clip-length", "--clip-size", "--classes"]),
        )
        for flag in flags
        if flag not in ("--help", "--out", "--json")
        for value in HOSTILE
    ]  # fmt: skip
    for module, flag, value in cases[:: len(cases) // trial.number(60, len(cases))]:
        words = [*given[module], f"{flag}={value}"]
        wrong = outcome(lambda module=module, words=words: module.main(words), capsys)
        trial.add(not wrong, f"{module.__name__} {flag} {value[:30]!r}: {wrong}")


def test_a_number_within_bounds():
    assert within(Bounds(1, 5))("5") == 5 and within(Bounds(0, 1), float)("0.5") == 0.5
    for text in ("0", "6", "1.5", "nan", "", "9" * 5000):
        with pytest.raises(argparse.ArgumentTypeError):
            within(Bounds(1, 5))(text)
    for text in ("nan", "inf", "-1", "x"):
        with pytest.raises(argparse.ArgumentTypeError):
            within(Bounds(0, 1), float)(text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--network r3d_19", "unknown network 'r3d_19'"),
        ("--augmentation redme", "augmentation 'redme': neither one of readme"),
        ("--pretrained-3d none.pth", "--pretrained-3d none.pth: there is no such file"),
    ],
)
def test_names_are_checked_before_the_dataset_is_scanned(words, said, monkeypatch):
    def scan(*args, **options):
        raise AssertionError("the dataset is scanned first")

    monkeypatch.setattr(importlib.import_module("train.setup"), "open_split", scan)
    config = parse_config("custom", [*WHERE, "--gpus", "0", *words.split()])
    with (
        open_devices(0, "fp32") as devices,
        pytest.raises((TrainError, DataError, NetworkError)) as error,
    ):
        prepare(config, devices)
    assert said in str(error.value)


def test_one_class_is_refused(tiny, tmp_path):
    shutil.copytree(tiny / "jpg" / "grow", tmp_path / "jpg" / "grow")
    names = sorted(path.name for path in (tmp_path / "jpg" / "grow").iterdir())
    rows = [f"grow,{name},{'val' if name.startswith('val') else 'train'}" for name in names]
    labels = tmp_path / "one.csv"
    labels.write_text("\n".join(["label,id,split", *rows]) + "\n")
    words = ["--dataset", str(tmp_path), "--labels", str(labels), "--gpus", "0"]
    with open_devices(0, "fp32") as devices, pytest.raises(TrainError, match="one class, 'grow'"):
        prepare(parse_config("custom", words), devices)
