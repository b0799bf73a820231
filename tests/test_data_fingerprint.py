"""Fingerprints differ with the content of a dataset, not with its place or its files' layout."""

import os
import shutil
import sqlite3

import pytest
import simplejpeg

from data.annotations.dataset_fingerprint import UNKNOWN, VERSION, Fingerprint, fingerprint
from data.annotations.splits import open_split
from data.dataset_defaults import dataset_spec
from data.store import upgrade_store, write_store
from data.synthetic import render

CUSTOM = dataset_spec("custom")


@pytest.fixture
def dataset(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "dataset")


def of(root) -> Fingerprint:
    train, val = (open_split(CUSTOM, root, part) for part in ("train", "val"))
    return fingerprint(train, val)


def replace_store(root, action: str, video: str, *, frames: int, seed: int = 99) -> None:
    folder = root / "jpg" / action / video
    shutil.rmtree(folder)
    jpegs = [simplejpeg.encode_jpeg(frame) for frame in render(action, (seed, seed))]
    write_store(folder, video, jpegs[:frames])


def test_a_copy_elsewhere_with_other_times_is_the_same(tiny, dataset):
    for path in dataset.rglob("*"):
        os.utime(path, (1, 1))
    assert of(dataset) == of(tiny)
    assert of(dataset).remark(of(tiny)) is None
    assert Fingerprint.parse(str(of(tiny))) == of(tiny)


@pytest.mark.parametrize(("video", "frames"), [("train0", 23), ("val0", 23)])
def test_another_number_of_frames(tiny, dataset, video, frames):
    replace_store(dataset, "grow", video, frames=frames)
    assert "numbers of frames differ" in of(dataset).conflict(of(tiny))


@pytest.mark.parametrize("video", ["train0", "val0"])
def test_other_pictures_under_the_same_name(tiny, dataset, video):
    replace_store(dataset, "grow", video, frames=24)
    assert "first frames differ" in of(dataset).conflict(of(tiny))


def test_another_validation_csv(tiny, dataset):
    labels = dataset / "labels" / "tiny_val.csv"
    labels.write_text("\n".join(labels.read_text().splitlines()[:-1]) + "\n")
    assert of(dataset).conflict(of(tiny)) == "other validation videos or labels"


def test_other_training_videos(tiny, dataset):
    labels = dataset / "labels" / "tiny_train.csv"
    labels.write_text("\n".join(labels.read_text().splitlines()[:-1]) + "\n")
    assert of(dataset).conflict(of(tiny)) == "other videos or labels"


def test_a_store_that_cannot_be_read_is_another_one(tiny, dataset):
    (dataset / "jpg" / "grow" / "train0" / "frames.db").write_bytes(b"not a database")
    assert "first frames differ" in of(dataset).conflict(of(tiny))
    shutil.rmtree(dataset / "jpg" / "grow" / "val0")
    (dataset / "jpg" / "grow" / "val0").mkdir()
    assert of(dataset).frames == UNKNOWN


def as_the_originals_tools_write_it(folder) -> None:
    """Rewrite a store as a table without key and index, without `n_frames`."""
    with sqlite3.connect(folder / "frames.db") as ours:
        rows = ours.execute("SELECT ObjId, frames, size FROM Images ORDER BY frame").fetchall()
    for name in ("frames.db", "n_frames"):
        (folder / name).unlink()
    with sqlite3.connect(folder / "frames.db") as theirs:
        theirs.execute("CREATE TABLE Images(ObjId STRING, frames BLOB, size INT)")
        theirs.executemany("INSERT INTO Images VALUES (?, ?, ?)", rows)


def test_upgraded_stores_are_the_same_dataset_with_a_remark(dataset):
    folders = list((dataset / "jpg").glob("*/*"))
    for folder in folders:
        as_the_originals_tools_write_it(folder)
    theirs = of(dataset)
    assert theirs.frames == UNKNOWN
    for folder in folders:
        assert upgrade_store(folder)
    ours = of(dataset)
    assert ours.conflict(theirs) is None and "--upgrade" in ours.remark(theirs)
    for folder in folders:
        assert upgrade_store(folder, companions=[16])
    again = of(dataset)
    assert again.frames == ours.frames != UNKNOWN
    assert again.conflict(ours) is None and "--upgrade" in again.remark(ours)


def test_the_fingerprint_of_an_earlier_version(tiny, dataset):
    names = open_split(CUSTOM, tiny, "train").fingerprint()
    earlier = Fingerprint.parse(names)
    assert of(tiny).conflict(earlier) is None and "only the names" in of(tiny).remark(earlier)
    assert str(of(tiny)).startswith(f"{VERSION}:{names}:")
    labels = dataset / "labels" / "tiny_train.csv"
    labels.write_text("\n".join(labels.read_text().splitlines()[:-1]) + "\n")
    assert of(dataset).conflict(earlier) == "other videos or labels"
