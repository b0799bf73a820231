"""Label csvs: every dialect loads, every row that cannot be used says why."""

import codecs
import gzip
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.annotations.label_csv import NO_SPLIT, TEST, TRAIN, VAL, load_labels
from data.data_error import DataError
from data.dataset_defaults import READY_MADE

PLAIN = (
    "label,youtube_id,time_start,time_end,split\nair drumming,-a,1,11,train\nyoga,b,2,12,train\n"
)


def table_of(tmp_path: Path, text: str | bytes, name: str = "x_train.csv", **options):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_labels(path, **options)


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.rstrip("\n"),
        PLAIN.replace("\n", "\n\n"),
        codecs.BOM_UTF8 + PLAIN.encode(),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace("air drumming", '"air drumming"').replace("label", '"label"'),
        PLAIN.replace("1,11", "1.0,11.0").replace("2,12", " 2 ,12.9"),
        PLAIN.replace("label,y", "Label,Y"),
        "split,is_cc,time_end,time_start,youtube_id,label\n"
        "train,0,11,1,-a,air drumming\ntrain,1,12,2,b,yoga\n",
        PLAIN.replace("label,youtube_id,time_start,time_end,split", "class,id,start,end,subset"),
    ],
)
def test_every_dialect_is_the_same_table(tmp_path, text):
    table = table_of(tmp_path, text)
    assert table.ids.tolist() == ["-a_000001_000011", "b_000002_000012"]
    assert table.labels.tolist() == [0, 1]
    assert table.classes == ("air drumming", "yoga")
    assert table.parts.tolist() == [TRAIN, TRAIN]
    assert table.rejected == []
    assert (table.labels.dtype, table.ids.dtype.kind, len(table)) == (np.int64, "U", 2)


def test_rows_are_counted_as_editors_count_lines_whatever_stands_between_them(tmp_path):
    long = "y" * 200_000  # more than a csv's field may have
    rows = ["a,1,train", f"a,{long},train", "b,,train", "", 'c,"x', 'y",train', ",5,train"]
    table = table_of(tmp_path, "\n".join(["label,id,split", *rows, "d,6,val"]) + "\n")
    assert table.ids.tolist() == ["1", "6"]
    assert [line for line, _ in table.rejected] == [3, 4, 6, 8]
    assert table.rows.tolist() == [2, 9]


def test_an_id_may_have_230_bytes_not_characters(tmp_path):
    ids = ["x" * 230, "x" * 231, "é" * 115, "é" * 115 + "x"]
    table = table_of(tmp_path, "label,id\n" + "".join(f"a,{name}\n" for name in ids))
    assert table.ids.tolist() == [ids[0], ids[2]]
    assert [line for line, _ in table.rejected] == [3, 5]


def test_the_csv_of_hacs_is_named_with_its_converter(tmp_path):
    for header in ("classname,label", "classname,label,subset,id"):
        with pytest.raises(DataError, match=r"run\.labels hacs"):
            table_of(tmp_path, f"{header}\na,b\n")


def test_gzip(tmp_path):
    table = table_of(tmp_path, gzip.compress(PLAIN.encode()), "x_train.csv.gz")
    assert len(table) == 2


def test_parts(tmp_path):
    words = ["train", "validate", "val", "Validation", "testing", "test", "", " "]
    text = "label,id,split\n" + "".join(f"x,{n},{word}\n" for n, word in enumerate(words))
    parts = table_of(tmp_path, text).parts.tolist()
    assert parts == [TRAIN, VAL, VAL, VAL, TEST, TEST, NO_SPLIT, NO_SPLIT]


def test_one_class_in_several_spellings(tmp_path):
    table = table_of(tmp_path, "label,id\nBrush_Hair,a\nbrush hair,b\nclap,c\nbrush  hair,d\n")
    assert table.labels.tolist() == [0, 0, 1, 0]
    assert table.classes == ("Brush_Hair", "clap")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("x", "has 1 fields, needs 4"),
        ("x,,1,2", "has no video id"),
        (" ,a,1,2", "has no label"),
        ("x,../a,1,2", "which no folder can be named"),
        ("x,..,1,2", "which no folder can be named"),
        (f"x,{'a' * 300},1,2", "which no folder can be named"),
        ("x,a,one,2", "has the time 'one'"),
        ("x,a,nan,2", "has the time 'nan'"),
        ("x,a,-1,2", "not within 0..999999"),
        ("x,a,1,", "only one of time_start and time_end"),
        ("zumba,a,1,2", "has the unknown class 'zumba'"),
        ('"x,a,1,2\nx,b,1,2"', "has a quote that closes on line 4 only"),
    ],
)
def test_a_bad_row_is_rejected_by_its_line(tmp_path, row, reason):
    text = f"label,id,time_start,time_end\nx,good,1,2\n{row}\nx,good2,1,2\n"
    table = table_of(tmp_path, text, classes=["x"])
    assert table.ids.tolist() == ["good_000001_000002", "good2_000001_000002"]
    assert [line for line, _ in table.rejected] == [3]
    assert reason in table.rejected[0][1]
    assert table.rows[0] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column label or class"),
        ("label,id\n", "has no rows"),
        ("youtube_id,time_start,time_end,split\na,1,2,test\n", ":1: no column label"),
        ("label,split\nx,train\n", ":1: no column id or youtube_id"),
        ("label,id,time_start\nx,a,1\n", "only one of time_start and time_end"),
        ("classname,youtube_id,subset,start,end,label\nA,b,training,1,2,1\n", "HACS"),
        (b"\x1f\x8b broken", "no column"),
    ],
)
def test_an_unusable_file_is_an_error(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        table_of(tmp_path, text)


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load_labels(tmp_path / "none.csv")
    packed = gzip.compress(PLAIN.encode() * 100)
    for broken in (packed[: len(packed) // 2], b"no gzip", packed[:30] + b"\0\0\0" + packed[33:]):
        with pytest.raises(DataError, match="cannot be read"):
            table_of(tmp_path, broken, "x.csv.gz")


class TestDictionary:
    def test_rules_the_numbers(self, tmp_path):
        names = {"yoga": 0, "unseen": 1, "air drumming": 2}
        (tmp_path / "x_dictionary.json").write_text(json.dumps(names))
        table = table_of(tmp_path, PLAIN)
        assert table.labels.tolist() == [2, 0]
        assert table.classes == ("yoga", "unseen", "air drumming")

    def test_another_datasets_does_not(self, tmp_path):
        (tmp_path / "y_dictionary.json").write_text('{"yoga": 0}')
        assert table_of(tmp_path, PLAIN).labels.tolist() == [0, 1]

    def test_given_classes_come_first(self, tmp_path):
        (tmp_path / "x_dictionary.json").write_text('{"yoga": 0, "air drumming": 1}')
        table = table_of(tmp_path, PLAIN, classes=["air drumming", "yoga"])
        assert table.labels.tolist() == [0, 1]

    @pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', '{"a": 0, "b": 0}', "{}"])
    def test_nonsense(self, tmp_path, content):
        (tmp_path / "x_dictionary.json").write_text(content)
        with pytest.raises(DataError, match=r"x_dictionary\.json"):
            table_of(tmp_path, PLAIN)


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=12)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(CELL, max_size=6).map(",".join), min_size=1, max_size=20))
def test_any_row_is_used_or_rejected(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("labels") / "x.csv"
    path.write_text("label,id,time_start,time_end,split\n" + "\n".join(["x,ok,1,2,train", *lines]))
    table = load_labels(path)
    assert table.ids[0] == "ok_000001_000002"
    used = set(table.rows.tolist())
    rejected = {line for line, _ in table.rejected}
    assert not used & rejected
    assert used | rejected <= set(range(2, len(lines) + 3))
    assert set(table.labels.tolist()) == set(range(len(table.classes)))


def test_a_table_is_arrays_that_workers_share(tmp_path):
    rows = "".join(
        f"class {n % 400},{n:011d},{n % 90},{n % 90 + 10},train\n" for n in range(50_000)
    )
    table = table_of(tmp_path, "label,youtube_id,time_start,time_end,split\n" + rows)
    assert len(table) == 50_000 and not table.rejected
    for column in (table.ids, table.labels, table.parts, table.rows):
        assert not column.dtype.hasobject
    assert len(pickle.dumps(table.rejected)) < 100


READY = sorted(READY_MADE.glob("*.csv*"))


@pytest.mark.parametrize("path", READY, ids=lambda path: path.name)
def test_the_ready_csvs(path):
    table = load_labels(path)
    assert not table.rejected
    assert len(set(table.ids.tolist())) == len(table)
    stem = path.name.split("_")[0].replace("hmdb", "hmdb51")
    names = (READY_MADE / f"{stem}_classes.txt").read_text().splitlines()
    assert list(table.classes) == names
    assert set(table.parts.tolist()) == {TRAIN if "_train" in path.name else VAL}


def test_there_are_ready_csvs():
    assert len(READY) == 16


def test_every_official_csv_loads(real_data):
    rows = {}
    for path in sorted((real_data / "labels").glob("*/*.csv")):
        if path.name in ("kinetics700-test.csv", "activitynet200_action_name.csv"):
            with pytest.raises(DataError, match=r":1: no column"):  # neither has labels
                load_labels(path)
            continue
        table = load_labels(path)
        assert not table.rejected, path
        rows[path.name] = len(table), len(table.classes)
    assert rows["kinetics_validate.csv"][0] == 17_736
    assert rows["activitynet_kinetics-400_val.csv"] == (19_906, 400)
    assert rows["kinetics700-validate.csv"] == (33_909, 700)
