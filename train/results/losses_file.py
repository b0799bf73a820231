"""The losses of all training videos by epoch: `train_losses.npy`, which grows with every epoch.

`numpy.load(path, mmap_mode="r")` gives an array (epochs, videos), the videos in the order of the
label csv's usable rows, with two fields:

- `loss`: float16, NaN where an epoch did not show the video or is not known;
- `predicted`: the number of the likeliest class, -1 where it is not known.

A row is appended before the epoch's checkpoint is saved, and a resumed run deletes the rows of the
epochs that it trains again. So the file has one row for each finished epoch, wherever a run died.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy
from torch import Tensor

from data.data_error import DataError
from data.file_writing import naming, set_aside

NAME = "train_losses.npy"

log = logging.getLogger(__name__)


def row_type(classes: int) -> np.dtype:
    """Return the dtype of one video in one epoch."""
    return np.dtype([("loss", "<f2"), ("predicted", np.min_scalar_type(-classes))])


def open_losses(folder: Path) -> np.ndarray | None:
    """Return the array (epochs, videos) in a results folder, mapped to memory; None without it.

    Raises:
        DataError: it is damaged.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        with naming(path):
            found = np.load(path, mmap_mode="r")
    except OSError:
        raise
    except Exception as error:  # numpy raises many kinds of errors for a damaged header
        raise DataError(f"{path}: cannot be read ({error})") from error
    if found.ndim != 2 or found.dtype.names != ("loss", "predicted"):
        raise DataError(f"{path}: is not a file of losses by epoch")
    return found


def start_losses(folder: Path, videos: int, classes: int, *, epochs: int) -> None:
    """Keep the rows of the first `epochs` epochs of a run that continues after them.

    Rows that are missing become unknown, as in a run that an earlier version has begun.
    """
    path, dtype = folder / NAME, row_type(classes)
    try:
        found = open_losses(folder)
    except DataError as error:
        aside = set_aside(path, "damaged")
        log.warning("%s: it is now %s, and the losses of earlier epochs are lost", error, aside)
        found = None
    there = 0
    if found is not None and found.shape[1:] == (videos,) and found.dtype == dtype:
        there = min(len(found), epochs)
    del found  # closes the file
    with naming(path), path.open("r+b" if there else "wb") as file:
        begin = _write_header(file, (there, videos), dtype)
        file.truncate(begin + there * videos * dtype.itemsize)
    unknown = np.array((np.nan, -1), dtype)
    for epoch in range(there + 1, epochs + 1):
        append_losses(folder, epoch, np.full(videos, unknown))


def append_losses(folder: Path, epoch: int, row: np.ndarray) -> None:
    """Append the row of an epoch, of `row_type` (videos,), to a file that `start_losses` made.

    Raises:
        OSError: the disk is full, for example; the file keeps its earlier rows.
    """
    path = folder / NAME
    with naming(path), path.open("r+b") as file:
        begin = _write_header(file, (epoch - 1, len(row)), row.dtype)
        file.seek(begin + (epoch - 1) * row.nbytes)
        file.write(row.tobytes())
        file.flush()
        os.fsync(file.fileno())
        _write_header(file, (epoch, len(row)), row.dtype)  # last: a row counts once it is complete


def _write_header(file: BinaryIO, shape: tuple[int, int], dtype: np.dtype) -> int:
    """Write the header, which has room for any number of epochs; return where the rows begin."""
    file.seek(0)
    npy.write_array_header_1_0(
        file, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    )
    return file.tell()


def as_row(values: Tensor, videos: int, classes: int) -> np.ndarray:
    """Return the row of an epoch: `row_type` (videos,).

    Args:
        values: float32 (2, videos), losses and classes, negative where unknown; (2, 0) if all are.
        videos: how many there are.
        classes: how many there are.
    """
    row = np.full(videos, np.array((np.nan, -1), row_type(classes)))
    if values.numel():
        losses, predicted = values.numpy()
        row["loss"] = np.where(losses < 0, np.nan, np.minimum(losses, np.finfo(np.float16).max))
        row["predicted"] = predicted
    return row
