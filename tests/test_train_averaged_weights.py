"""The moving average of the weights (EMA), against a few lines of arithmetic."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from train.averaged_weights import update_average

APPLIED, LEFT_OUT = torch.tensor(True), torch.tensor(False)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def fill(net, value: float, count: int) -> None:
    """Set all weights and running statistics to `value`, and the count of batches to `count`."""
    with torch.no_grad():
        for tensor in (*net.parameters(), *net.buffers()):
            tensor.fill_(value if tensor.is_floating_point() else count)


def values(average) -> tuple[float, int, int]:
    """Return the one value of all averages, the count of batches, and that of updates."""
    tensors = [*average.module.parameters(), *average.module.buffers()]
    means = {float(v) for t in tensors if t.is_floating_point() for v in t.unique()}
    assert len(means) == 1
    return means.pop(), int(average.module[1].num_batches_tracked), int(average.n_averaged)


def test_the_first_update_copies_and_later_ones_decay(net):
    average = AveragedModel(net)
    fill(net, 8.0, 1)
    update_average(average, net, 0.75, APPLIED)
    assert values(average) == (8.0, 1, 1)
    fill(net, 0.0, 2)
    update_average(average, net, 0.75, APPLIED)
    assert values(average) == (6.0, 2, 2)
    fill(net, 2.0, 3)
    update_average(average, net, 0.75, APPLIED)
    assert values(average) == (5.0, 3, 3)


def test_a_step_that_is_not_applied_changes_no_average(net):
    average = AveragedModel(net)
    fill(net, 8.0, 1)
    update_average(average, net, 0.5, APPLIED)
    fill(net, 2.0, 1)
    update_average(average, net, 0.5, LEFT_OUT)
    assert values(average) == (8.0, 1, 1)


def test_the_first_step_left_out_is_no_first_update(net):
    average = AveragedModel(net)
    fill(net, 8.0, 1)
    update_average(average, net, 0.5, LEFT_OUT)
    assert int(average.n_averaged) == 0
    update_average(average, net, 0.5, APPLIED)
    assert values(average) == (8.0, 1, 1)
