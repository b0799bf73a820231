"""`run.compare`: the intervals are right, unlike evaluations are refused, seeds count as runs."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import run.compare
from data.annotations.video_folders import Videos
from run.comparing.class_changes import class_changes
from run.comparing.comparison import FEW_RUNS, UNDECIDED, compare
from run.comparing.configurations import Compared, Configuration, short_names
from run.comparing.paired_bootstrap import (
    Interval,
    interval_over_runs,
    mcnemar_p,
    paired_intervals,
)
from run.evaluation.predictions_csv import write_predictions
from run.exit_codes import command

CLASSES = ("grow", "shrink | fast", "turn")
PROTOCOL = {"views": 1, "crops": 1, "frames": 8, "size": 64, "fps": None, "interval": 2}
PRINT = {"frames": "f", "pictures": "p", "sizes": "s"}


def outcomes(n: int, gained: int, lost: int) -> tuple[np.ndarray, np.ndarray]:
    """Two runs on n videos that differ in `gained` and `lost` of them."""
    first, second = np.zeros((2, n), bool)
    first[:lost] = True
    second[lost : lost + gained] = True
    first[lost + gained : n // 2 + gained] = second[lost + gained : n // 2 + gained] = True
    return first, second


@pytest.mark.parametrize(("n", "gained", "lost"), [(60, 9, 3), (200, 30, 31), (100, 5, 0)])
def test_the_bootstrap_has_the_quantiles_of_its_exact_distribution(n, gained, lost):
    """A sample's difference is a sum of n draws of +1, -1 and 0, so its distribution is known."""
    first, second = outcomes(n, gained, lost)
    step = np.array([lost, n - gained - lost, gained]) / n
    exact = np.ones(1)
    for _ in range(n):
        exact = np.convolve(exact, step)
    below = np.concatenate([[0], exact.cumsum()])  # P(difference < k - n)
    found = paired_intervals(np.zeros(n, int), first * 1.0, second * 1.0).top1
    assert found.value == pytest.approx(100 * (gained - lost) / n)
    for end, quantile in ((found.low, 0.025), (found.high, 0.975)):
        k = round(end * n / 100) + n  # the end lies at the quantile: P(< k) <= q <= P(<= k)
        assert below[k] - 0.006 <= quantile <= below[k + 1] + 0.006


def test_the_mean_class_accuracy_is_resampled_video_by_video():
    rng = np.random.default_rng(3)
    labels = rng.choice(3, 60, p=(0.6, 0.3, 0.1))
    first, second = (rng.random(60) < share for share in (0.5, 0.7))
    values = []
    for _ in range(4000):
        drawn = rng.integers(60, size=60)
        videos = np.bincount(labels[drawn], minlength=3)
        gains = np.bincount(labels[drawn], second[drawn] * 1.0 - first[drawn], minlength=3)
        values.append(100 * np.mean(gains[videos > 0] / videos[videos > 0]))
    found = paired_intervals(labels, first * 1.0, second * 1.0).mean_class_accuracy
    np.testing.assert_allclose(
        [found.low, found.high], np.percentile(values, (2.5, 97.5)), atol=0.2 * np.std(values)
    )


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), min_size=1, max_size=9))
def test_differences_of_any_results(rows):
    labels, first, second = (np.array(column) for column in zip(*rows, strict=True))
    there = paired_intervals(labels, first * 1.0, second * 1.0)
    back = paired_intervals(labels, second * 1.0, first * 1.0)
    recall = [[hits[labels == c].mean() for c in set(labels.tolist())] for hits in (first, second)]
    assert there.top1.value == pytest.approx(100 * (second.mean() - first.mean()))
    assert there.mean_class_accuracy.value == pytest.approx(
        100 * (np.mean(recall[1]) - np.mean(recall[0]))
    )
    for one, other in zip(there, back, strict=True):
        assert one.value == pytest.approx(-other.value)
        assert one.low - 1e-9 <= one.high and one.low >= -100 - 1e-9 and one.high <= 100 + 1e-9
    assert paired_intervals(labels, first * 1.0, first * 1.0).top1 == (0, 0, 0)
    assert 0 < mcnemar_p(first, second) <= 1


def test_an_interval_contains_zero_if_the_sign_cannot_be_told():
    ends = {(-2, 1): True, (0, 2): True, (-2, 0): True, (0.5, 2): False, (-2, -0.5): False}
    assert {end: Interval(0.1, *end).contains_zero for end in ends} == ends


def test_mcnemars_test_by_hand():
    first, second = outcomes(50, 10, 2)
    assert mcnemar_p(first, second) == pytest.approx(2 * (1 + 12 + 66) / 2**12)
    assert mcnemar_p(first, first) == 1


def test_the_interval_over_runs_is_that_of_welchs_test():
    first, second = np.array([60.0, 62, 61]), np.array([64.0, 65])
    for level in (0.95, 0.99):
        found = interval_over_runs(first, second, level=level)
        theirs = scipy.stats.ttest_ind(second, first, equal_var=False).confidence_interval(level)
        np.testing.assert_allclose(found, [3.5, theirs.low, theirs.high])
    assert interval_over_runs(first, second[:1]) is None
    assert interval_over_runs(np.full(2, 50.0), np.full(3, 60.0)) == (10, 10, 10)
    assert interval_over_runs(first, np.full(3, 61.0)).contains_zero


def compared(*hits: np.ndarray) -> Compared:
    n = hits[0].shape[-1]
    configurations = [Configuration(f"c{i}", np.atleast_2d(one)) for i, one in enumerate(hits)]
    return Compared(configurations, np.arange(n) % 3, list(CLASSES), PROTOCOL, "mine", "")


def verdicts(*hits: np.ndarray) -> list[str]:
    return [one.verdict for one in compare(compared(*hits)).differences if one.score == "top1"]


def test_verdicts():
    first, second = outcomes(90, 20, 4)
    assert verdicts(first, second) == ["c1 is better"]
    assert verdicts(second, first) == ["c0 is better"]
    assert verdicts(*outcomes(90, 12, 8)) == [UNDECIDED]
    # the bootstrap alone would say that five videos of 90 decide; McNemar's p is 0.06
    assert not paired_intervals(
        np.zeros(90, int), *(one * 1.0 for one in outcomes(90, 5, 0))
    ).top1.contains_zero
    assert verdicts(*outcomes(90, 5, 0)) == [UNDECIDED]
    # 20 against 6: p is 0.009, enough for one pair but not for each of ten
    weak = outcomes(120, 20, 6)
    assert verdicts(*weak) == ["c1 is better"]
    assert verdicts(*weak, *[weak[0]] * 3)[0] == UNDECIDED


def test_several_runs_are_better_if_videos_and_runs_say_so():
    rng = np.random.default_rng(0)
    weak, strong = (rng.random((4, 300)) < share for share in (0.5, 0.7))
    assert verdicts(weak, strong) == ["c1 is better"]
    unsteady = np.stack([np.arange(300) < hits for hits in (100, 299)])
    assert verdicts(unsteady, np.stack([np.arange(300) < 285] * 2)) == [FEW_RUNS]
    (scores, _) = compare(compared(weak, strong)).scores
    row = scores.row()
    shares = 100 * weak.mean(1)
    assert row["runs"] == 4 and row["top1"] == pytest.approx(shares.mean())
    assert row["top1_std"] == pytest.approx(shares.std(ddof=1))
    assert (row["top1_low"], row["top1_high"]) == (shares.min(), shares.max())


def test_classes_that_gain_and_lose_by_hand():
    """Video i is of class i modulo 3."""
    first = np.array([[1, 1, 0, 0, 1, 0, 0, 0, 0]], bool)
    second = np.array([[1, 0, 0, 1, 0, 0, 1, 1, 0]], bool)
    both = compared(first, second)
    found = {one.name: one[1:] for one in class_changes(both, *both.configurations)}
    hundred = pytest.approx(100)
    assert found["grow"] == (3, pytest.approx(100 / 3), hundred, 2, 0)
    assert found[CLASSES[1]] == (3, pytest.approx(200 / 3), pytest.approx(100 / 3), 1, 2)
    assert found["turn"] == (3, 0, 0, 0, 0)
    two = compared(np.array([[1, 0, 0], [0, 0, 0]], bool), np.array([[0, 0, 1], [1, 0, 1]], bool))
    changes = class_changes(two, *two.configurations)
    assert [one.net for one in changes] == [1, 0, 0]
    assert [one.name for one in changes] == ["turn", "grow", CLASSES[1]]
    assert changes[0][1:] == (1, 0, 100, 1, 0) and changes[1][1:] == (1, 50, 50, 0.25, 0.25)


def evaluation(folder: Path, hits: np.ndarray, *, protocol: dict | None = None, **data) -> Path:
    """An evaluation's folder, with the files that `run.compare` reads. Returns the folder."""
    folder.mkdir(parents=True)
    labels = np.arange(len(hits)) % 3
    names = np.array([f"{CLASSES[label]}/video{i}" for i, label in enumerate(labels)])
    videos = Videos(folder, data.pop("names", names), labels, CLASSES, [], folder)
    top = np.where(hits, labels, (labels + 1) % 3)[:, None]
    ones = np.ones(len(hits))
    write_predictions(
        folder, videos, np.arange(len(hits)), labels=labels, top=top, probabilities=ones[:, None],
        label_probabilities=ones, losses=ones,
    )  # fmt: skip
    facts = {"name": "mine", "fingerprint": PRINT, **data}
    card = {"protocol": protocol or PROTOCOL, "data": facts, "checkpoint": {}, "asked": {}}
    (folder / "card.json").write_text(json.dumps(card))
    return folder


@pytest.fixture
def pair(tmp_path) -> tuple[Path, Path]:
    """The results folders of two runs, each with an evaluation."""
    for name, hits in zip("ab", outcomes(90, 20, 4), strict=True):
        evaluation(tmp_path / name / "evaluation" / "best-8x64", hits)
    return tmp_path / "a", tmp_path / "b"


def answer(*words: object) -> int:
    return command(lambda: run.compare.main(list(map(str, words))))


def test_two_results_folders_from_the_command_to_the_files(pair, tmp_path, capsys):
    out = tmp_path / "new" / "comparison"
    assert answer(*pair, "--out", out) == 0
    said = capsys.readouterr().out
    assert "b is better" in said and f"results: {out}" in said
    page = (out / "comparison.md").read_text()
    assert "+17.78" in page and "90 videos of 3 classes" in page and "shrink \\| fast" in page
    for name in ("comparison.png", "classes.png"):
        with Image.open(out / name) as picture:
            assert min(picture.size) > 100 and len(picture.convert("L").getcolors()) > 5
    with (out / "differences.csv").open() as file:
        top1, mean = csv.DictReader(file)
    assert (top1["first"], top1["second"], top1["verdict"]) == ("a", "b", "b is better")
    assert float(top1["low"]) < float(top1["difference"]) < float(top1["high"])
    assert top1["low_over_runs"] == mean["mcnemar_p"] == ""
    with (out / "classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["name"] for row in rows} == set(CLASSES) and rows[0]["first"] == "a"
    assert sum(int(float(row["gained"])) for row in rows) == 20
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert answer(*pair, "--out", out) == 0  # again, with the same bits
    assert first == {path.name: path.read_bytes() for path in out.iterdir()}
    assert [path.name for path in out.parent.iterdir()] == ["comparison"]


def test_runs_of_several_seeds_are_one_configuration(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name, share in (("x", 0.4), ("y", 0.8)):
        (tmp_path / f"{name}_seeds").mkdir()
        (tmp_path / f"{name}_seeds" / "seeds.json").write_text("{}")
        for seed in range(3):
            folder = tmp_path / f"{name}_seed-{seed}" / "evaluation" / "last-8x64"
            evaluation(folder, rng.random(120) < share)
    out = tmp_path / "out"
    whole = run.compare.main([*(str(tmp_path / f"{n}_seeds") for n in "xy"), "--out", str(out)])
    assert "± " in capsys.readouterr().out
    groups = [
        word
        for name in "xy"
        for word in ("--group", name, *(str(tmp_path / f"{name}_seed-{i}") for i in range(3)))
    ]
    other = run.compare.main([*groups, "--out", str(out)])
    assert [one.name for one in other.scores] == ["x", "y"]
    for one, same in zip(whole.differences, other.differences, strict=True):
        assert one.over_videos == same.over_videos and one.over_runs == same.over_runs
    assert other.differences[0].verdict == "y is better"
    (tmp_path / "z_seeds").mkdir()
    (tmp_path / "z_seeds" / "seeds.json").write_text("{}")
    assert answer(tmp_path / "z_seeds", tmp_path / "x_seeds", "--out", out) == 2
    assert "its runs z_seed-* are not beside it" in capsys.readouterr().err


def error_of(capsys, *words: object) -> str:
    """The one line that the command ends with."""
    assert answer(*words) == 2
    (line,) = [row for row in capsys.readouterr().err.splitlines() if row.startswith("error:")]
    return line


def test_unlike_evaluations_are_refused_in_one_line(pair, tmp_path, capsys):
    hits, out = np.ones(90, bool), tmp_path / "out"
    a, _ = pair
    three = evaluation(tmp_path / "three", hits, protocol={**PROTOCOL, "views": 3, "fps": 15.0})
    line = error_of(capsys, a, three, "--out", out)
    assert "unlike protocols: fps 15.0 and not set, views 3 and 1;" in line
    assert answer(a, three, "--unlike-protocols", "--out", out) == 0
    assert "the protocols differ: fps 15.0 and not set" in capsys.readouterr().out
    assert "**The protocols differ**" in (out / "comparison.md").read_text()
    shutil.rmtree(out)
    fewer = evaluation(tmp_path / "fewer", hits[:89])
    line = error_of(capsys, a, fewer, "--out", out)
    assert "have scored other videos: 1 are in one of them only, such as turn/video89" in line
    same = np.array([f"{CLASSES[i % 3]}/video{i}" for i in range(90)])[::-1]
    relabelled = evaluation(tmp_path / "relabelled", hits, names=same)
    assert "have other labels: grow/video0 is grow in" in error_of(
        capsys, a, relabelled, "--out", out
    )
    changed = evaluation(tmp_path / "changed", hits, fingerprint={**PRINT, "pictures": "other"})
    line = error_of(capsys, a, changed, "--out", out)
    assert "other videos under the same names (their first frames differ)" in line
    packed = evaluation(tmp_path / "packed", hits, fingerprint={"frames": "unknown", "sizes": "t"})
    assert answer(a, packed, "--out", out) == 0


def test_what_cannot_be_compared_is_one_line(pair, tmp_path, capsys):
    a, b = pair
    out = ["--out", tmp_path / "out"]
    assert "give at least two configurations" in error_of(capsys, a, *out)
    assert "give at least two configurations" in error_of(capsys, *out)
    assert "is given twice" in error_of(capsys, a, a / "evaluation" / "best-8x64", *out)
    assert "no such folder" in error_of(capsys, a, tmp_path / "nowhere", *out)
    (tmp_path / "empty").mkdir()
    assert "holds no evaluation; make one by" in error_of(capsys, a, tmp_path / "empty", *out)
    assert "one name: n, n" in error_of(capsys, "--group", "n", a, "--group", "n", b, *out)
    with pytest.raises(SystemExit):
        answer(a, "--group", "n", *out)
    assert "--group n: give a name and at least one folder" in capsys.readouterr().err
    shutil.copytree(a / "evaluation" / "best-8x64", a / "evaluation" / "last-8x64")
    assert "holds several evaluations; choose one of" in error_of(capsys, a, b, *out)
    card = b / "evaluation" / "best-8x64" / "card.json"
    for text in ("", "[]", '{"protocol": {}, "data": {}}', '{"protocol": 1, "data": {}}'):
        card.write_text(text)
        line = error_of(capsys, a / "evaluation" / "best-8x64", b, *out)
        assert f"{card}: cannot be read" in line and "evaluate again" in line
    assert not (tmp_path / "out").exists()


def test_what_a_killed_evaluation_has_left_is_not_taken_for_one(pair, tmp_path):
    for rest in (".part-1a2b", "best-8x64.old"):
        (tmp_path / "a" / "evaluation" / rest).mkdir()
        (tmp_path / "a" / "evaluation" / rest / "card.json").touch()
    assert answer(*pair, "--out", tmp_path / "out") == 0


def test_a_folder_that_holds_something_else_is_left_alone(pair, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("text")
    assert "holds something else" in error_of(capsys, *pair, "--out", tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "text"


def test_configurations_are_named_by_what_differs_in_their_paths():
    def names(*paths: str) -> list[str]:
        return short_names([Path(path) for path in paths])

    assert names("/r/a/evaluation/p", "/r/b/evaluation/p") == ["a", "b"]
    assert names("/r/a/evaluation/p", "/r/a/evaluation/q") == ["p", "q"]
    assert names("/r/a/n/evaluation/p", "/r/b/n/evaluation/p") == ["a/n", "b/n"]
    assert names("/x", "/r/a/evaluation/p") == ["x", "a"] and names() == []
