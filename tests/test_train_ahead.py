"""The batches that are copied ahead: the same ones, in the same order, errors in their place."""

import pytest
import torch
from small_runs import batch

from data.data_error import DataError
from train import distributed
from train.devices import Devices
from train.distributed import DelayedMaximum
from train.prefetch import prefetched

CPU = Devices(torch.device("cpu"), 0, "fp32")


def reading(count: int, read: list[int], broken: int | None = None):
    for number in range(count):
        if number == broken:
            raise DataError(f"batch {number} is broken")
        read.append(number)
        yield batch(number)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_the_next_batch_is_read_before_the_current_one_is_used(count):
    read = []
    for number, got in enumerate(prefetched(reading(count, read), CPU)):
        assert read == list(range(min(number + 2, count)))
        assert all(torch.equal(a, b) for a, b in zip(got, batch(number), strict=True))
    assert len(read) == count


def test_an_error_comes_when_its_batch_is_asked_for():
    used = []
    with pytest.raises(DataError, match="batch 2 is broken"):
        for got in prefetched(reading(5, [], broken=2), CPU):
            used.append(int(got.indices[0]))
    assert used == [0, 1]


def test_what_ranks_say_is_known_one_call_late_unless_asked_for_now(monkeypatch):
    """Of two ranks, the other one says 1, 2, 3, ... in turn."""
    other = iter(range(1, 9))

    def start(_devices, values):
        answer = [max(value, next(other)) for value in values]
        return lambda: answer

    monkeypatch.setattr(distributed, "start_all_reduce_max", start)
    two = DelayedMaximum(Devices(CPU.device, 0, "fp32", world_size=2))
    calls = ((0, False), (9, False), (0, False), (0, True))
    assert [two.all_reduce_max([value], wait=wait) for value, wait in calls] == [
        [0.0],
        [1],
        [9],
        [4],
    ]
    assert two.all_reduce_max([0], wait=False) == [0.0]  # nothing is left to be known
    alone = DelayedMaximum(CPU)
    assert alone.all_reduce_max([7], wait=False) == [7]
