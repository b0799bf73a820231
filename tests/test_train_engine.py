"""What a run leaves behind, how it ends, and every option of the optimisation once."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from runs import command, folder, same_bits, train

from run.command_line import parse_config
from train.devices import open_devices
from train.loaders import unaugmented_batches
from train.results.log_file import without_colours
from train.results.losses_file import open_losses
from train.setup import prepare


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def everything(tiny, tmp_path_factory):
    """A run with every extra switched on."""
    out = tmp_path_factory.mktemp("everything")
    answer = train(
        tiny, out, "--optimiser", "adamw", "--decay-norms", "False", "--ema", "0.9",
        "--mixup", "0.2", "--cutmix", "1", "--label-smoothing", "0.1", "--clip-grad", "1",
        "--precise-bn", "1", "--micro-batch", "2", "--keep", "1", "--flip", "--erase", "0.5",
        "--lr-policy", "cosine", "--warmup-epochs", "0.5", "--workers", "1",
        "--augmentation", "randaugment", "--crop", "multiscale", "--precision", "bf16",
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    return out, answer.stderr


def test_the_results_folder(everything):
    results = folder(everything[0])
    names = {path.name for path in results.iterdir()}
    assert {"last.pth", "best.pth", "config.json", "train.log", "tensorboard"} <= names
    assert not [name for name in names if name.startswith(".")]
    assert (results / "curves.png").read_bytes().startswith(b"\x89PNG")
    for name in ("train_results.csv", "val_results.csv"):
        assert list(rows(results / name)[0])[:4] == ["Epoch", "Top1", "Top5", "Loss"]
        assert [row["Epoch"] for row in rows(results / name)] == ["1", "2"]
    assert {row["Clips"] for row in rows(results / "train_results.csv")} == {"14"}
    losses = open_losses(results)["loss"]
    assert losses.shape == (2, 14) and np.isfinite(losses).all()
    assert {row["Clips"] for row in rows(results / "val_results.csv")} == {"6"}
    assert rows(results / "val_results.csv")[0]["Top5"] == "100"  # of three classes


def test_precise_batch_norm_sees_clips_of_all_over_the_list(tiny, tmp_path):
    config = parse_config("custom", command(tiny, tmp_path, "--workers", "0")[2:])
    with open_devices(0, "fp32") as devices:
        run = prepare(config, devices)
        shown = [
            [batch.indices.tolist() for batch in unaugmented_batches(run, n)] for n in (2, 2, 100)
        ]
        run.epoch = 2
        later = [batch.indices.tolist() for batch in unaugmented_batches(run, 2)]
    assert shown[0] == shown[1] != later  # by (seed, epoch) alone
    assert [len(batch) for batch in shown[2]] == [4, 4, 4]  # of 14 clips
    flat = [index for batch in shown[2] for index in batch]
    assert len(set(flat)) == 12 and flat != sorted(flat)


def test_validation_every_other_epoch(tiny, tmp_path):
    words = ["--end-epoch", "3", "--val-frequency", "2", "--precise-bn", "1"]
    answer = train(tiny, tmp_path, *words)
    assert answer.returncode == 0, answer.stderr
    for name, epochs in (("train", ["1", "2", "3"]), ("val", ["2", "3"])):  # the last one anyway
        with (folder(tmp_path) / f"{name}_results.csv").open() as file:
            assert [row["Epoch"] for row in csv.DictReader(file)] == epochs
    said = [line for line in answer.stderr.splitlines() if " train: loss" in line]
    assert [" | val: loss" in line for line in said] == [False, True, True]
    best = torch.load(folder(tmp_path) / "best.pth", weights_only=True)
    assert best["epoch"] > 1 and best["best_top1"] >= 0


def test_keep_leaves_the_newest_epoch(everything):
    assert [path.name for path in folder(everything[0]).glob("*_ep-*.pth")] == [
        "ir_csn_50_ep-0002.pth"
    ]


def test_config_json_says_how_it_was_made(everything):
    content = json.loads((folder(everything[0]) / "config.json").read_text())
    assert content["options"]["optimiser"] == "adamw" and "--cutmix 1" in content["command"]
    assert content["classes"] == ["grow", "move_left", "darken"]
    assert content["fingerprint"].startswith("v2:")
    assert torch.__version__.startswith(content["versions"]["torch"])


def test_the_log_is_plain_and_has_the_originals_line(everything):
    log = (folder(everything[0]) / "train.log").read_text()
    assert without_colours(log) == log and without_colours(everything[1]) == everything[1]
    line = next(line for line in log.splitlines() if "Batch [1/" in line)
    for part in ("Epoch [1]", "Speed (r=", " f=", " b=", ") clip/sec", "loss ", "top1 ", "lr "):
        assert part in line
    assert "larger share of a mixed clip" in log  # with --mixup
    assert ",3,4," in line or ",3,1," in line or ",3,2," in line  # batch (B,3,T,H,W)


def test_a_loss_that_is_not_finite_ends_the_run(tiny, tmp_path):
    # the loss grows in the second epoch, with a learning rate of 500, and overflows in the third,
    # with one of 5e8
    words = ("--lr-steps", "1,2", "--lr-factor", "1e6", "--end-epoch", "3", "--workers", "0")
    answer = train(tiny, tmp_path, *words)
    error = answer.stderr.splitlines()[-1]
    assert answer.returncode == 3, answer.stderr
    assert error.startswith("error: the loss is ") and "Traceback" not in answer.stderr
    for part in ("epoch 3, step ", "lr ", "batch (", "clips train", "last.pth"):
        assert part in error
    last, second = (
        torch.load(folder(tmp_path) / name, weights_only=True)
        for name in ("last.pth", "ir_csn_50_ep-0002.pth")
    )
    assert last["step"] == second["step"] and same_bits(last["state_dict"], second["state_dict"])
    assert all(torch.isfinite(value).all() for value in last["state_dict"].values())

    again = train(tiny, tmp_path, *words, "--resume", "auto")  # it can be gone on with
    assert again.returncode == 3 and again.stderr.splitlines()[-1] == error
    answer = train(tiny, tmp_path, *words, "--resume", "auto", "--on-nan", "skip:100")
    assert answer.returncode == 0 and "left out a step: the loss is " in answer.stderr
    assert torch.load(folder(tmp_path) / "last.pth", weights_only=True)["skipped_steps"] > 0


def test_fp16_with_gradient_scaling(tiny, tmp_path):
    answer = train(tiny, tmp_path, "--precision", "fp16", "--end-epoch", "1", "--workers", "0")
    assert answer.returncode == 0, answer.stderr
    state = torch.load(folder(tmp_path) / "last.pth", weights_only=True)
    assert state["scaler"]["scale"] > 0
    assert all(torch.isfinite(value).all() for value in state["state_dict"].values())


def test_the_plan_is_printed_and_drawn_and_nothing_else_is_written(tiny, tmp_path):
    answer = train(tiny, tmp_path / "out", "--plan", cwd=tmp_path)
    assert answer.returncode == 0 and "steps" in answer.stdout
    assert f"drawn to {tmp_path / 'plan.png'}" in answer.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["plan.png"]
    with Image.open(tmp_path / "plan.png") as picture:
        assert len(set(picture.convert("L").tobytes())) > 10


def test_a_last_batch_of_one_clip_whose_maps_are_one_value(tiny, tmp_path):
    # 14 clips in batches of 13: at 16 pixels, one clip is left, with maps of 1x1x1
    for clips in ("0", "1"):
        answer = train(
            tiny, tmp_path / clips, "--bn-clips", clips, "--batch-size", "13", "--clip-size", "16",
            "--clip-length", "1", "--multigrid", "off", "--end-epoch", "1", "--workers", "0",
            "--clip-grad", "1",  # gradients of so few values are large
        )  # fmt: skip
        assert answer.returncode == 0, answer.stderr
