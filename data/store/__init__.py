"""The frames of one video: `frames.db`, a SQLite file, and `n_frames` beside it.

format              the tables, header and summary of `frames.db`; its versions
frame_times         when each frame is shown: the frame rate, constant or varying
reader              `FrameStore`, which reads frames
open_stores         keep stores open between reads
writer              write a store, upgrade an older one, verify one
shard_index         find a video in a shard, a file of many videos
shard_index_writer  write the index of the shards
shard_writer        pack single stores into shards
jpeg                check, decode and shrink JPEGs
read_ahead          ask the kernel for all the frames of a clip in one request
ffmpeg              video file -> JPEGs of its frames
unfinished_folders  folders that are being written: locked, and removed if the process died

Everything that other packages use of stores can be imported from `data.store`, except `ffmpeg`,
`unfinished_folders` and shards.
"""

from data.store.format import COUNT, DATABASE
from data.store.open_stores import close_store, open_store
from data.store.reader import FrameStore
from data.store.writer import is_finished, upgrade_store, verify_store, write_store

__all__ = [
    "COUNT",
    "DATABASE",
    "FrameStore",
    "close_store",
    "is_finished",
    "open_store",
    "upgrade_store",
    "verify_store",
    "write_store",
]
