"""Fixtures that every room's tests share."""

import csv
import os
from pathlib import Path

import pytest
import simplejpeg

from data.frames import write_store
from data.motion import render


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real clips and official label lists that REAL_DATA names."""
    folder = os.environ.get("REAL_DATA")
    if not folder:
        pytest.skip("REAL_DATA is not set: it names a folder with clips/ and labels/")
    return Path(folder)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A dataset of 14 training and 6 validation videos of three classes, with its label csvs."""
    root = tmp_path_factory.mktemp("tiny")
    (root / "labels").mkdir()
    for part, count in (("train", 14), ("val", 6)):
        rows = []
        for number in range(count):
            action, video = ("grow", "move_left", "darken")[number % 3], f"{part}{number}"
            frames = [simplejpeg.encode_jpeg(frame) for frame in render(action, (count, number))]
            write_store(root / "jpg" / action / video, video, frames[:24])
            rows.append((action, video, part))
        with (root / "labels" / f"tiny_{part}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("label", "id", "split"), *rows])
    return root
