"""report.html: what it shows is what the run's files say, it asks for nothing, it stops no run."""

import base64
import csv
import json
import math
import re
from html.parser import HTMLParser

import chromium
import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import example, given, settings
from hypothesis import strategies as st
from runs import command, folder
from scipy.stats import binomtest

import train.loop as engine
from data.data_error import DataError
from data.store import write_store
from data.synthetic import render
from run.command_line import parse_config
from train.config import Config
from train.report.charts import axis_for, confusion_figure, line_chart, round_numbers, stacked_chart
from train.report.film_strips import strips_of_predictions
from train.report.page import escaped, html_page
from train.report.prediction_scores import (
    Z,
    confidently_wrong,
    confused_pairs,
    confusion_matrix,
    hardest,
    wilson_interval,
)
from train.report.run_files import read_run
from train.report.run_report import update_report, write_report
from train.results.earlier_run import delete_run
from train.results.history import History
from train.results.recorder import write_config
from train.results.val_predictions import (
    COLUMNS,
    ValPredictions,
    read_predictions,
    write_predictions,
)

FAST = ["--workers", "0", "--clip-length", "2", "--clip-size", "16", "--batch-size", "8"]
FAST += ["--multigrid", "off", "--precise-bn", "1"]
VOID = {"meta", "img", "br"}


class Parsed(HTMLParser):
    """The tags of a page with their attributes; every tag must be closed."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check_page(page: str) -> list[tuple[str, dict]]:
    """Check that a page is whole, asks for nothing, and has pictures that decode; its tags."""
    tags = Parsed(page).tags
    for tag, attributes in tags:
        assert tag not in ("script", "link", "iframe")
        for name in ("src", "href", "srcset", "data", "action"):
            assert attributes.get(name, "data:").startswith("data:"), attributes
        if tag == "img":
            content = base64.b64decode(attributes["src"].partition(";base64,")[2], validate=True)
            assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) is not None
            assert "alt" in attributes
        assert not re.search("nan|inf", attributes.get("points", ""))
    assert not re.search(r"url\(|@import|https?:|//cdn", page)
    return tags


@pytest.fixture(scope="module")
def results(tiny, tmp_path_factory):
    """The results of a run over two epochs."""
    out = tmp_path_factory.mktemp("reported")
    words = [*FAST, "--tensorboard", "False"]
    return engine.train(parse_config("custom", command(tiny, out, *words)[2:]))


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_predictions_have_the_scores_of_the_validation(results):
    last = rows(results / "val_results.csv")[-1]
    found = rows(results / "val_predictions.csv")
    assert {row["Epoch"] for row in found} == {last["Epoch"]} and len(found) == 6
    hits = [row["Label"] == row["Predicted"] for row in found]
    assert 100 * np.mean(hits) == pytest.approx(float(last["Top1"]), abs=1e-3)
    losses = [-math.log(float(row["LabelProbability"])) for row in found]
    assert np.mean(losses) == pytest.approx(float(last["Loss"]), rel=1e-4)
    for row, hit in zip(found, hits, strict=True):
        assert row["Video"].startswith(f"{row['Label']}/val")
        assert (row["Probability"] == row["LabelProbability"]) == hit


def test_the_page_shows_the_run_and_asks_for_nothing(results):
    page = (results / "report.html").read_text()
    tags = check_page(page)
    config = json.loads((results / "config.json").read_text())
    for words in (
        "Epoch 2 of 2", escaped(config["command"]), config["fingerprint"], "torch ",
        "Schedule of the whole run", "learning rate", "waited for data", "Confusion matrix",
        "Most confused pairs", "Wilson", "2 frames, every 2nd frame", "--clip-size",
    ):  # fmt: skip
        assert words in page, words
    pictures = [attributes for tag, attributes in tags if tag == "img"]
    assert len(pictures) == 6 * 2  # each of the six videos once, in two frames
    videos = re.findall(r"<small>(\w+/val\d)</small>", page)
    assert sorted(videos) == sorted(row["Video"] for row in rows(results / "val_predictions.csv"))


def test_the_same_files_give_the_same_page(results):
    before = (results / "report.html").read_bytes()
    assert write_report(results).read_bytes() == before
    assert not list(results.glob(".*"))


def test_the_time_of_an_epoch_is_divided(results):
    for row in rows(results / "train_results.csv"):
        parts = [float(row[name]) for name in ("Reading", "Forward", "Backward")]
        assert all(part > 0 for part in parts) and sum(parts) < float(row["Seconds"])


def test_videos_that_are_not_there_have_no_pictures(results, tmp_path):
    for path in results.iterdir():
        if path.suffix in (".csv", ".json"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    facts = json.loads((tmp_path / "config.json").read_text())
    facts["options"]["dataset"] = str(tmp_path / "elsewhere")
    facts["options"]["an_option_of_the_future"] = 7
    (tmp_path / "config.json").write_text(json.dumps(facts))
    page = write_report(tmp_path).read_text()
    assert not [tag for tag, _ in check_page(page) if tag == "img"]
    assert page.count("its frames cannot be read here") == 6


def test_a_report_that_cannot_be_written_is_one_warning(tiny, tmp_path, caplog):
    (folder(tmp_path) / "report.html").mkdir(parents=True)
    words = [*FAST, "--tensorboard", "False", "--end-epoch", "1"]
    engine.train(parse_config("custom", command(tiny, tmp_path, *words)[2:]))
    said = [record.getMessage() for record in caplog.records if "report.html" in record.message]
    assert len(said) == 1 and said[0].startswith(
        "report.html cannot be written; training continues"
    )
    assert (folder(tmp_path) / "last.pth").exists() and (folder(tmp_path) / "curves.png").exists()


def test_a_bug_of_the_report_ends_no_training(monkeypatch, caplog):
    update_report(None)  # has no folder
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "training continues" in record.getMessage()
    assert "\n" not in record.getMessage()


def made_up(path, *, n_classes: int, n_videos: int, epochs: int) -> None:
    """Write the files of a run of `epochs` epochs, with predictions drawn at random."""
    rng = np.random.default_rng(0)
    names = [f"class <{number}> & more" for number in range(n_classes)]
    config = Config(network="srtg_r3d_101", gates=True, dataset="/nowhere", end_epoch=epochs)
    config = config.with_defaults(clip_length=16, clip_size=112, val_frame_interval=2)
    write_config(path, config, classes=names, fingerprint="v2:a:b:c:d:e", recipe={"name": "x"})
    history = History()
    for epoch in range(1, epochs + 1):
        scores = {"top1": 80 - 70 / epoch, "top5": 95.0, "loss": 6 / epoch, "clips": 100.0,
                  "seconds": 3000.0, "reading": 200.0, "forward": 900.0,
                  "backward": 1500.0}  # fmt: skip
        gates = {f"layer{number}": rng.random() for number in range(33)}
        scores = {"train": scores, "val": scores | {"seconds": 250.0}}
        history.add_epoch(epoch, scores, lr=0.1 / epoch, gates=gates)
    history.write(path)
    x = np.linspace(0, epochs, 4 * epochs + 1)
    curve = np.resize([8.0, 16, 32, 64], 4 * epochs)
    curves = {"x": x, "clips": curve, "frames": curve, "pixels a side": curve, "lr": 1 / curve}
    (path / "schedule.json").write_text(json.dumps({k: v.tolist() for k, v in curves.items()}))
    labels = rng.integers(n_classes, size=n_videos)
    predicted = np.where(rng.random(n_videos) < 0.6, labels, rng.integers(n_classes, size=n_videos))
    probability = rng.random(n_videos)
    videos = [f"{names[label]}/video{number}" for number, label in enumerate(labels)]
    found = ValPredictions(epochs, videos, labels, predicted, probability, probability / 2)
    write_predictions(path, found, names)


def test_the_page_of_a_large_run_stays_small(tmp_path):
    made_up(tmp_path, n_classes=700, n_videos=35_000, epochs=200)
    page = write_report(tmp_path).read_text()
    # the film strips are missing here: 24 of six JPEGs of some 3 kB each
    assert len(page) + 24 * 6 * 3000 * 4 / 3 < 3e6
    tags = check_page(page)
    assert sum(tag == "img" for tag, _ in tags) == 1  # the confusion matrix
    assert "class &lt;3&gt; &amp; more" in page and "class <" not in page
    assert "SRTG gates" in page and page.count('class gate"') == 33 and ">layer32<" in page


def test_a_run_before_its_first_epoch_and_one_of_an_earlier_version(tmp_path):
    config = Config(network="r3d_18", dataset="/d/mine", end_epoch=3, val_frame_interval=1)
    write_config(tmp_path, config, classes=["a", "b"])
    page = write_report(tmp_path).read_text()
    check_page(page)
    assert "Epoch 0 of 3" in page and "r3d_18 on mine" in page
    old = "Epoch,Top1,Top5,Loss,Lr,Clips\n1,50,100,0.7,0.1,8\n2,50,100,nan,0.1,8\n"
    for name in ("train", "val"):
        (tmp_path / f"{name}_results.csv").write_text(old)
    page = write_report(tmp_path).read_text()
    check_page(page)
    assert "Epoch 2 of 3" in page and "learning rate" in page and "<h2>Time" not in page


def test_predictions_of_an_epoch_that_the_run_went_back_before_are_not_shown(tmp_path):
    made_up(tmp_path, n_classes=3, n_videos=9, epochs=2)
    assert read_run(tmp_path).predictions.epoch == 2
    text = (tmp_path / "val_results.csv").read_text().splitlines()
    (tmp_path / "val_results.csv").write_text("\n".join(text[:2]) + "\n")
    assert read_run(tmp_path).predictions is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "{"),
        ("config.json", "[]"),
        ("config.json", '{"options": 3, "classes": []}'),
        ("schedule.json", "x"),
        ("schedule.json", '{"x": [0, 1]}'),
        ("schedule.json", "{}"),
        ("train_results.csv", "a,b\n1,2\n"),
        ("val_predictions.csv", "a,b\n1,2\n"),
        ("val_predictions.csv", ",".join(COLUMNS) + "\n"),
        ("val_predictions.csv", ",".join(COLUMNS) + "\n1,v,,,other,other,1,1\n"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(tmp_path, name, content):
    made_up(tmp_path, n_classes=3, n_videos=9, epochs=2)
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / name}: ")):
        read_run(tmp_path)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no results"):
        read_run(tmp_path)


# Parts


def predictions(labels, predicted, probability, label_probability) -> ValPredictions:
    videos = [f"v{number}" for number in range(len(labels))]
    return ValPredictions(
        4, videos, *map(np.array, (labels, predicted, probability, label_probability))
    )


FOUND = predictions(
    [0, 0, 1, 1, 2], [0, 1, 0, 0, 2], [0.9, 0.5, 0.7, 0.7, 0.4], [0.9, 0.2, 0.1, 0.3, 0.4]
)


def test_the_worst_predictions_are_in_order_and_none_is_shown_twice():
    assert confidently_wrong(FOUND, 2) == [2, 3]  # of equal ones the first one first
    assert confidently_wrong(FOUND, 9) == [2, 3, 1]
    assert hardest(FOUND, 2, besides=[2, 3]) == [1, 4]


def test_confused_pairs_are_counted():
    matrix = confusion_matrix(FOUND.labels, FOUND.predicted, 3)
    assert matrix.tolist() == [[1, 1, 0], [2, 0, 0], [0, 0, 1]]
    assert [tuple(pair) for pair in confused_pairs(matrix, 5)] == [(1, 0, 2, 2), (0, 1, 1, 2)]
    assert confused_pairs(np.eye(3, dtype=int), 5) == []


@settings(deadline=None)
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_intervals_are_those_of_scipy(counts):
    hits, clips = counts
    low, high = wilson_interval(np.array([hits]), np.array([clips]))
    expected = binomtest(hits, clips).proportion_ci(method="wilson")
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert pytest.approx(1.959963984540054, abs=1e-6) == Z


def test_the_interval_of_a_class_without_videos_is_everything():
    low, high = wilson_interval(np.array([0]), np.array([0]))
    assert (low[0], high[0]) == (0, 1)


NAMES = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), min_size=1)


@settings(deadline=None, max_examples=20)  # each writes a file
@given(st.lists(st.tuples(NAMES, st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20),
       st.lists(NAMES, min_size=1, unique=True))  # fmt: skip
def test_predictions_are_read_as_they_were_written(tmp_path_factory, items, classes):
    path = tmp_path_factory.mktemp("predictions")
    videos, *shares = zip(*items, strict=True)
    numbers = np.arange(len(items)) % len(classes)
    found = ValPredictions(3, videos, numbers, numbers[::-1], *map(np.array, shares))
    write_predictions(path, found, classes)
    again = read_predictions(path, classes)
    assert again.epoch == 3 and again.videos == videos
    assert again.times is None
    for one, other in zip(again[2:-1], found[2:-1], strict=True):
        assert one == pytest.approx(other, rel=1e-5)


def test_segments_are_told_apart_by_their_seconds(tmp_path):
    times = np.array([[0.0, 0.4], [0.4, 0.96], [math.nan] * 2])
    found = ValPredictions(1, ["grow/val0"] * 3, *[np.zeros(3, int)] * 2, *[np.ones(3)] * 2, times)
    write_predictions(tmp_path, found, ["grow"])
    assert (tmp_path / "val_predictions.csv").read_text().splitlines()[1:] == [
        "1,grow/val0,0,0.4,grow,grow,1,1", "1,grow/val0,0.4,0.96,grow,grow,1,1",
        "1,grow/val0,,,grow,grow,1,1",
    ]  # fmt: skip
    again = read_predictions(tmp_path, ["grow"])
    assert np.array_equal(again.times, times, equal_nan=True)
    assert [again.name(i) for i in range(3)] == [
        "grow/val0 0-0.4 s", "grow/val0 0.4-0.96 s", "grow/val0",
    ]  # fmt: skip
    options = {"clip_length": 4, "clip_size": 32, "val_frame_interval": 1}
    jpegs = [simplejpeg.encode_jpeg(frame) for frame in render("grow", 0)[:24]]
    seconds = [number / 25 for number in range(24)]
    write_store(tmp_path / "jpg" / "grow" / "val0", "val0", jpegs, times=seconds)
    config = Config(dataset=str(tmp_path), train_frame_interval=[1], **options)
    strips = strips_of_predictions(config, again, range(3))
    assert len({tuple(strip) for strip in strips.values()}) == 3  # other frames of the same video


def test_losses_that_are_not_finite_are_shown(tmp_path):
    made_up(tmp_path, n_classes=3, n_videos=9, epochs=2)
    found = read_run(tmp_path).predictions
    nothing = np.full(9, math.nan)
    found = found._replace(probability=nothing, label_probability=nothing)
    write_predictions(tmp_path, found, read_run(tmp_path).classes)
    check_page(write_report(tmp_path).read_text())


def test_deleting_a_run_deletes_its_report(tmp_path):
    made_up(tmp_path, n_classes=3, n_videos=9, epochs=2)
    write_report(tmp_path)
    delete_run(tmp_path, "srtg_r3d_101")
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_names_that_are_not_utf8_are_kept_in_the_csv_and_escaped_on_the_page(tmp_path):
    found = FOUND._replace(videos=["caf\udce9"] * 5)
    write_predictions(tmp_path, found, ["a", "b", "c\udcff"])
    assert read_predictions(tmp_path, ["a", "b", "c\udcff"]).videos[0] == "caf\udce9"
    assert escaped("<caf\udce9>") == r"&lt;caf\udce9&gt;"


@settings(deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.booleans())
def test_ticks_are_few_round_and_within_the_axis(low, span, whole):
    ticks = round_numbers(low, low + span, whole=whole)
    assert len(ticks) <= 7
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in ticks)
    assert whole or len(ticks) >= 2
    if whole:
        assert all(tick == round(tick) for tick in ticks)


VALUES = st.floats() | st.integers(-5, 5).map(float)


@settings(deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=9), st.booleans(), st.booleans())
@example([5e-324], True, False)
@example([1.7e308], True, False)
def test_any_numbers_can_be_drawn(values, log, steps):
    epochs = [float(number) for number in range(len(values) + steps)]
    check_page(html_page("x", [line_chart("a", {"b": (epochs, values)}, log=log, steps=steps)]))
    check_page(html_page("x", [stacked_chart("a", epochs[: len(values)], {"b": values})]))


def test_the_largest_number_is_drawn_at_the_top():
    axis = axis_for([1, 2, 3, 4, 5], 100, 0)
    assert (axis.place(1), axis.place(5), axis.place(3)) == (100, 0, 50)
    assert axis_for([1, 100], 0, 1, log=True).place(10) == pytest.approx(0.5)


def test_a_line_has_a_gap_where_there_is_no_number():
    figure = line_chart("loss", {"training": ([1, 2, 3, 4, 5], [1, 2, math.nan, 2, 1])})
    assert figure.count("<polyline") == 2 and figure.count("<circle") == 4


def test_a_small_confusion_matrix_has_its_counts_and_a_large_one_is_a_picture():
    small = confusion_figure(np.array([[5, 1], [0, 7]]), ["a<", "b"])
    assert re.findall(r">(\d)</text>", small)[:3] == ["5", "1", "7"] and "a&lt;" in small
    large = confusion_figure(np.eye(41, dtype=int), [str(number) for number in range(41)])
    (tag,) = [attributes for tag, attributes in check_page(html_page("x", [large])) if tag == "img"]
    content = base64.b64decode(tag["src"].partition(",")[2])
    grey = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert (grey == np.where(np.eye(41), 0, 255).repeat(17, 0).repeat(17, 1)).all()


# In a browser


needs_browser = pytest.mark.skipif(
    not chromium.installed(), reason="needs Chromium (Debian: apt-get install chromium)"
)


@pytest.fixture(scope="module")
def browser():
    with chromium.browser() as page:
        yield page


@needs_browser
@pytest.mark.parametrize("width", [1200, 390])
def test_a_browser_draws_every_picture_and_asks_for_nothing(results, browser, width):
    browser.width(width)
    address = (results / "report.html").as_uri()
    browser.open(address)
    assert browser.requests() == [address]
    assert browser.value("document.images.length") == 12
    assert browser.value("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert browser.value("[...document.querySelectorAll('svg')].every(s => s.getBBox().width > 0)")
    assert browser.value("document.documentElement.scrollWidth") <= width
    wide = "[...document.body.querySelectorAll('*')].filter(e => !e.closest('svg') && "
    wide += f"e.getBoundingClientRect().right > {width} + 1).map(e => e.outerHTML.slice(0, 80))"
    assert browser.value(wide) == []
    smallest = "Math.min(...[...document.querySelectorAll('svg text')].map(t => "
    smallest += "t.getBoundingClientRect().height))"
    assert browser.value(smallest) > 7  # pixels
