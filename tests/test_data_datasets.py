"""From a dataset's folder to the videos of a split: which csv, which rows, which classes."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import data
from data.annotations.label_csv import load_labels
from data.annotations.splits import find_csv, open_split
from data.annotations.video_folders import find_videos
from data.data_error import DataError
from data.dataset_defaults import DATASETS, READY_MADE, dataset_spec

CUSTOM = dataset_spec("custom")


@pytest.fixture
def dataset(tmp_path) -> Path:
    """Folders of videos (empty: what is in them is not looked at), and a train and a val csv."""
    for video in ("brush hair/a", "brush hair/b", "wave/c", "wave/d", "wave/e"):
        (tmp_path / "set" / "jpg" / video).mkdir(parents=True)
    (tmp_path / "set" / "labels").mkdir()
    write(tmp_path, "m_train", "label,id,split\nbrush_hair,a,train\nwave,c,train\nwave,d,train\n")
    write(tmp_path, "m_val", "label,id,split\nwave,e,val\nbrush_hair,b,val\n")
    return tmp_path / "set"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / "set" / "labels" / f"{name}.csv"
    path.write_text(text)
    return path


def names(videos) -> list[str]:
    return [videos.folder(i).name for i in range(len(videos))]


def test_both_parts_share_the_numbers_of_the_training_part(dataset):
    train = open_split(CUSTOM, dataset, "train")
    val = open_split(CUSTOM, dataset, "val", classes=train.classes)
    assert names(train) == ["a", "c", "d"] and names(val) == ["e", "b"]
    assert train.classes == val.classes == ("brush_hair", "wave")
    assert train.labels.tolist() == [0, 1, 1] and val.labels.tolist() == [1, 0]
    assert train.folder(0) == dataset / "jpg" / "brush hair" / "a"


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_one_csv_may_hold_both_parts(dataset, held_out):
    text = f"label,id,split\nwave,c,train\nwave,d,{held_out}\nbrush_hair,a,train\n"
    path = write(dataset.parent, "all", text)
    train = open_split(CUSTOM, dataset, "train", labels=path)
    val = open_split(CUSTOM, dataset, "val", labels=path, classes=train.classes)
    assert names(train) == ["c", "a"] and names(val) == ["d"]


@pytest.mark.parametrize(
    "text", ["label,id\nwave,c\nwave,d\n", "label,id,split\nwave,c,train\nwave,d,train\n"]
)
def test_training_videos_are_never_validated_on(dataset, text):
    path = write(dataset.parent, "only", text)
    with pytest.raises(DataError, match="holds no validation rows"):
        open_split(CUSTOM, dataset, "val", labels=path, classes=("wave",))


def test_a_row_without_video_names_file_and_row_and_can_be_skipped(dataset):
    path = write(dataset.parent, "x_train", "label,id,split\nwave,c,train\nwave,gone,train\n")
    with pytest.raises(DataError, match=r"x_train\.csv:3: no video 'gone' .* --skip-bad"):
        open_split(CUSTOM, dataset, "train", labels=path)
    videos = open_split(CUSTOM, dataset, "train", labels=path, skip_bad=True)
    assert names(videos) == ["c"] and videos.rejected[0][0] == f"{path}:3"


def test_nothing_usable_is_an_error_even_with_skip_bad(dataset):
    path = write(dataset.parent, "x_train", "label,id\nwave,gone\n")
    with pytest.raises(DataError, match="none of its 1 rows"):
        open_split(CUSTOM, dataset, "train", labels=path, skip_bad=True)


def test_the_projects_own_csv_serves_a_subset_with_fewer_classes(tmp_path, caplog):
    spec = DATASETS["ucf101"]
    table = load_labels(READY_MADE / "ucf101_split1_train.csv")
    val = load_labels(READY_MADE / "ucf101_split1_val.csv")
    for name in ("Basketball", "Archery"):
        number = table.classes.index(name)
        for ids in (table.ids[table.labels == number], val.ids[val.labels == number]):
            for video in ids[:3]:
                (tmp_path / "jpg" / name / video).mkdir(parents=True)
    with caplog.at_level("INFO"):
        train = open_split(spec, tmp_path, "train")
    held_out = open_split(spec, tmp_path, "val", classes=train.classes)
    assert train.classes == ("Archery", "Basketball") and len(train) == len(held_out) == 6
    assert np.bincount(held_out.labels).tolist() == [3, 3]
    assert "the labels have 2 of the 101 classes of UCF101" in caplog.text


def test_the_users_csvs_go_before_the_projects_own(dataset):
    spec, place = DATASETS["ucf101"], {"labels": None, "split": 1}
    assert find_csv(spec, dataset, "train", **place).parent == READY_MADE
    theirs = write(dataset.parent, "ucf101_split1_train", "label,id\nwave,c\n")
    assert find_csv(spec, dataset, "train", **place) == theirs
    with pytest.raises(DataError, match=r"no kinetics-400_train\.csv in"):
        find_csv(DATASETS["kinetics"], dataset, "train", **place)


def test_csvs_of_other_names_in_the_datasets_own_folder(tmp_path):
    """As for a checkpoint of UCF-101 that is scored on another dataset."""
    place = {"labels": None, "split": 2, "other_names": True}
    rows = "label,id\nwave,c\n"
    root = tmp_path / "set"
    (root / "labels").mkdir(parents=True)
    own = [write(tmp_path, name, rows) for name in ("mine_train", "mine_val")]
    for name in ("ucf101", "custom", "hmdb51"):
        found = [find_csv(DATASETS[name], root, part, **place) for part in ("train", "val")]
        assert found == own
    # another split of the same dataset is not taken for the one that was asked for
    for csv in own:
        csv.rename(csv.with_name(csv.name.replace("mine", "ucf101_split1")))
    assert find_csv(DATASETS["ucf101"], root, "val", **place).parent == READY_MADE
    assert find_csv(DATASETS["hmdb51"], root, "val", **place).parent == root / "labels"
    # with val and test there, val is for validation
    for part in ("val", "test"):
        write(tmp_path, f"x_{part}", rows)
    (root / "labels" / "ucf101_split1_val.csv").unlink()
    assert find_csv(DATASETS["custom"], root, "val", **place).name == "x_val.csv"


def test_the_projects_csvs_are_never_offered_for_a_dataset_of_ones_own(tmp_path):
    for root in (tmp_path, READY_MADE.parent / "a" / "b"):
        with pytest.raises(DataError, match=r"no \*_val\.csv in") as error:
            find_csv(DATASETS["custom"], root, "val", labels=None, split=1)
        assert "hmdb" not in str(error.value) and f"{READY_MADE}," not in str(error.value)


def test_flat_datasets_and_the_jpg_folder_itself(tmp_path):
    for video in ("a", "b"):
        (tmp_path / "jpg" / video).mkdir(parents=True)
    (tmp_path / "x.csv").write_text("label,id\nwave,a\njump,b\n")
    table = load_labels(tmp_path / "x.csv")
    for root in (tmp_path, tmp_path / "jpg"):
        videos = find_videos(root, table)
        assert names(videos) == ["a", "b"] and videos.folder(1) == tmp_path / "jpg" / "b"


def test_the_fingerprint_does_not_depend_on_the_place(dataset, tmp_path):
    first = open_split(CUSTOM, dataset, "train").fingerprint()
    moved = dataset.rename(tmp_path / "elsewhere")
    assert open_split(CUSTOM, moved, "train").fingerprint() == first
    labels = moved / "labels" / "m_train.csv"
    labels.write_text(labels.read_text().replace("wave,d", "brush_hair,b"))
    assert open_split(CUSTOM, moved, "train").fingerprint() != first


@pytest.mark.parametrize(
    ("name", "classes"), [("hacs", 200), ("mit", 339), ("ucf101", 101), ("hmdb51", 51)]
)
def test_the_table_of_datasets(name, classes):
    spec = dataset_spec(name)
    assert spec.classes == classes and spec.clip_size < spec.short_side


def test_unknown_datasets_and_variants():
    with pytest.raises(DataError, match="the datasets are hacs, kinetics"):
        dataset_spec("imagenet")
    with pytest.raises(DataError, match="200, 400, 600, 700"):
        dataset_spec("kinetics", 401)
    assert dataset_spec("kinetics", 700).csv_prefix == "kinetics-700"


def test_the_table_of_datasets_and_the_readers_are_imported_without_torch():
    script = """
import sys
import data, data.dataset_defaults
print({"cv2", "numpy", "pandas", "torch", "imgaug"} & set(sys.modules))
from data import DataError, FrameStore, load_labels
print({"torch", "imgaug"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=True,
    )
    assert done.stdout.split("\n")[:2] == ["set()", "set()"]
    with pytest.raises(AttributeError, match="'data' has no attribute 'nothing'"):
        data.nothing  # noqa: B018


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"custom"}))
def test_the_docstring_of_a_script_says_its_learning_rate_and_batch(name):
    script = Path(__file__).parents[1] / f"train_{name}.py"
    said = " ".join((ast.get_docstring(ast.parse(script.read_text())) or "").split())
    spec = dataset_spec(name)
    assert f"learning rate {spec.lr:g}, batches of {spec.batch} clips" in said
