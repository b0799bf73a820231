"""The frames of one video: `frames.db`, a SQLite file, and `n_frames` beside it.

This is what the rest of the project uses of the package `data.store`.
"""

from data.store.format import COUNT, DATABASE
from data.store.reader import FrameStore, open_store
from data.store.writer import (
    is_finished,
    upgrade_store,
    verify_store,
    write_store,
)

__all__ = [
    "COUNT",
    "DATABASE",
    "FrameStore",
    "is_finished",
    "open_store",
    "upgrade_store",
    "verify_store",
    "write_store",
]
