"""Read label csvs and frame stores, and make training clips of them.

dataset_defaults   the six datasets and your own: facts and training defaults
annotations        which videos there are, of which class: label csvs, splits, folders of videos
store              `frames.db`, the file with a video's frames: convert to it, write, read, check
augment            the augmentation of training clips: imgaug pipelines, crop, random erasing
clips              which frames of a video make a clip, the clip itself, and the data loader
synthetic          a rendered dataset for the demo and the tests
file_writing       write files atomically: after a crash, a file is the old one or the new one
data_error         errors for bad data, and for a lack of memory, disk or file descriptors
resource_shortage  find out from an error which of these has run out

`FrameStore` reads the frames of one video, `load_labels` reads one label csv, and both raise
`DataError` for data that cannot be used. Their modules are imported when they are first used, so
that `import data.dataset_defaults` stays fast.
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
