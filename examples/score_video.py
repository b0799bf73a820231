"""Name the action in one video: `python examples/score_video.py CHECKPOINT VIDEO`.

VIDEO is a video file or the folder of a frame store. `python -m run.predict` scores many videos.
"""

import sys
import tempfile
from pathlib import Path

from run.prediction import predict
from run.trained_network import open_checkpoint
from train.devices import open_devices

checkpoint, video = map(Path, sys.argv[1:])
gpus = 0  # 0 is the CPU
with open_devices(gpus, "fp32") as devices, tempfile.TemporaryDirectory() as scratch:
    trained = open_checkpoint(checkpoint, devices)  # network, weights, clip shape and class names
    probabilities = predict(trained, video, devices, scratch=Path(scratch) / "frames")

for number in probabilities.argsort()[::-1][:3]:  # float32 (classes,)
    print(f"{trained.classes[number]:20} {probabilities[number]:6.1%}")
