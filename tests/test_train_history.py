"""The scores of finished epochs: csv files and checkpoints have the same, damage loses none."""

import math

import pytest

from train.results.history import (
    COLUMNS,
    History,
    Table,
    check_history,
    read_history,
    restored_history,
)
from train.train_errors import TrainError

SCORES = {"top1": 100 / 3, "top5": 100.0, "loss": 0.123456789, "clips": 14.0, "seconds": 41.5678}


def history_of(epochs: int) -> History:
    history = History()
    for epoch in range(1, epochs + 1):
        parts = {"train": SCORES, "val": SCORES} if epoch % 2 else {"train": SCORES}
        left, best = (90 - 30 * epoch, 100 / 3) if epoch > 1 else (math.nan, -1)
        history.add_epoch(
            epoch,
            parts,
            lr=0.1 / epoch,
            gates={"layer1.0": epoch / 10},
            seconds_left=left,
            best_top1=best,
        )
    return history


def test_a_table_replaces_the_rows_of_epochs_that_are_done_again(tmp_path):
    table = Table(COLUMNS)
    for epoch in (1, 2, 3):
        table.add(epoch, {"Top1": epoch / 3, "Top5": 1, "Loss": float("nan")})
    (tmp_path / "t.csv").write_text(table.as_csv())
    again = Table.from_csv(tmp_path / "t.csv", COLUMNS)
    again.add(2, {"Top1": 50.0, "Top5": 1, "Loss": 2})
    lines = again.as_csv().splitlines()
    assert lines[0].startswith("Epoch,Top1,Top5,Loss")
    assert [line.split(",")[:2] for line in lines[1:]] == [["1", "0.333333"], ["2", "50"]]


def test_a_column_has_nan_where_a_row_has_no_value():
    table = Table(COLUMNS)
    table.add(1, {"Top1": 5.0})
    table.add(2, {"Loss": 1.5})
    assert table.column("Top1")[0] == 5.0 and math.isnan(table.column("Top1")[1])
    assert math.isnan(table.column("Loss")[0]) and table.column("Loss")[1] == 1.5


ROW = {"Epoch": 1, "Top1": 2.5}


@pytest.mark.parametrize(
    "history",
    [
        {"other.csv": [ROW]},
        {"val_results.csv": ROW},
        {"val_results.csv": [ROW, "2"]},
        {"val_results.csv": [ROW, {"Top1": 2.5}]},
        {"val_results.csv": [{**ROW, "Epoch": 1.0}, ROW]},
        {"val_results.csv": [{**ROW, "Top1": "2.5"}]},
        {"val_results.csv": [{**ROW, "Top1": True}]},
        {"val_results.csv": [{**ROW, 3: 4}]},
    ],
)
def test_a_history_that_is_not_rows_of_numbers_is_refused(tmp_path, history):
    check_history(tmp_path / "last.pth", {"history": history_of(2).rows()})
    check_history(tmp_path / "last.pth", {})
    with pytest.raises(TrainError, match=r"last\.pth.*history of scores is damaged"):
        check_history(tmp_path / "last.pth", {"history": history})


def test_the_csv_files_have_what_was_added(tmp_path):
    history_of(3).write(tmp_path)
    texts = {path.name: path.read_text().splitlines() for path in tmp_path.iterdir()}
    assert texts["train_results.csv"] == [
        "Epoch,Top1,Top5,Loss,Lr,Clips,Seconds,SecondsLeft,BestTop1",
        "1,33.3333,100,0.123457,0.1,14,41.568,,",
        "2,33.3333,100,0.123457,0.05,14,41.568,30,33.3333",
        "3,33.3333,100,0.123457,0.0333333,14,41.568,0,33.3333",
    ]
    assert [line.split(",")[0] for line in texts["val_results.csv"]] == ["Epoch", "1", "3"]
    assert texts["gates.csv"] == ["Epoch,layer1.0", "1,0.1", "2,0.2", "3,0.3"]
    read_history(tmp_path).write(tmp_path)  # once through a file changes nothing
    assert texts == {path.name: path.read_text().splitlines() for path in tmp_path.iterdir()}


def test_a_csv_of_an_earlier_version_gets_the_new_columns_at_its_end(tmp_path):
    old = ["Epoch,Top1,Top5,Loss,Lr,Clips", "1,50,100,0.5,0.1,14"]
    for name in ("train_results.csv", "val_results.csv"):
        (tmp_path / name).write_text("\n".join(old) + "\n")
    history = restored_history({}, tmp_path)
    parts = {"train": SCORES, "val": SCORES}
    history.add_epoch(2, parts, lr=0.1, gates={}, seconds_left=60.0, best_top1=50.0)
    history.write(tmp_path)
    for name in ("train_results.csv", "val_results.csv"):
        assert (tmp_path / name).read_text().splitlines() == [
            f"{old[0]},Seconds,SecondsLeft,BestTop1",
            f"{old[1]},,,",
            "2,33.3333,100,0.123457,0.1,14,41.568,60,50",
        ]


DAMAGED = {
    "empty": b"",
    "half a row": b"Epoch,Top1,Top5,Loss,Lr,Clips\n1,33.3,100,0.1,0.1,14\n2,3",
    "not text": b"\xff\xfe\x00\x01" * 50,
    "a NUL": b"Epoch,Top1\n1,\x002\n",
    "words": b"Epoch,Top1\none,high\n",
    "too many cells": b"Epoch,Top1\n1,2,3,4\n",
    "no epochs": b"a,b\n1,2\n",
    "epochs twice": b"Epoch,Top1\n1,2\n1,2\n",
    "an open quote": b'Epoch,Top1\n1,"2\n',
    "zeros": b"\0" * 4096,
}


@pytest.mark.fault
@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damaged_csv_files_are_rebuilt_from_the_checkpoint(tmp_path, content):
    history = history_of(3)
    history.write(tmp_path)
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for name in whole:
        (tmp_path / name).write_bytes(content)
    restored_history({"history": history.rows()}, tmp_path).write(tmp_path)
    assert whole == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.fault
@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_csv_is_set_aside_where_no_checkpoint_has_its_rows(tmp_path, name, caplog):
    history_of(2).write(tmp_path)
    (tmp_path / "val_results.csv").write_bytes(DAMAGED[name])
    history = restored_history({}, tmp_path)
    assert [row["Epoch"] for row in history.tables["train_results.csv"].rows] == [1, 2]
    assert history.tables["val_results.csv"].rows == []
    assert (tmp_path / "val_results.csv.damaged").read_bytes() == DAMAGED[name]
    said = caplog.messages[-1]
    assert str(tmp_path / "val_results.csv") in said and "val_results.csv.damaged" in said
