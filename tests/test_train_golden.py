"""The losses of a short run on the CPU, as they were: a change that should change none proves it.

After a change that should: delete the golden file, run this test twice, and say why in the commit.
"""

import csv
import json
from pathlib import Path

import pytest
from runs import folder, train

GOLDEN = Path(__file__).parent / "golden" / "losses.json"
RUNS = {
    "epoch": ["--multigrid", "epoch", "--lr-base", "0.0005"],
    "paper, adamw": ["--multigrid", "paper", "--optimiser", "adamw", "--lr-base", "0.001"],
}


@pytest.mark.parametrize("name", RUNS)
def test_losses(tiny, tmp_path, name):
    answer = train(tiny, tmp_path, *RUNS[name], "--workers", "0")
    assert answer.returncode == 0, answer.stderr
    with (folder(tmp_path) / "train_results.csv").open() as file:
        losses = [float(row["Loss"]) for row in csv.DictReader(file)]
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if name not in golden:
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps({**golden, name: losses}, indent=1) + "\n")
        pytest.fail(f"{GOLDEN} had no losses of {name!r}; it has now")
    assert losses == pytest.approx(golden[name], rel=1e-3)  # other CPUs round otherwise
