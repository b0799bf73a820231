"""The benchmark of recipes: videos of another kind, a row for each run and for each network."""

import json

import numpy as np
import pytest

from run import benchmark
from run.benchmarks import recipe_accuracy
from run.benchmarks.recipe_accuracy import RHYTHMS, render_rhythms, rhythm_frames

SMALL = "--clip-length 4 --clip-size 32 --end-epoch 1 --gpus 0 --workers 0"


def test_fast_videos_change_more_from_frame_to_frame_than_slow_ones():
    for slow, fast in zip(list(RHYTHMS)[::2], list(RHYTHMS)[1::2], strict=True):
        change = [
            np.mean(
                [
                    np.abs(np.diff(rhythm_frames(name, (9, i)).astype(float), axis=0)).mean()
                    for i in range(4)
                ]
            )
            for name in (slow, fast)
        ]
        assert change[1] > 2 * change[0], fast


def test_it_trains_each_network_and_sums_up(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(recipe_accuracy, "PARTS", {"train": (2, 3), "val": (1, 4)})
    table = tmp_path / "rows.json"
    where = ["--rhythms", "--root", str(tmp_path), "--json", str(table)]
    benchmark.main(
        ["recipes", *where, "--networks", "ir_csn_50", "--seeds", "1", "--options", SMALL]
    )
    run, mean = json.loads(table.read_text())
    assert (run["network"], run["seed"], run["epochs"]) == ("ir_csn_50", 1, 1)
    assert mean["seed"] == "mean of 1" and mean["top1_percent"] == run["top1_percent"]
    folder = tmp_path / "rhythms" / "benchmark_recipes" / "ir_csn_50_gates_False_seed_1"
    assert json.loads((folder / "config.json").read_text())["recipe"]["name"] == "scratch"
    assert render_rhythms(tmp_path / "rhythms").read_text().count("\n") == 1 + 2 * len(RHYTHMS)


@pytest.mark.slow
def test_the_embedded_dataset_is_learnt_without_naming_a_recipe(tmp_path):
    table = tmp_path / "rows.json"
    where = ["--root", str(tmp_path), "--json", str(table)]
    benchmark.main(["recipes", *where, "--networks", "r3d_18", "--seeds", "1"])
    assert json.loads(table.read_text())[-1]["top1_percent"] > 90
