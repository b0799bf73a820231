"""Open checkpoints of training runs, and check them before anything is taken from them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from train.errors import TrainError

NEEDED = {"state_dict", "epoch", "step", "optimizer"}


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of ours, tensors on the CPU.

    torch.load does not look at the checksums inside the file, so they are looked at here first.

    Raises:
        TrainError: the file is missing, damaged, or not a checkpoint that a run can go on from.
    """
    if not path.is_file():
        raise TrainError(f"{path}: no such checkpoint")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise TrainError(f"{path}: is not a checkpoint, or only part of one ({error})") from error
    if damaged:
        raise TrainError(f"{path}: is damaged ({damaged} fails its checksum); use another one")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever unpickling foreign bytes may raise
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TrainError(f"{path}: cannot be read as a checkpoint ({first_line})") from error
    if not isinstance(content, dict) or not content.keys() >= NEEDED:
        raise TrainError(
            f"{path}: holds weights but not what resuming needs; use it by --pretrained-3d"
        )
    return content
