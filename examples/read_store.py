"""Read some frames of one video: `python examples/read_store.py FOLDER`.

FOLDER holds `frames.db` and `n_frames`, for example `demo/jpg/grow/train_grow_000`.
"""

import sys

from data import FrameStore

with FrameStore(sys.argv[1]) as store:
    last = store.n_frames - 1
    frames = store.read([0, last // 2, last])  # uint8 (3, H, W, 3), RGB

print(f"{store.n_frames} frames of {frames.shape[2]} x {frames.shape[1]} pixels")
for name, frame in zip(("first", "middle", "last"), frames, strict=True):
    print(f"{name:6} frame: mean colour {frame.mean((0, 1)).round().astype(int).tolist()}")
