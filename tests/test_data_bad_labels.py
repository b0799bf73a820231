"""Label csvs that are wrong: each fault is one line that names file and row, never a traceback."""

import gzip
import logging
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.annotations.duplicate_videos import warn_of_overlap, warn_of_repeats
from data.annotations.label_csv import LabelTable, load_labels
from data.annotations.splits import open_split
from data.annotations.video_folders import Videos
from data.data_error import DataError
from data.dataset_defaults import dataset_spec
from run.exit_codes import command

HEADER = "label,id,split\n"
GOOD = "x,a,train\ny,b,train\nx,c,val\n"
LONG = "a" * 200_000


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A dataset whose stores are empty folders: opening a split looks at their names alone."""
    root = tmp_path_factory.mktemp("dataset")
    for video in ("x/a", "y/b", "x/c", "y/d"):
        (root / "jpg" / video).mkdir(parents=True)
    return root


def split(root: Path, csv: Path, part: str = "train", **options):
    return open_split(dataset_spec("custom"), root, part, labels=csv, **options)


BAD_FILES = {
    "an empty file": ("", "x_train.csv:1: no column label"),
    "a header alone": (HEADER, "x_train.csv: has no rows"),
    "no header": ("x,a,train\ny,b,train\n", "x_train.csv:1: no column label"),
    "a column twice": ("label,id,label\nx,a,y\n", "two columns of the header are named 'label'"),
    "UTF-16": (
        f"{HEADER}{GOOD}".encode("utf-16"),
        "x_train.csv:1: has zero bytes, as in UTF-16",
    ),
    "bytes of no encoding": (b"(" + b"\x93" * 99 + b",id\n", "x_train.csv:1: no column label"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "x_train.csv:1: no column label"),
    "a header without an end": (f"label,id,{LONG}\nx,a,\n", "x_train.csv:1: the line is too long"),
    "only one of the times": ("label,id,time_end\nx,a,1\n", "x_train.csv:1: the header has only"),
    "a field without an end": (f"{HEADER}{GOOD}{LONG},a,train\n", "x_train.csv:5: is not csv"),
    "an open quote": (f'{HEADER}x,a,train\n"y,b,train\nx,c,val\n', "x_train.csv:3: has a quote"),
    "a NUL in an id": (f"{HEADER}{GOOD}x,d\0,train\n", "x_train.csv:5: has the id 'd\\x00'"),
    "an id of 300 bytes": (f"{HEADER}{GOOD}x,{'é' * 150},val\n", "x_train.csv:5: has the id 'é"),
    "a path as id": (f"{HEADER}{GOOD}x,../d,train\n", "x_train.csv:5: has the id '../d'"),
    "an unknown split": (f"{HEADER}{GOOD}y,d,trian\n", "x_train.csv:5: has the split 'trian'"),
    "no split among splits": (f"{HEADER}{GOOD}y,d,\n", "x_train.csv:5: has no split, but other"),
    "no training rows": (f"{HEADER}x,a,val\n", "x_train.csv:2: the csv holds no training rows"),
    "a short row": (f"{HEADER}{GOOD}y\n", "x_train.csv:5: has 1 fields, needs 2"),
    "no such video": (f"{HEADER}{GOOD}y,e,train\n", "x_train.csv:5: no video 'e' of class 'y'"),
}


@pytest.mark.fault
def test_a_bad_csv_is_one_line(root, tmp_path, trials, capsys):
    trial = trials(
        "a bad label csv is one line with file and row", f"{len(BAD_FILES)} kinds of bad csvs"
    )
    for what, (content, message) in BAD_FILES.items():
        path = tmp_path / "x_train.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        code = command(lambda path=path: split(root, path))
        (line,) = [x for x in capsys.readouterr().err.splitlines() if " INFO " not in x]
        held = code == 2 and line.startswith("error: ") and message in line and len(line) < 600
        trial.add(held, f"{what}: {line}")


def test_rows_that_would_be_dropped_are_counted(root, tmp_path, caplog):
    path = tmp_path / "x_train.csv"
    path.write_text(f"{HEADER}x,a,train\ny,b,trian\nx,c,trian\nx,c,val\n")
    with pytest.raises(DataError, match=r"x_train\.csv:3: has the split 'trian'.*\(1 more rows"):
        split(root, path)
    with caplog.at_level(logging.WARNING):
        videos = split(root, path, skip_bad=True)
    assert videos.folders.tolist() == ["x/a"]
    assert "2 rows are skipped" in caplog.text
    path.write_text(f"{HEADER}x,a,trian\ny,b,trian\n")
    with pytest.raises(DataError, match=r"x_train\.csv:2: has the split 'trian'"):
        split(root, path, skip_bad=True)


def test_rows_without_a_split_train_where_others_validate(root, tmp_path):
    path = tmp_path / "x_train.csv"
    path.write_text(f"{HEADER}x,a,\ny,b,\nx,c,val\n")
    assert split(root, path).folders.tolist() == ["x/a", "y/b"]
    assert split(root, path, "val", classes=["x", "y"]).folders.tolist() == ["x/c"]


def test_a_video_in_both_parts_is_a_warning(root, tmp_path, caplog):
    train, val = tmp_path / "x_train.csv", tmp_path / "x_val.csv"
    train.write_text(f"{HEADER}x,a,train\ny,b,train\nx,c,train\n")
    val.write_text(f"{HEADER}y,d,val\nx,c,val\nx,a,val\n")
    with caplog.at_level(logging.WARNING):
        parts = split(root, train), split(root, train, "val", classes=["x", "y"])
        assert not caplog.messages
        warn_of_overlap(*parts)
    (message,) = caplog.messages
    assert message.startswith("2 videos are in training and in validation")
    assert f"x/a ({train}:2 and {val}:4)" in message and f"x/c ({train}:4 and {val}:3)" in message


def test_rows_that_repeat_are_a_warning(root, tmp_path, caplog):
    path = tmp_path / "x_train.csv"
    path.write_text(HEADER + "x,a,train\ny,b,train\n" + "x,a,train\n" * 7)
    with caplog.at_level(logging.WARNING):
        assert len(split(root, path)) == 9
    (message,) = caplog.messages
    assert message.startswith("7 rows repeat an earlier row")
    assert f"x/a ({path}:2 and {path}:4)" in message and message.endswith("and 2 more")


def test_looking_for_repeats_takes_less_memory_than_the_names():
    """A million videos are compared at the start of a run, which must not take its memory."""
    count = 50_000
    folders = np.array([f"class {i % 700:03d}/video{i:07d}" for i in range(count)])
    labels = np.zeros(count, np.int64)
    videos = Videos(Path("jpg"), folders, labels, ("a",), [], Path("x.csv"))
    tracemalloc.start()
    try:
        warn_of_repeats(videos)
        warn_of_overlap(videos, replace(videos, folders=folders[:0], labels=labels[:0]))
        videos.fingerprint()
        assert tracemalloc.get_traced_memory()[1] < folders.nbytes
    finally:
        tracemalloc.stop()


def test_one_video_of_two_classes_is_a_warning(tmp_path, caplog):
    (tmp_path / "jpg" / "a").mkdir(parents=True)  # no class folders
    path = tmp_path / "x_train.csv"
    path.write_text(f"{HEADER}x,a,train\ny,a,train\n")
    with caplog.at_level(logging.WARNING):
        split(tmp_path, path)
    assert caplog.messages == [
        f"1 rows give a video of an earlier row another class: a ({path}:2 and {path}:3)"
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "is not a json that can be read"),
        ('{"x":' * 100_000, "is not a json that can be read"),
        ('{"x": {"y": 0}}', "gives the class 'x' {'y': 0}, which is not a whole number"),
        ('{"x": [0]}', "gives the class 'x' [0], which is not a whole number"),
        ('{"x": 1e999}', "gives the class 'x' inf, which is not a whole number"),
        ('{"x": 0.5}', "gives the class 'x' 0.5, which is not a whole number"),
        ('{"x": true}', "gives the class 'x' True, which is not a whole number"),
        ('{"x": null}', "gives the class 'x' None, which is not a whole number"),
        ('{"x": ' + "9" * 6000 + "}", "is not a json that can be read"),
        ('{"' + "9" * 6000 + '": "x"}', "which is not a whole number"),
        ('{"x": 0, "y": 2}', "its numbers are not 0..1, each once"),
        ("[1, 2]", "is not a json of {class: number}"),
        (b"\xff\xfe{}", "is not a json that can be read"),
        (b"", "is not a json that can be read"),
    ],
)
def test_a_bad_dictionary_is_one_line(tmp_path, content, message):
    path = tmp_path / "x_dictionary.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "x_train.csv").write_text(HEADER + GOOD)
    with pytest.raises(DataError) as error:
        load_labels(tmp_path / "x_train.csv")
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value)
    assert len(str(error.value)) < 400


def test_numbers_of_a_dictionary_may_be_written_in_several_ways(tmp_path):
    (tmp_path / "x_train.csv").write_text(HEADER + GOOD)
    for content in ('{"y": 0, "x": 1}', '{"y": 0.0, "x": 1.0}', '{"0": "y", "1": "x"}'):
        (tmp_path / "x_dictionary.json").write_text(content)
        assert load_labels(tmp_path / "x_train.csv").classes == ("y", "x")


WORDS = [HEADER, GOOD, *',;\t"\n\r\0', "label", "id", "split", "time_start", "trian", "1e999"]
PIECES = st.sampled_from([word.encode() for word in WORDS]) | st.binary(max_size=8)


def is_table_or_error(path: Path, content: bytes) -> bool:
    path.write_bytes(content)
    try:
        table = load_labels(path)
    except DataError as error:
        return str(error).startswith(str(path)) and len(str(error)) < 600
    aligned = {len(table.ids), len(table.labels), len(table.parts), len(table.rows)} == {len(table)}
    in_range = bool(np.all((table.labels >= 0) & (table.labels < max(1, len(table.classes)))))
    return isinstance(table, LabelTable) and aligned and in_range


@pytest.mark.fault
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_any_bytes_are_a_table_or_an_error(tmp_path, trials, packed):
    what = "one byte of a gzip of made-up bytes changed" if packed else "made-up bytes"
    trial = trials("any bytes as a label csv are a table or one line", what)

    @settings(
        max_examples=trial.number(150, 4_000),
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(PIECES, max_size=12).map(b"".join), st.integers(0), st.integers(0, 255))
    def attack(content: bytes, place: int, value: int) -> None:
        path = tmp_path / "x.csv"
        if packed:
            path = tmp_path / "x.csv.gz"
            changed = bytearray(gzip.compress(content, mtime=0))
            changed[place % len(changed)] = value
            content = bytes(changed)
        trial.add(is_table_or_error(path, content), content)

    attack()
