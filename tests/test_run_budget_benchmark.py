"""The benchmark of multigrid at equal times: finished runs are kept, rows are summed up."""

import json
from pathlib import Path

import pytest

from run import benchmark
from run.benchmarks.multigrid_budget import KEY, PAPER, RECIPE, summary
from train.train_errors import TrainError


def row(*key: object, top1: float) -> dict:
    return dict(zip(KEY, key, strict=True)) | {"top1_percent": top1}


def finished(folder: Path, rows: list[dict], dataset: Path | None = None) -> None:
    kept = {"options": f"{RECIPE} {PAPER} ", "dataset": str(dataset), "rows": rows}
    (folder / "budgets.json").write_text(json.dumps(kept))


def test_finished_runs_are_not_trained_again(tmp_path):
    rows = [
        row(16, 2.0, policy, seed, top1=10.0 * seed)
        for policy in ("off", "paper")
        for seed in (1, 2)
    ]
    finished(tmp_path, rows)
    table = tmp_path / "table.json"
    where = ["--root", str(tmp_path), "--json", str(table), "--scales", "0.01"]
    benchmark.main(["budgets", *where, "--minutes", "2", "--policies", "paper"])
    assert json.loads(table.read_text()) == rows + summary(rows)
    with pytest.raises(TrainError, match="has runs with other options or videos: give another"):
        benchmark.main(["budgets", *where, "--minutes", "2", "--options", "--lr-base 0.1"])


def test_videos_of_ones_own_are_counted_in_their_csv(tmp_path):
    labels, table = tmp_path / "own_train.csv", tmp_path / "table.json"
    labels.write_text("label,id,split\n" + "".join(f"a,v{i},train\n" for i in range(7)))
    rows = [row(7, 2.0, "off", 1, top1=50.0)]
    finished(tmp_path, rows, dataset=tmp_path)
    options = ["--root", str(tmp_path), "--dataset", str(tmp_path), "--json", str(table)]
    options += ["--minutes", "2", "--policies", "off", "--seeds", "1"]
    benchmark.main(["budgets", *options, "--labels", str(labels)])
    assert json.loads(table.read_text()) == rows + summary(rows)
    with pytest.raises(TrainError, match="--dataset: give --labels too"):
        benchmark.main(["budgets", *options])


def test_each_group_has_a_mean():
    rows = [row(16, 2.0, "off", 1, top1=50.0), row(16, 2.0, "off", 2, top1=60.0)]
    rows.append(row(16, 6.0, "off", 1, top1=90.0))
    first, second = summary(rows)
    assert (first["budget_minutes"], first["seed"], first["top1_percent"]) == (2.0, "mean of 2", 55)
    assert (first["lowest_percent"], first["highest_percent"]) == (50, 60)
    assert (second["budget_minutes"], second["top1_percent"]) == (6.0, 90)
