"""Official lists and other frameworks' lists become rows; rows become csvs that load."""

import gzip
import itertools
import json
import re
from collections import Counter
from pathlib import Path

import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from data.annotations import published_lists as listings
from data.annotations.label_csv import load_labels
from data.annotations.label_csv_writer import Row, write_csvs
from data.annotations.published_lists import Rejections, read_classes
from data.annotations.tree_labels import label_tree
from data.data_error import DataError
from data.store import write_store
from data.synthetic import render


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_ucf101_crlf_and_numbers(tmp_path):
    write(tmp_path / "trainlist02.txt", "Archery/v_Archery_g08_c01.avi 3\r\n\r\n")
    write(tmp_path / "testlist02.txt", "Archery/v_Archery_g01_c01.avi\r\n")
    assert list(listings.ucf101(tmp_path, 2)) == [
        Row("Archery", "v_Archery_g08_c01", "train"),
        Row("Archery", "v_Archery_g01_c01", "val"),
    ]


def test_ucf101_names_the_bad_line(tmp_path):
    write(tmp_path / "trainlist01.txt", "A/v.avi 1\nv_Archery_g08_c01.avi 3\n")
    write(tmp_path / "testlist01.txt", "A/w.avi\n")
    with pytest.raises(DataError, match=r"trainlist01.txt:2: 'v_Archery"):
        list(listings.ucf101(tmp_path, 1))


def test_hmdb51_leaves_the_unused_out(tmp_path):
    write(tmp_path / "brush_hair_test_split1.txt", "a (1)_x.avi 1 \nb.avi 2 \nc.avi 0 \n")
    assert list(listings.hmdb51(tmp_path, 1)) == [
        Row("brush_hair", "a (1)_x", "train"),
        Row("brush_hair", "b", "val"),
    ]
    write(tmp_path / "brush_hair_test_split1.txt", "a.avi 3\n")
    with pytest.raises(DataError, match=r"split1.txt:1: "):
        list(listings.hmdb51(tmp_path, 1))
    with pytest.raises(DataError, match="holds no <class>_test_split2"):
        list(listings.hmdb51(tmp_path, 2))


def test_kinetics_dialects_agree(tmp_path):
    plain = "label,youtube_id,time_start,time_end,split\nair drumming,-abc,1,11,validate\n"
    quoted = (
        "\ufefflabel,youtube_id,time_start,time_end,split,is_cc\r\n"
        '"air drumming",-abc,1.0,11.0,val,0\r\n'
    )
    rows = [
        list(listings.labelled_csv(write(tmp_path / name, text), Rejections(), part=None))
        for name, text in (("a.csv", plain), ("b.csv", quoted))
    ]
    assert rows[0] == rows[1] == [Row("air drumming", "-abc", "val", 1, 11)]


def test_rows_without_a_split_need_a_part(tmp_path):
    path = write(tmp_path / "a.csv", "label,id\nx,1\n")
    rejections = Rejections()
    assert list(listings.labelled_csv(path, rejections, part=None)) == []
    assert rejections == [f"{path}:2: has no split (--part names it)"]
    assert list(listings.labelled_csv(path, Rejections(), part="train")) == [Row("x", "1", "train")]


def test_hacs_drops_negatives_and_lists_bad_rows(tmp_path):
    path = write(
        tmp_path / "h.csv",
        "classname,youtube_id,subset,start,end,label\n"
        "Archery,abc,training,10.5,12.5,1\n"
        "Archery,abc,training,20.5,22.5,-1\n"
        "Archery,def,validation,x,2.0,1\n"
        "Archery,ghi,validation,0.0,2.0,1\n",
    )
    rejections = Rejections()
    assert list(listings.hacs(path, rejections)) == [
        Row("Archery", "abc", "train", 10, 12),
        Row("Archery", "ghi", "val", 0, 2),
    ]
    assert len(rejections) == 1 and rejections[0].startswith(f"{path}:4: ")


def test_hacs_needs_its_columns(tmp_path):
    path = write(tmp_path / "h.csv", "classname,subset,start,end\nA,training,0,2\n")
    with pytest.raises(DataError, match="no column youtube_id"):
        list(listings.hacs(path, Rejections()))


def test_moments(tmp_path):
    path = write(tmp_path / "t.csv", "clapping/yt-1_2.mp4,clapping,3,0\nclapping\n")
    rejections = Rejections()
    rows = list(listings.moments(path, rejections, part="train"))
    assert rows == [Row("clapping", "yt-1_2", "train")]
    assert len(rejections) == 1 and f"{path}:2" in rejections[0]


def test_diving48(tmp_path):
    entries = [{"vid_name": "v1", "label": 1}, {"vid_name": "v2", "label": 9}, {"label": 0}]
    path = write(tmp_path / "d.json", json.dumps(entries))
    rejections = Rejections()
    rows = list(listings.diving48(path, rejections, part="val", classes=["a", "b"]))
    assert rows == [Row("b", "v1", "val")]
    assert [line.split(": ")[1] for line in rejections] == ["entry 2", "entry 3"]
    with pytest.raises(DataError, match="not a json"):
        list(listings.diving48(write(path, "{"), rejections, part="val", classes=["a"]))


def test_activitynet(tmp_path):
    database = {
        "a": {
            "subset": "training",
            "annotations": [
                {"segment": [0.5, 12.25], "label": "Archery"},
                {"segment": [20, 31.5], "label": "Long jump"},
            ],
        },
        "b": {"subset": "validation", "annotations": [{"segment": [1, 2], "label": "Archery"}]},
        "c": {"subset": "testing", "annotations": []},
        "d": {"subset": "training", "annotations": [{"segment": [5, 5], "label": "Archery"}]},
        "e": {"annotations": [{"segment": [1, 5], "label": "Archery"}]},
        "f": [],
    }
    path = write(tmp_path / "a.json", json.dumps({"version": "1.3", "database": database}))
    rejections = Rejections()
    rows = list(listings.activitynet(path, rejections, prefix="v_"))
    assert rows == [
        Row("Archery", "v_a", "train", 0.5, 12.25),
        Row("Long jump", "v_a", "train", 20, 31.5),
        Row("Archery", "v_b", "val", 1, 2),
    ]
    assert [line.split(": ")[1] for line in rejections] == ["'d'", "'e'", "'f'"]
    written = write_csvs(rows, lambda part: tmp_path / f"x_{part}.csv")
    table = load_labels(tmp_path / "x_train.csv")
    assert written[tmp_path / "x_train.csv"] == 2 and table.rejected == []
    assert table.times.tolist() == [[0.5, 12.25], [20, 31.5]]
    assert table.video_ids().tolist() == ["v_a", "v_a"]
    for text in ("[]", '{"database": []}', "{"):
        with pytest.raises(DataError, match=r"a\.json"):
            list(listings.activitynet(write(path, text), rejections))


class TestTree:
    def videos(self, root: Path, classes=("run", "jump"), count=10) -> Path:
        for label in classes:
            for number in range(count):
                write(root / label / f"{label}{number}.mp4", "")
        return root

    def test_split_is_by_class_and_the_same_each_time(self, tmp_path):
        root = self.videos(tmp_path)
        rows = label_tree(root, fraction=0.3, seed=5)
        assert rows == label_tree(root, fraction=0.3, seed=5)
        assert rows != label_tree(root, fraction=0.3, seed=6)
        for label in ("run", "jump"):
            assert [r.part for r in rows if r.label == label].count("val") == 3

    @pytest.mark.parametrize("fraction", [0.01, 0.99])
    def test_both_parts_have_every_class(self, tmp_path, fraction):
        rows = label_tree(self.videos(tmp_path), fraction=fraction, seed=0)
        assert {(r.label, r.part) for r in rows} == {
            (label, part) for label in ("run", "jump") for part in ("train", "val")
        }

    def test_train_and_val_folders(self, tmp_path):
        self.videos(tmp_path / "train")
        self.videos(tmp_path / "validation", count=2)
        rows = label_tree(tmp_path, fraction=0.2, seed=0)
        parts = [row.part for row in rows]
        assert (parts.count("train"), parts.count("val")) == (20, 4)

    def test_videos_of_one_source_stay_together(self, tmp_path):
        for label in ("run", "jump"):
            for group, clip in itertools.product(range(10), range(3)):
                write(tmp_path / label / f"v_{label}_g{group:02}_c{clip:02}.avi", "")
        rows = label_tree(tmp_path, fraction=0.2, seed=1)
        assert Counter((row.label, row.part) for row in rows) == {
            ("run", "train"): 24, ("run", "val"): 6, ("jump", "train"): 24, ("jump", "val"): 6,
        }  # fmt: skip
        parts = {(row.id[:-4], row.part) for row in rows}
        assert len(parts) == 20  # one part for each group
        rows = label_tree(tmp_path, fraction=0.5, seed=1, group=re.compile("_c[0-9]+"))
        assert len({(row.id[-4:], row.part) for row in rows}) == 3
        with pytest.raises(DataError, match="--group actor: is found in no video's name"):
            label_tree(tmp_path, fraction=0.5, seed=1, group=re.compile("actor"))

    def test_copies_stay_together(self, tmp_path, caplog):
        """Stores with the same pictures are on one side, unless a whole class looks alike."""
        for label in ("run", "jump"):
            for number in range(12):
                seed = number // 2 if label == "run" else 0
                frames = render("grow", (seed, 1))[:8]
                frames = [simplejpeg.encode_jpeg(f, quality=90 - number % 2) for f in frames]
                write_store(tmp_path / "jpg" / label / f"{label}{number}", "x", frames)
        rows = label_tree(tmp_path, fraction=0.34, seed=0)
        parts = {row.id: row.part for row in rows}
        assert all(parts[f"run{n}"] == parts[f"run{n + 1}"] for n in range(0, 12, 2))
        assert Counter(parts.values()) == {"train": 16, "val": 8}
        assert "all videos of 1 classes look alike" in caplog.text

    def test_train_and_val_hold_folders(self, tmp_path):
        """Class folders that are named like parts are classes."""
        self.videos(tmp_path, classes=("train", "test"), count=4)
        rows = label_tree(tmp_path, fraction=0.25, seed=0)
        assert Counter((row.label, row.part) for row in rows) == {
            ("train", "train"): 3, ("train", "val"): 1, ("test", "train"): 3, ("test", "val"): 1,
        }  # fmt: skip
        self.videos(tmp_path / "train", count=2)
        assert {row.label for row in label_tree(tmp_path, fraction=0.2, seed=0)} == {"run", "jump"}

    def test_stores(self, tmp_path):
        write(tmp_path / "jpg" / "run" / "a.b" / "frames.db", "")
        assert label_tree(tmp_path, fraction=0, seed=0) == [Row("run", "a.b", "train")]


class TestPathList:
    def rows(self, path, text, classes=None):
        return list(
            listings.path_list(write(path, text), Rejections(), part="val", classes=classes)
        )

    def test_dialects(self, tmp_path):
        wanted = [Row("run", "a b", "val"), Row("jump", "c", "val")]
        for text in (
            "run/a b.mp4 0\njump/c.mp4 1\n",
            "run/a b.mp4,0\njump/c.mp4,1\n",
            "run/a b 120 0\njump/c 300 1\n",
            "run/a b.mp4 run\njump/c.mp4 jump\n",
        ):
            assert self.rows(tmp_path / "l.txt", text) == wanted, text

    def test_class_file(self, tmp_path):
        assert self.rows(tmp_path / "l.txt", "a.mp4 1\n", ["x", "y"]) == [Row("y", "a", "val")]

    def test_numbers_without_names(self, tmp_path):
        with pytest.raises(DataError, match=r"l.txt:1: the videos of class 1 .* --classes"):
            self.rows(tmp_path / "l.txt", "a.mp4 1\n")
        with pytest.raises(DataError, match=r"l.txt:2: "):
            self.rows(tmp_path / "l.txt", "x/a.mp4 1\ny/b.mp4 1\n")

    def test_bad_lines(self, tmp_path):
        path, rejections = (
            write(tmp_path / "l.txt", "x/a.mp4 0\nnothing\nx/b.mp4 7\n"),
            Rejections(),
        )
        rows = list(listings.path_list(path, rejections, part="val", classes=["x"]))
        assert rows == [Row("x", "a", "val")]
        assert [line.split(": ")[0] for line in rejections] == [f"{path}:2", f"{path}:3"]


def test_class_lists(tmp_path):
    path = write(tmp_path / "c.txt", "\ufeff1 Apply Lipstick\r\n2 Archery\r\n")
    assert read_classes(path) == ["Apply Lipstick", "Archery"]
    with pytest.raises(DataError, match="lists the class 'brush_hair' twice"):
        read_classes(write(path, "brush_hair\nBrush hair\n"))


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="/\0\r\n"), min_size=1, max_size=20)
NAMES = TEXT.map(str.strip).filter(lambda name: name.strip("_ ") and not name.startswith("."))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(NAMES, NAMES, st.sampled_from(["train", "val"])), min_size=1, max_size=20
    ),
    packed=st.booleans(),
    timed=st.booleans(),
)
def test_what_is_written_loads(tmp_path_factory, rows, packed, timed):
    folder = tmp_path_factory.mktemp("csv")
    span = (3, 13) if timed else (None, None)
    rows = [Row(*row, *span) for row in rows]
    ending = ".csv.gz" if packed else ".csv"
    written = write_csvs(rows, lambda part: folder / f"x_{part}{ending}")
    loaded = set()
    for path in written:
        table = load_labels(path)
        assert not table.rejected
        part = path.name.removeprefix("x_").removesuffix(ending)
        loaded |= {(video, part) for video in table.ids.tolist()}
    stamp = "_000003_000013" if timed else ""
    assert loaded == {(row.id + stamp, row.part) for row in rows}


def test_order_duplicates_and_equal_bytes(tmp_path):
    rows = [Row("b", "1", "val"), Row("a", "2", "val"), Row("b", "1", "val")]
    path = tmp_path / "x_val.csv.gz"
    assert write_csvs(rows, lambda part: path, ["a", "b"]) == {path: 2}
    assert gzip.decompress(path.read_bytes()) == b"label,id,split\na,2,val\nb,1,val\n"
    before = path.read_bytes()
    write_csvs(rows, lambda part: path, ["a", "b"])
    assert path.read_bytes() == before
    with pytest.raises(DataError, match="unknown class 'b'"):
        write_csvs(rows, lambda part: path, ["a"])
    with pytest.raises(DataError, match="no row"):
        write_csvs([], lambda part: path)
    assert path.read_bytes() == before
