"""Data: label csvs and frame stores in, clips out.

`FrameStore` reads the frames of one video, `load_labels` one label csv; what cannot be used is a
`DataError`.
"""

from data.annotations.label_csv import load_labels
from data.data_error import DataError
from data.store import FrameStore

__all__ = ["DataError", "FrameStore", "load_labels"]
