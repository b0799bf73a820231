"""Evaluation: the views of a video count together, and the confusion matrix has labels as rows."""

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from data.annotations.video_folders import Videos
from data.clips.loader import Batch
from run.evaluation_report import confusion_matrix, draw_confusion, reordered
from train.devices import Devices
from train.evaluation import evaluate, predictions
from train.normalisation import normalised
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
    labels, predicted = torch.tensor([0, 0, 0, 1, 2, 2]), torch.tensor([0, 2, 2, 1, 1, 2])
    matrix = confusion_matrix(predicted, labels, 4)
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


@pytest.mark.parametrize("order", ["forward", "reversed", "shuffled"])
def test_an_order_permutes_the_frames_of_each_clip_and_nothing_else(order):
    clips = torch.arange(2 * 3 * 8 * 2 * 2, dtype=torch.uint8).reshape(2, 3, 8, 2, 2)
    before = Batch(clips, *(torch.tensor(values) for values in ([1, 0], [5, 9], [-1, -1])))
    (after,), (again,) = (list(reordered([before], order)) for _ in range(2))
    assert torch.equal(after.clips, again.clips)
    assert all(torch.equal(a, b) for a, b in zip(before[1:], after[1:], strict=True))
    orders = []
    for old, new in zip(before.clips, after.clips, strict=True):
        frames = [f.tolist() for f in old.unbind(1)]
        orders.append([frames.index(frame.tolist()) for frame in new.unbind(1)])
    if order == "forward":
        assert orders == [list(range(8))] * 2
    elif order == "reversed":
        assert orders == [list(range(7, -1, -1))] * 2
    else:
        assert all(sorted(one) == list(range(8)) for one in orders)
        assert orders[0] != orders[1] and list(range(8)) not in orders  # each video its own
