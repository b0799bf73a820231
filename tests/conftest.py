"""Fixtures that all tests share, and the table of trials that `make fault` prints."""

import csv
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import simplejpeg
import torch

from data.store import write_store
from data.synthetic import render


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full-trials",
        action="store_true",
        help="attack every promise as often as docs/reliability.md says, not just a few times",
    )
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the losses and schedules of this tree into tests/golden/",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests that need more GPUs than there are, and say so."""
    there = torch.cuda.device_count()
    for item in items:
        mark = item.get_closest_marker("gpu")
        needed = mark.kwargs.get("count", 1) if mark else 0
        if needed > there:
            item.add_marker(
                pytest.mark.skip(reason=f"needs {needed} GPU(s), this machine has {there}")
            )


@dataclass
class Trials:
    """Counts how often one promise was attacked, and how often it held.

    A test asks `number` how many attacks to make, and counts each of them with `add`.
    """

    promise: str
    attack: str
    full: bool
    tried: int = 0
    held: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self._since = time.monotonic()

    def number(self, few: int, many: int) -> int:
        """`few` in the default suite, `many` under `--full-trials`."""
        return many if self.full else few

    def add(self, held: bool, what: object = "") -> None:
        """Count one attack; `what` describes it where the promise did not hold."""
        self.tried += 1
        self.held += held
        self.seconds = time.monotonic() - self._since
        assert held, f"{self.promise}: does not hold against {self.attack} ({what})"


@pytest.fixture
def trials(request, record_property):
    """Makes a `Trials`: ``trials("a damaged checkpoint is never used", "flipped bits")``."""
    made: list[Trials] = []

    def start(promise: str, attack: str) -> Trials:
        made.append(Trials(promise, attack, request.config.getoption("--full-trials")))
        return made[-1]

    yield start
    for one in made:
        record_property("trials", asdict(one))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """Escape captured names that are not UTF-8, which pytest-xdist cannot hand on."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report


def pytest_terminal_summary(terminalreporter) -> None:
    """Under `--full-trials`, print what was attacked, how often, and how often it held."""
    if not terminalreporter.config.getoption("--full-trials"):
        return
    rows = [
        (one["promise"], one["attack"], one["tried"], one["held"], one["seconds"])
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "teardown"
        for name, one in report.user_properties
        if name == "trials"
    ]
    terminalreporter.section("promises and attacks")
    terminalreporter.write_line(
        "| promise | attack | trials | held | seconds |\n|---|---|---|---|---|"
    )
    for row in sorted(rows):
        terminalreporter.write_line("| {} | {} | {:,} | {:,} | {:.0f} |".format(*row))


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
