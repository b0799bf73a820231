"""Copy the next batch to the device while the current one is computed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch

from data.clips.loader import Batch
from train.devices import Devices


def prefetched(batches: Iterable[Batch], devices: Devices) -> Iterator[Batch]:
    """Yield the batches in their order, clips and labels on the device.

    The next batch is read, and its copy started, before the current one is yielded, so that it is
    copied while the device computes. An error while the next batch is read is raised only when
    that batch is asked for, after the current one has been used.
    """
    # a stream of its own: on the computing stream the copy would wait for all the queued work
    stream = torch.cuda.Stream(devices.device) if devices.on_gpu else None
    batches, following, failure = iter(batches), None, None
    while failure is None:
        current = following
        try:
            following = _start_copy(next(batches), devices, stream)
        except Exception as error:  # StopIteration at the end
            failure = error
        if current:
            yield _wait_for_copy(*current, devices)
    if not isinstance(failure, StopIteration):
        raise failure


def _start_copy(
    batch: Batch, devices: Devices, stream: torch.cuda.Stream | None
) -> tuple[Batch, torch.cuda.Event | None]:
    """Start to copy a batch to the device; also return the event that marks the end of the copy."""
    with torch.cuda.stream(stream) if stream else contextlib.nullcontext():
        clips, labels = devices.to_device(batch.clips), devices.to_device(batch.labels)
        return batch._replace(clips=clips, labels=labels), devices.record_event()


def _wait_for_copy(batch: Batch, copy_is_done: torch.cuda.Event | None, devices: Devices) -> Batch:
    """Let the device work that is queued from now on wait for the copy; the host does not wait."""
    if copy_is_done:
        computing = torch.cuda.current_stream(devices.device)
        computing.wait_event(copy_is_done)
        for tensor in (batch.clips, batch.labels):
            tensor.record_stream(computing)  # or its memory would be reused too early
    return batch
