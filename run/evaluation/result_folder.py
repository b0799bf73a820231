"""A result folder for each protocol, which is written as a whole."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from data.file_writing import naming, sync_to_disk
from data.store.unfinished_folders import PART, sweep_unfinished, unfinished_folder

CARD = "card.json"
OLD = ".old"  # ends the name of a folder that is being replaced


def free_folder(parent: Path, name: str, asked: Mapping[str, Any]) -> Path:
    """Return the folder `name` in `parent`, or `name`-2, ... if that holds something else.

    Args:
        parent: of the evaluations.
        name: of the protocol.
        asked: the part `asked` of the result card; a folder with an equal one is replaced.
    """
    for number in itertools.count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        if not folder.exists() or _asked(folder) == asked:
            return folder
    raise AssertionError  # there is always a free number


def _asked(folder: Path) -> object:
    """Return which evaluation a folder holds; None if it holds none."""
    try:
        return json.loads((folder / CARD).read_text(encoding="utf-8"))["asked"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_unfinished(folder: Path) -> bool:
    """Return whether a folder is what a killed process has left beside the results."""
    return folder.name.startswith(PART) or folder.name.endswith(OLD)


def check_writable(parent: Path) -> None:
    """Create a folder if need be, and check that files can be written into it.

    Raises:
        OSError: they cannot; the error names the folder.
    """
    with naming(parent):
        parent.mkdir(parents=True, exist_ok=True)
        with unfinished_folder(parent):
            pass


def publish(folder: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a new folder, then let it take the place of `folder`.

    If this process is killed, `folder` has its old or its new content as a whole; killed between
    the last two steps, its old content is in `<folder>.old`.
    """
    with naming(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
    sweep_unfinished(folder.parent)
    with unfinished_folder(folder.parent) as unfinished:
        with naming(folder):  # and not the unfinished one, which the user does not know
            write(unfinished)
            for path in unfinished.iterdir():
                sync_to_disk(path)
            old = folder.with_name(folder.name + OLD)
            shutil.rmtree(old, ignore_errors=True)
            if folder.exists():
                folder.rename(old)
            unfinished.rename(folder)
            sync_to_disk(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
