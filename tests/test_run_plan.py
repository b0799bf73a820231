"""The plan of a run, printed, as rows and as a picture."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from run.plan import build_parser, main

ROOT = Path(__file__).parent.parent


def test_the_command_prints_writes_rows_and_draws(tmp_path):
    options = "--multigrid paper --batch_size 64 --clip-length 32 --clip-size 224 --lr-base 0.1"
    files = f"--json {tmp_path}/plan.json --png {tmp_path}/plan.png"
    line = f"--dataset-size 240000 {options} --lr-steps 94,154,196 --end-epoch 239 {files}"
    result = subprocess.run(
        [sys.executable, "-m", "run.plan", *line.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert "3.42 times the steps" in result.stdout
    rows = json.loads((tmp_path / "plan.json").read_text())
    assert [row["end_epoch"] for row in rows[:4]] == [73, 110, 142, 158]
    assert rows[0]["lr"] == pytest.approx(0.8)
    assert {"end_epoch", "batch", "frames", "size", "lr", "steps"} <= set(rows[0])
    assert str(sum(row["steps"] for row in rows)) in result.stdout.replace(",", "")
    with Image.open(tmp_path / "plan.png") as picture:
        assert len(set(picture.convert("L").tobytes())) > 10


@pytest.mark.parametrize("policy", ["epoch", "off"])
def test_other_policies_are_drawn_too(tmp_path, capsys, policy):
    picture = f"--png {tmp_path / 'plan.png'}"
    main(f"--dataset-size 50 --multigrid {policy} --end-epoch 3 {picture}".split())
    assert (tmp_path / "plan.png").stat().st_size > 10_000
    assert "3 epochs of 50 clips" in capsys.readouterr().out


def test_defaults_are_the_dataset_s():
    argv = ["--defaults", "hacs", "--dataset-size", "9"]
    options = build_parser(argv).parse_args(argv)
    assert (options.batch_size, options.end_epoch, options.lr_steps) == (48, 120, [40, 60, 75, 90])


def test_the_size_is_needed(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--batch-size", "4"])
    assert left.value.code == 2 and "--dataset-size" in capsys.readouterr().err
