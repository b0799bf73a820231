"""Likely wrong labels by the losses of a training: the scores, the command, the benchmark."""

import argparse
import csv
import json
import math
import shutil

import numpy as np
import pytest
import torch

from data.annotations.dataset_fingerprint import fingerprint
from data.annotations.splits import open_split
from data.dataset_defaults import dataset_spec
from run import check, demo
from run.benchmarks.label_errors import counts, flipped_dataset, measure
from run.checks.label_errors import find_label_errors, scores_of, suspects_of
from run.command_line import complete
from run.exit_codes import command
from train.results.losses_file import append_losses, as_row, row_type, start_losses
from train.results.recorder import write_config

WRONG, HARD = 5, 2  # videos of the tiny dataset


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def losses_of(loss, predicted, classes=3) -> np.ndarray:
    """An array as `open_losses` returns it."""
    found = np.zeros(np.shape(loss), row_type(classes))
    found["loss"], found["predicted"] = loss, predicted
    return found


def test_the_score_is_the_mean_of_what_a_loss_exceeds_its_epoch_by():
    loss = np.array([[1, 2, 3, np.nan], [0, 4, np.nan, np.nan]], np.float16)
    assert scores_of(loss)[:3].tolist() == [(-1 - 2) / 2, (0 + 2) / 2, 1]
    assert math.isnan(scores_of(loss)[3])
    assert np.isnan(scores_of(np.full((2, 3), np.nan))).all()


def test_a_video_that_few_epochs_have_shown_is_compared_with_these():
    """A resumed run of an earlier version knows its last epochs only, when losses are low."""
    loss = np.array([[5, 5, 5, np.nan], [1, 1, 1, 3]], np.float16)
    assert scores_of(loss).argmax() == 3


def test_the_tenth_with_the_highest_scores_is_listed_and_a_class_named():
    rng = np.random.default_rng(0)
    loss = rng.uniform(0, 1, (4, 40))
    loss[:, [7, 30]] += 3, 2
    labels, predicted = np.zeros(40, int), np.zeros((4, 40), int)
    predicted[:, 7] = 1, 1, 2, 0  # memorised in the last epoch
    predicted[:, 30] = -1, 0, 0, 0
    found = losses_of(loss, predicted)
    suspects = suspects_of(found, labels, scores_of(found["loss"]))
    assert [suspect.index for suspect in suspects[:2]] == [7, 30] and len(suspects) == 4
    assert (suspects[0].likely, suspects[0].otherwise) == (2, 3)
    assert (suspects[1].likely, suspects[1].otherwise) == (None, 0)
    assert suspects[0].score > suspects[1].score > suspects[2].score


@pytest.fixture
def results(tiny, tmp_path):
    """A results folder with losses of two epochs; videos WRONG and HARD have high ones."""
    labels = tiny / "labels" / "tiny_train.csv"
    shape = {"clip_length": 4, "clip_size": 32, "train_frame_interval": [1]}
    config = complete("custom", dataset=str(tiny), labels=str(labels), **shape)
    parts = [
        open_split(dataset_spec("custom"), tiny, part, labels=labels) for part in ("train", "val")
    ]
    folder, videos = tmp_path / "results", parts[0]
    folder.mkdir()
    facts = {"classes": videos.classes, "fingerprint": str(fingerprint(*parts))}
    write_config(folder, config, **facts)
    start_losses(folder, len(videos), 3, epochs=0)
    for epoch in (1, 2):
        values = torch.stack([torch.full((len(videos),), 1 / epoch), torch.tensor(videos.labels)])
        values[0, [WRONG, HARD]] = torch.tensor([4.0, 2.0])
        values[1, WRONG] = (videos.labels[WRONG] + 1) % 3
        append_losses(folder, epoch, as_row(values.float(), len(videos), 3))
    return folder


def test_the_command_lists_them_with_film_strips(results, capsys):
    found = find_label_errors(results)
    check.main(["--losses", str(results)])
    first, second = rows(results / "label_errors" / "label_errors.csv")  # a tenth of 14
    videos = found.videos
    label = videos.classes[videos.labels[WRONG]]
    other = videos.classes[(videos.labels[WRONG] + 1) % 3]
    assert (first["video"], first["label"]) == (videos.name(WRONG), label)
    assert (first["likely_class"], first["epochs_predicted_otherwise"]) == (other, "2")
    assert float(first["score"]) == pytest.approx(found.scores[WRONG], rel=1e-3)
    assert first["row"] == str(videos.rows[WRONG])
    assert (second["video"], second["likely_class"]) == (videos.name(HARD), "")
    page = (results / "label_errors" / "report.html").read_text()
    assert page.count('class="film"') == 2 and page.count("data:image/jpeg") == 2 * 4
    assert f"labelled {label}, likely {other}" in page and "O2U-Net" in page
    assert f"{videos.name(WRONG)}  labelled {label}, likely {other}" in capsys.readouterr().out


def test_a_dataset_that_was_moved_is_named(results, tiny, tmp_path, capsys):
    moved = shutil.copytree(tiny, tmp_path / "moved")
    options = json.loads((results / "config.json").read_text())
    options["options"] |= {"dataset": "/nowhere", "labels": None, "mixup": 0.2}
    (results / "config.json").write_text(json.dumps(options))
    check.main([str(moved), "--losses", str(results), "--output", str(tmp_path / "out")])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "mixed with others" in page and "data:image/jpeg" in page


def error_of(*words, capsys) -> str:
    code = command(lambda: check.main(list(map(str, words))))
    said = capsys.readouterr().err.splitlines()
    assert code == 2, said
    (error,) = [line for line in said if "error: " in line]
    return error


def test_bad_input_is_one_line(results, tiny, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        check.main([])
    assert "give the dataset" in capsys.readouterr().err
    csv_path = tmp_path / "other_train.csv"
    lines = (tiny / "labels" / "tiny_train.csv").read_text().splitlines()
    csv_path.write_text("\n".join(lines[:-1]))
    said = error_of("--losses", results, "--labels", csv_path, capsys=capsys)
    assert "are not those of the training" in said and "--labels" in said
    assert not (results / "label_errors").exists()
    (results / "train_losses.npy").write_bytes(b"\x93NUMPY nothing")
    assert "train_losses.npy: cannot be read" in error_of("--losses", results, capsys=capsys)
    (results / "train_losses.npy").unlink()
    assert "is missing; a training writes it" in error_of("--losses", results, capsys=capsys)
    start_losses(results, 14, 3, epochs=0)
    assert "has no epoch yet" in error_of("--losses", results, capsys=capsys)
    assert "has no config.json" in error_of("--losses", tmp_path / "none", capsys=capsys)


def test_labels_are_flipped_and_counted(tmp_path):
    for part, number in (("train", 30), ("val", 3)):
        path = demo.label_csv(tmp_path, part)
        path.parent.mkdir(exist_ok=True)
        lines = [f"{name},{part}_{name}_{i},{part}" for name in demo.ACTIONS for i in range(number)]
        path.write_text("\n".join(["label,id,split", *lines]))
    right = flipped_dataset(tmp_path, tmp_path / "flipped", 0.05, seed=1)
    assert len(right) == 12 == round(0.05 * 240)
    before, after = (
        {row["id"]: row["label"] for row in rows(demo.label_csv(root, "train"))}
        for root in (tmp_path, tmp_path / "flipped")
    )
    assert {video: before[video] for video in before if before[video] != after[video]} == right
    assert rows(demo.label_csv(tmp_path, "val")) == rows(
        demo.label_csv(tmp_path / "flipped", "val")
    )
    assert right == flipped_dataset(tmp_path, tmp_path / "flipped", 0.05, seed=1)


@pytest.mark.slow
def test_flipped_labels_of_the_embedded_dataset_are_found(tmp_path):
    args = argparse.Namespace(root=tmp_path, scale=1.0, share=0.05, seeds=[1], options="")
    (row,) = measure(args)
    assert row["flipped"] == 60 and row["found_in_first_10%"] >= 54, row
    assert row["right_class_named"] >= 40, row


def test_counts_know_the_listed_videos(results):
    found = find_label_errors(results)
    videos = found.videos
    right = {
        str(videos.folders[WRONG]): videos.classes[(videos.labels[WRONG] + 1) % 3],
        str(videos.folders[HARD + 1]): "other",
    }
    assert counts(found, right) == {
        "found_in_first_5%": 1, "found_in_first_10%": 1, "right_class_named": 1
    }  # fmt: skip
