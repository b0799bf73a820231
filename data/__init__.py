"""Data: label csvs and frame stores in, clips out.

`FrameStore` reads the frames of one video, `load_labels` one label csv; what cannot be used is a
`DataError`.
"""

from data.errors import DataError
from data.frames import FrameStore
from data.labels import load_labels

__all__ = ["DataError", "FrameStore", "load_labels"]
