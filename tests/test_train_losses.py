"""The loss of each training video by epoch: recorded without waiting, exact after a restart."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from small_runs import small_run, take

from data.clips.loader import Batch
from data.data_error import DataError
from train.devices import Devices
from train.results.losses_file import NAME, append_losses, as_row, open_losses, start_losses
from train.video_losses import VideoLosses

CPU = Devices(torch.device("cpu"), 0, "fp32")
VIDEOS, CLASSES = 6, 3
GO_ON = torch.tensor(False)


def batch(indices, labels, replaced=None) -> Batch:
    replaced = [-1] * len(indices) if replaced is None else replaced
    clips = torch.zeros(len(indices), 3, 1, 2, 2)
    return Batch(clips, *map(torch.tensor, (labels, indices, replaced)))


def values(rng_seed: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(rng_seed)
    losses = torch.rand(VIDEOS, generator=random) * 4
    return torch.stack([losses, torch.randint(0, CLASSES, (VIDEOS,), generator=random).float()])


def test_the_loss_is_that_of_the_videos_own_label():
    losses, logits = VideoLosses(VIDEOS, CPU.device), torch.randn(3, CLASSES)
    losses.add(CPU, batch([4, 0, 2], [1, 2, 0]), logits, GO_ON)
    found = losses.state(CPU)
    wanted = F.cross_entropy(logits, torch.tensor([1, 2, 0]), reduction="none")
    assert torch.equal(found[0, [4, 0, 2]], wanted)
    assert found[1, [4, 0, 2]].tolist() == logits.argmax(1).tolist()
    assert (found[:, [1, 3, 5]] == -1).all()
    losses.clear()
    assert losses.state(CPU).shape == (2, 0)


def test_replaced_clips_steps_left_out_and_infinite_losses_do_not_count():
    losses, logits = VideoLosses(VIDEOS, CPU.device), torch.randn(4, CLASSES)
    logits[3, 0] = math.nan
    losses.add(CPU, batch([0, 1, 1, 2], [0, 1, 1, 2], [-1, -1, 5, -1]), logits, GO_ON)
    losses.add(CPU, batch([3], [0]), logits[:1], ~GO_ON)
    found = losses.state(CPU)
    assert (found[0] >= 0).tolist() == [True, True, False, False, False, False]
    assert found[0, 1] == F.cross_entropy(logits[1:2], torch.tensor([1]))


def test_an_epoch_continues_with_what_was_saved_in_it():
    whole, first, second = (VideoLosses(VIDEOS, CPU.device) for _ in range(3))
    one, two = torch.randn(2, CLASSES), torch.randn(2, CLASSES)
    for losses in (whole, first):
        losses.add(CPU, batch([0, 5], [0, 1]), one, GO_ON)
    second.load_state(first.state(CPU))
    for losses in (whole, second):
        losses.add(CPU, batch([3, 1], [2, 2]), two, GO_ON)
    assert torch.equal(whole.state(CPU), second.state(CPU))


def test_the_file_grows_by_epoch_and_is_cut_by_a_resumed_run(tmp_path):
    start_losses(tmp_path, VIDEOS, CLASSES, epochs=0)
    assert open_losses(tmp_path).shape == (0, VIDEOS)
    size = (tmp_path / NAME).stat().st_size
    for epoch in (1, 2, 3):
        append_losses(tmp_path, epoch, as_row(values(epoch), VIDEOS, CLASSES))
    found = open_losses(tmp_path)
    assert (tmp_path / NAME).stat().st_size == size + 3 * VIDEOS * 3  # 3 bytes a video and epoch
    assert np.allclose(found["loss"][1], values(2)[0], rtol=1e-3)
    assert (found["predicted"][2] == values(3)[1].numpy()).all()
    kept = (tmp_path / NAME).read_bytes()
    start_losses(tmp_path, VIDEOS, CLASSES, epochs=3)
    assert (tmp_path / NAME).read_bytes() == kept
    start_losses(tmp_path, VIDEOS, CLASSES, epochs=1)
    assert (tmp_path / NAME).stat().st_size == size + VIDEOS * 3
    for epoch in (2, 3):
        append_losses(tmp_path, epoch, as_row(values(epoch), VIDEOS, CLASSES))
    assert (tmp_path / NAME).read_bytes() == kept


def test_epochs_of_an_earlier_version_are_unknown(tmp_path):
    start_losses(tmp_path, VIDEOS, CLASSES, epochs=2)
    append_losses(tmp_path, 3, as_row(values(3), VIDEOS, CLASSES))
    found = open_losses(tmp_path)
    assert np.isnan(found["loss"]).all(1).tolist() == [True, True, False]
    assert (found["predicted"][:2] == -1).all()


def test_a_row_that_was_not_written_to_its_end_does_not_count(tmp_path):
    start_losses(tmp_path, VIDEOS, CLASSES, epochs=0)
    append_losses(tmp_path, 1, as_row(values(1), VIDEOS, CLASSES))
    good = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(good + b"half of a r")  # killed before the header was changed
    assert open_losses(tmp_path).shape == (1, VIDEOS)
    start_losses(tmp_path, VIDEOS, CLASSES, epochs=1)
    assert (tmp_path / NAME).read_bytes() == good


@given(content=st.binary(max_size=99), cut=st.integers(0, 140), short=st.booleans())
def test_a_damaged_file_is_an_error_and_is_replaced(tmp_path_factory, content, cut, short):
    folder = tmp_path_factory.mktemp("damaged")
    start_losses(folder, VIDEOS, CLASSES, epochs=1)
    good = (folder / NAME).read_bytes()
    rest = b"" if short else good[cut + len(content) :]
    (folder / NAME).write_bytes(good[:cut] + content + rest)
    try:
        assert open_losses(folder).dtype.names == ("loss", "predicted")
    except DataError as error:
        assert str(error).startswith(f"{folder / NAME}: ")
    start_losses(folder, VIDEOS, CLASSES, epochs=1)
    assert (folder / NAME).stat().st_size == len(good)


def test_a_loss_that_float16_cannot_hold_stays_finite():
    row = as_row(torch.tensor([[1e9, -1], [0, -1]]), 2, 200)
    assert row["loss"][0] == np.finfo(np.float16).max and np.isnan(row["loss"][1])
    assert row.dtype["predicted"] == np.int16


@pytest.mark.parametrize("mixing", [(), ("--mixup", "0.2", "--label-smoothing", "0.1")])
def test_a_step_records_the_loss_of_each_clip(tiny, tmp_path, monkeypatch, mixing):
    run = small_run(monkeypatch, tiny, tmp_path, *mixing, devices=CPU)
    take(run, 2)
    found, meter = run.losses.state(CPU), run.meter.scores(CPU)
    seen = found[0] >= 0
    assert seen.nonzero().flatten().tolist() == [0, 1, 2, 3, 4]
    assert run.state_dict()["losses"].equal(found)
    if not mixing:
        take_again = small_run(monkeypatch, tiny, tmp_path, devices=CPU)
        take(take_again)
        first = take_again.losses.state(CPU)[0]
        assert first[:4].mean() == pytest.approx(take_again.meter.scores(CPU)["loss"], rel=1e-6)
        assert meter["clips"] == 8
