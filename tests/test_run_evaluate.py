"""Evaluation: the views of a video count together, and the confusion matrix has labels as rows."""

import signal
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from data.annotations.video_folders import Videos
from data.clips.loader import Batch
from run.evaluate import ORDERS
from run.evaluation import frame_orders
from run.evaluation.accuracy_by_views import MOST, PartScore, parts_of
from run.evaluation.class_scores import class_means, class_scores, share
from run.evaluation.frame_orders import reordered
from run.evaluation.pictures import (
    draw_by_views,
    draw_confusion,
    draw_time_probe,
    error_bars,
)
from run.evaluation.video_scores import score_videos
from train.devices import Devices
from train.evaluation import evaluate, predictions
from train.input_normalisation import normalised
from train.report.prediction_scores import confusion_matrix
from train.signals import Signals
from train.train_errors import Interrupted

CPU = Devices(torch.device("cpu"), 0, "fp32")


def network() -> nn.Module:
    """Five classes from clips of 2 frames of 4 x 4 pixels, in training mode."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 2 * 4 * 4, 5), nn.Dropout(0.5))


def batch(indices, labels, replaced=None, seed=0) -> Batch:
    clips = torch.randint(
        256, (len(indices), 3, 2, 4, 4), dtype=torch.uint8, generator=torch.manual_seed(seed)
    )
    replaced = [-1] * len(indices) if replaced is None else replaced
    return Batch(clips, *(torch.tensor(values) for values in (labels, indices, replaced)))


def probabilities(net, clips) -> torch.Tensor:
    with torch.no_grad():
        return net.eval()(normalised(net, clips)).softmax(1)


def test_views_of_a_video_count_together_as_the_mean_of_their_probabilities():
    net = network()
    views = batch([7, 7, 7, 2, 2, 5], [4, 4, 4, 1, 1, 0])
    ((indices, logits, labels),) = predictions(net, [views], CPU, title="")
    each = probabilities(net, views.clips)
    expected = torch.stack([each[:3].mean(0), each[3:5].mean(0), each[5]])
    torch.testing.assert_close(logits.softmax(1), expected)
    assert labels.tolist() == [4, 1, 0] and indices.tolist() == [7, 2, 5]


def test_one_view_of_each_video_is_the_networks_answer():
    net, single = network(), batch([0, 1, 2], [2, 1, 0])
    ((indices, logits, labels),) = predictions(net, [single], CPU, title="")
    torch.testing.assert_close(logits.softmax(1), probabilities(net, single.clips))
    assert not logits.requires_grad and not net.training
    assert labels.tolist() == [2, 1, 0] and indices.tolist() == [0, 1, 2]


def test_clips_that_stand_in_for_unreadable_videos_are_not_scored(caplog):
    net = network()
    some = batch([0, 3, 2], [1, 1, 2], replaced=[-1, 1, -1])
    batches = [batch([4], [0], replaced=[3]), some]  # of the first nothing is left
    ((indices, logits, labels),) = predictions(net, batches, CPU, title="")
    assert labels.tolist() == [1, 2] and indices.tolist() == [0, 2]
    expected = probabilities(net, some.clips[[0, 2]])
    torch.testing.assert_close(logits.softmax(1), expected)
    assert caplog.text.count("1 unreadable videos are not scored") == 2


def test_a_video_of_which_one_view_cannot_be_read_is_not_scored(caplog):
    """Its views would be fewer than the protocol says; the clip in its place shows video 9."""
    net = network()
    views = batch([4, 9, 4, 5, 5, 5, 6, 6, 6], [1, 0, 1, 2, 2, 2, 3, 3, 3],
                  replaced=[-1, 4, -1, -1, -1, -1, -1, -1, -1])  # fmt: skip
    ((indices, logits, labels),) = predictions(net, [views], CPU, title="")
    assert indices.tolist() == [5, 6] and labels.tolist() == [2, 3]
    each = probabilities(net, views.clips)
    torch.testing.assert_close(
        logits.softmax(1), torch.stack([each[3:6].mean(0), each[6:].mean(0)])
    )
    assert "1 unreadable videos" in caplog.text


def test_scores_are_means_over_all_videos_whatever_the_batches():
    net = network()
    whole = batch(list(range(7)), [0, 1, 2, 3, 4, 0, 1])
    parts = [Batch(*(part[at] for part in whole)) for at in (slice(0, 4), slice(4, 7))]
    result = evaluate(net, parts, CPU, videos(7))
    shares = probabilities(net, whole.clips)
    right = (shares.argmax(1) == whole.labels).double().mean().item()
    loss = -shares.gather(1, whole.labels[:, None]).log().mean().item()
    assert result.scores["top1"] == pytest.approx(100 * right) and result.scores["clips"] == 7
    assert result.scores["top5"] == 100 and result.scores["loss"] == pytest.approx(loss, rel=1e-5)
    assert torch.equal(result.labels, whole.labels)
    assert torch.equal(result.predicted, shares.argmax(1))


def test_a_signal_ends_the_scoring_of_one_process_after_a_batch():
    shown = []
    batches = (shown.append(i) or batch([i], [0]) for i in range(5))
    signals = Signals()
    with pytest.raises(Interrupted):
        signals.number = signal.SIGTERM
        evaluate(network(), batches, CPU, videos(5), signals=signals)
    assert len(shown) <= 2  # one may be on its way to the device
    signals.number = 0
    assert evaluate(network(), [batch([0], [0])], CPU, videos(1), signals=signals).scores["clips"]


def test_videos_whose_loss_is_not_finite_are_named_eight_at_most(caplog):
    net, whole = network(), batch(list(range(11)), [0] * 11)
    with torch.no_grad():
        net[1].weight.fill_(3e38)
    result = evaluate(net, [whole], CPU, videos(11), title="validation")
    assert not np.isfinite(result.scores["loss"]) and result.scores["clips"] == 11
    assert "validation: the loss of 11 of 11 videos is not finite" in caplog.text
    assert "the videos are video0, video1" in caplog.text and "video7, ..." in caplog.text
    caplog.clear()
    evaluate(network(), [whole], CPU, videos(11))
    assert not caplog.text


def videos(number: int) -> Videos:
    names = np.array([f"video{i}" for i in range(number)])
    return Videos(Path("jpg"), names, np.zeros(number, np.int64), ("a",), [], Path("labels.csv"))


def test_rows_of_the_confusion_matrix_are_labels_and_columns_predictions():
    labels, predicted = np.array([0, 0, 0, 1, 2, 2]), np.array([0, 2, 2, 1, 1, 2])
    matrix = confusion_matrix(labels, predicted, 4)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == [[1, 0, 2, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_the_picture_shows_a_label_that_is_always_mistaken_in_its_row(tmp_path):
    """Of three labels the first is taken for the last: its cell, top right, is the dark one."""
    matrix = np.array([[0, 0, 9], [0, 0, 0], [0, 0, 0]])
    draw_confusion(matrix, ("a", "b", "c"), "", tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    dark = np.argwhere((pixels[..., 2] - pixels[..., 0] > 60) & (pixels[..., 0] < 20))
    cell = dark[dark[:, 1] < 0.86 * pixels.shape[1]]  # right of it stands the colour bar
    y, x = cell.mean(0) / pixels.shape[:2]
    assert y < 0.35 and x > 0.5


def test_pictures_of_accuracies_of_nothing_and_everything(tmp_path):
    """The ends of their intervals are rounded numbers, on either side of 0 and 100."""
    extremes = [share(hits, n) for n in (1, 3, 7, 70, 999) for hits in (0, n)]
    assert (error_bars(extremes) >= 0).all()
    draw_time_probe({str(i): one for i, one in enumerate(extremes)}, 50, tmp_path / "a.png")
    draw_by_views([PartScore(i, 1, one, one) for i, one in enumerate(extremes)], tmp_path / "b.png")
    for name in "ab":
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert len(picture.convert("L").getcolors()) > 5


@pytest.mark.parametrize("order", ORDERS)
def test_an_order_permutes_the_frames_of_each_clip_and_nothing_else(order):
    clips = torch.arange(2 * 3 * 8 * 2 * 2, dtype=torch.uint8).reshape(2, 3, 8, 2, 2)
    before = Batch(clips, *(torch.tensor(values) for values in ([1, 0], [5, 9], [-1, -1])))
    after, again = (reordered(before, order) for _ in range(2))
    assert torch.equal(after.clips, again.clips)
    assert all(torch.equal(a, b) for a, b in zip(before[1:], after[1:], strict=True))
    orders = []
    for old, new in zip(before.clips, after.clips, strict=True):
        frames = [f.tolist() for f in old.unbind(1)]
        orders.append([frames.index(frame.tolist()) for frame in new.unbind(1)])
    expected = {
        "forward": list(range(8)), "reversed": list(range(7, -1, -1)), "first": [0] * 8,
        "centre": [4] * 8, "single": [4],
    }  # fmt: skip
    if order in expected:
        assert orders == [expected[order]] * 2
    else:
        assert all(sorted(one) == list(range(8)) for one in orders)
        assert orders[0] != orders[1] and list(range(8)) not in orders  # each video its own


def test_the_command_offers_the_orders_that_there_are():
    assert tuple(frame_orders.ORDERS) == ORDERS
    with pytest.raises(ValueError, match="no order of frames 'sorted'"):
        reordered(batch([0], [0]), "sorted")


class Loader(list):
    """Batches in memory, in place of those of a data loader."""


def test_all_orders_in_one_reading_are_what_each_order_alone_is():
    """Also if a batch has no readable video, and if clips are computed two at a time."""
    net = nn.Sequential(nn.AdaptiveAvgPool3d((2, 4, 4)), *network())
    loader = Loader([
        batch([0, 0, 0, 1, 1, 1], [3, 3, 3, 1, 1, 1], seed=1),
        batch([9, 9, 9], [0, 0, 0], replaced=[2, 2, 2], seed=2),
        batch([3, 3, 3, 4, 4, 4], [2, 2, 2, 0, 0, 0], seed=3),
    ])  # fmt: skip
    how = {"views": 3, "crops": 1, "parts": parts_of(3, 1), "most": 2, "keep_logits": True}
    together = score_videos(net, loader, CPU, videos(10), orders=ORDERS, **how)
    assert list(together) == list(ORDERS)
    for order in ORDERS:
        alone = score_videos(net, loader, CPU, videos(10), orders=[order], **how)[order]
        assert alone.indices.tolist() == [0, 1, 3, 4] and alone.labels.tolist() == [3, 1, 2, 0]
        np.testing.assert_array_equal(alone.top, together[order].top)
        np.testing.assert_array_equal(alone.losses, together[order].losses)
        assert (together[order].logits is not None) == (order == "forward")
    forward = together["forward"]
    shares = torch.from_numpy(forward.logits[:, :, 0]).softmax(2)  # (videos, views, classes)
    means = shares.mean(1)
    np.testing.assert_allclose(forward.probabilities, means.topk(5).values, rtol=1e-5)
    of_label = means[torch.arange(4), torch.from_numpy(forward.labels)]
    np.testing.assert_allclose(forward.label_probabilities, of_label, rtol=1e-5)
    np.testing.assert_allclose(forward.losses, -of_label.log(), rtol=1e-4)
    for part, hits in zip(parts_of(3, 1), forward.part_hits.tolist(), strict=True):
        some = shares[:, part.clips].mean(1).argmax(1).numpy()
        assert hits == [(some == forward.labels).sum(), 4]


def test_parts_of_an_evaluation_are_spread_evenly():
    assert [part.clips for part in parts_of(4, 1)] == [[2], [0, 3], [0, 2, 3], [0, 1, 2, 3]]
    some = {(part.views, part.crops): part.clips for part in parts_of(3, 3)}
    assert some[1, 1] == [4] and some[2, 1] == [1, 7] and some[1, 3] == [3, 4, 5]
    assert some[2, 3] == [0, 1, 2, 6, 7, 8] and some[3, 3] == list(range(9)) and len(some) == 6


@given(st.integers(1, 1000), st.sampled_from([1, 3]))
def test_parts_are_different_clips_of_the_evaluation_and_the_last_is_all_of_it(views, crops):
    parts = parts_of(views, crops)
    assert len({(part.views, part.crops) for part in parts}) == len(parts) <= 2 * MOST
    for part in parts:
        assert len(set(part.clips)) == len(part.clips) == part.views * part.crops
        assert min(part.clips) >= 0 and max(part.clips) < views * crops
    assert parts[-1].clips == list(range(views * crops))


def test_scores_of_classes_by_hand():
    matrix = np.array([[3, 1, 0, 0], [0, 2, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    found = class_scores(matrix)
    assert found.videos.tolist() == [4, 2, 2, 0]
    np.testing.assert_allclose(found.accuracy, [75, 100, 0, np.nan])
    np.testing.assert_allclose(found.precision, [75, 50, np.nan, np.nan])
    np.testing.assert_allclose(found.f1, [75, 200 * 2 / 6, 0, np.nan])
    for number in range(3):
        hits, clips = int(matrix[number, number]), int(found.videos[number])
        ends = scipy.stats.binomtest(hits, clips).proportion_ci(method="wilson")
        np.testing.assert_allclose(
            [found.low[number], found.high[number]], [100 * ends.low, 100 * ends.high], atol=1e-4
        )
    accuracy, f1 = class_means(matrix)
    assert accuracy.value == pytest.approx((75 + 100 + 0) / 3)
    assert f1.value == pytest.approx((75 + 400 / 6 + 0) / 3)
    assert share(1, 4)[0] == 25 and str(share(1, 4)) == "25.00 % [4.56, 69.94]"


def test_the_bootstrap_interval_of_one_class_is_that_of_the_binomial_distribution():
    matrix = np.array([[140, 60], [0, 0]])
    found, f1 = class_means(matrix)
    exact = scipy.stats.binom.ppf([0.025, 0.975], 200, 0.7) / 2  # of 200, in percent
    assert found.value == pytest.approx(70) and (found, f1) == class_means(matrix)
    np.testing.assert_allclose([found.low, found.high], exact, atol=1.01)  # two videos
