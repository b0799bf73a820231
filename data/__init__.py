"""Read label csvs and frame stores, and make training clips of them.

datasets     the six datasets and your own: facts and training defaults
annotations  which videos there are, and of which class: label csvs, splits, folders on the disk
store        `frames.db`, the file that holds a video's frames: write, read, check, convert to
augment      how a training clip is changed, written as an imgaug pipeline
clips        which frames and which crop of a video make a clip, and the data loader
synthetic    a rendered dataset for the demo and the tests
file_writing write files atomically: the old file or the new one is whole after a crash
data_error   the errors for bad data and for a machine that is short of something
resource_shortage  which resource has run out, told from the error that it caused

`FrameStore` reads the frames of one video, `load_labels` reads one label csv, and both raise
`DataError` for what cannot be used. They are imported when they are first asked for, so that
`import data.datasets` stays fast.
"""

import importlib
from typing import Any

from data.data_error import DataError

__all__ = ["DataError", "FrameStore", "load_labels"]

_IMPORTED_LATER = {"FrameStore": "data.store", "load_labels": "data.annotations.label_csv"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _IMPORTED_LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_IMPORTED_LATER[name]), name)
