"""--seeds: one run for each seed, resumable, compared in a table and in curves with a band."""

import csv
import json
import math
import statistics

import matplotlib.image
import pytest
import torch
from matplotlib.figure import Figure
from runs import NETWORK, as_ranks, assert_same_results, command, folder, start

import train.loop as engine
from run.command_line import parse_config
from train import seeds
from train.results.history import History
from train.results.seeds_report import SeedResult, mean_curve, summarised, write_report
from train.seeds import train_seeds
from train.train_errors import DivergedError, TrainError

SMALL = "--workers 0 --clip-length 2 --clip-size 16 --batch-size 4 --multigrid off --tensorboard"
WORDS = [*SMALL.split(), "False", "--end-epoch", "1", "--save-steps", "1"]


def config(tiny, out, *more):
    return parse_config("custom", command(tiny, out, *WORDS, *more)[2:])


def named(out, name):
    return out / f"{NETWORK}_gates_False_{name}"


def result(seed, top1):
    history = History()
    for epoch, value in enumerate(top1, 1):
        scores = {"top1": value, "top5": 90.0, "loss": 2.0 / epoch, "clips": 6.0}
        history.add_epoch(epoch, {"train": scores, "val": scores}, lr=0.1, gates={})
    return SeedResult(seed, history)


class Enough(BaseException):
    """Ends a run in this process as abruptly as it can be done."""


def test_each_seed_is_trained_once_and_an_interrupted_one_continues(
    tiny, tmp_path, monkeypatch, capsys
):
    steps, usual = [], engine.train_step

    def stopping(run, *rest):
        steps.append((run.config.random_seed, run.step))
        if len(steps) == 7:  # the third step of the second seed
            raise Enough
        return usual(run, *rest)

    monkeypatch.setattr(engine, "train_step", stopping)
    words = ("--seeds", "1", "2", "--task-name", "a")
    with pytest.raises(Enough):
        train_seeds(config(tiny, tmp_path, *words))
    first = json.loads((named(tmp_path, "a_seeds") / "seeds.json").read_text())
    assert [row["seed"] for row in first["seeds"]] == [1]
    with pytest.raises(TrainError, match=r"a_seed-1: holds a run already.*--resume auto"):
        train_seeds(config(tiny, tmp_path, *words))
    train_seeds(config(tiny, tmp_path, *words, "--resume", "auto"))
    assert steps == [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2), (2, 2), (2, 3)]
    engine.train(config(tiny, tmp_path / "alone", "--random-seed", "2"))
    assert_same_results(folder(tmp_path / "alone"), named(tmp_path, "a_seed-2"))
    both = [
        torch.load(named(tmp_path, f"a_seed-{seed}") / "last.pth", weights_only=True)
        for seed in (1, 2)
    ]
    assert [state["config"]["random_seed"] for state in both] == [1, 2]
    assert both[0]["history"] != both[1]["history"]
    report = named(tmp_path, "a_seeds")
    assert (report / "seeds.txt").read_text() in capsys.readouterr().out
    top1 = [state["history"]["val_results.csv"][-1]["Top1"] for state in both]
    with (report / "seeds.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["seed"] for row in rows] == ["1", "2", "mean", "std"]
    assert float(rows[2]["top1"]) == pytest.approx(statistics.fmean(top1), abs=1e-3)
    assert float(rows[3]["top1"]) == pytest.approx(statistics.stdev(top1), abs=1e-3)


def test_where_a_seed_diverges_the_others_are_trained_and_it_is_said(tiny, tmp_path, monkeypatch):
    usual = seeds.train_on

    def diverging(run, *rest):
        if run.random_seed == 1:
            raise DivergedError("the loss is nan")
        return usual(run, *rest)

    monkeypatch.setattr(seeds, "train_on", diverging)
    with pytest.raises(DivergedError, match="seed 1: the loss is nan"):
        train_seeds(config(tiny, tmp_path, "--seeds", "1", "2"))
    report = json.loads((named(tmp_path, "seeds") / "seeds.json").read_text())
    assert [row["seed"] for row in report["seeds"]] == [2] and report["std"]["top1"] == 0


def test_mean_and_spread(tmp_path):
    results = [result(1, [20.0, 50.0, 40.0]), result(2, [30.0, 40.0, 60.0])]
    summary = summarised(results)
    assert results[0].row()["best_epoch"] == 2 and results[0].row()["top1"] == 40
    assert summary["mean"]["best_top1"] == 55 and summary["mean"]["top1"] == 50
    assert summary["std"]["top1"] == pytest.approx(200**0.5)
    table = write_report(tmp_path / "new", results).splitlines()
    assert table[0].split()[:3] == ["seed", "epochs", "best_top1"]
    assert [line.split()[0] for line in table[1:]] == ["1", "2", "mean", "std"]
    assert table[3].split()[4] == "50.00" and len({*map(len, table)}) == 1
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "curves.png", "seeds.csv", "seeds.json", "seeds.txt",
    ]  # fmt: skip


def test_a_loss_that_is_not_a_number_is_none_in_json(tmp_path):
    results = [result(1, [20.0]), result(2, [30.0])]
    results[0].history.tables["val_results.csv"].rows[0]["Loss"] = math.nan
    write_report(tmp_path, results)
    content = json.loads((tmp_path / "seeds.json").read_text())
    assert content["seeds"][0]["loss"] is None is content["mean"]["loss"]
    assert content["seeds"][1]["loss"] == 2 and content["mean"]["top1"] == 25


def test_the_curves_have_a_band_of_one_standard_deviation(tmp_path, monkeypatch):
    results = [result(1, [20.0, 50.0]), result(2, [30.0, 40.0, 60.0])]
    epochs, mean, spread = mean_curve(results, "val", "Top1")
    assert epochs.tolist() == [1, 2, 3] and mean.tolist() == [25, 45, 60]
    assert spread == pytest.approx([50**0.5, 50**0.5, 0])
    figures, usual = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (figures.append(self), usual(self, *a, **k))
    )
    write_report(tmp_path, results)
    assert [axis.get_title() for axis in figures[0].axes] == ["Loss", "Top1 (%)", "Top5 (%)"]
    band = figures[0].axes[1].collections[1].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(25 - 50**0.5)
    assert matplotlib.image.imread(tmp_path / "curves.png").shape[:2] == (396, 1386)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--seeds 1 2 1", "--seeds 1,2,1: give each seed once"),
        ("--seeds 1 2 --random-seed 3", "--seeds and --random-seed exclude each other"),
        ("--seeds 1 2 --resume-epoch 3", "--seeds and --resume-epoch exclude each other"),
        ("--seeds=-1", "--seeds -1: must be at least 0"),
    ],
)
def test_seeds_that_make_no_sense_are_refused(tiny, tmp_path, words, said):
    with pytest.raises(TrainError, match=said):
        config(tiny, tmp_path, *words.split())


@pytest.mark.slow
def test_two_ranks_train_several_seeds(tiny, tmp_path):
    # batch norm over the two clips of a rank makes large gradients
    words = [*WORDS, "--seeds", "1", "2", "--lr-base", "1e-5", "--clip-grad", "1"]
    ranks = [start(tiny, tmp_path, *words, variables=v) for v in as_ranks(2)]
    assert [rank.wait() for rank in ranks] == [0, 0], [rank.said() for rank in ranks]
    assert (named(tmp_path, "seeds") / "seeds.csv").read_text().count("\n") == 5
