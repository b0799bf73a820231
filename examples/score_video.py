"""Name the action in one video: `python examples/score_video.py CHECKPOINT VIDEO`.

VIDEO is a video file or the folder of a frame store. `python -m run.predict` scores many videos.
"""

import sys

from run.recogniser import Recogniser

recogniser = Recogniser(sys.argv[1], gpus=0)  # 0 is the CPU; without it, a GPU if there is one
prediction = recogniser.predict(sys.argv[2])

for name, score in prediction.top:  # the likeliest classes
    print(f"{name:20} {score:6.1%}")
for segment in prediction.segments:  # of a video of more than 30 seconds
    print(f"{segment.start:8.1f} s to {segment.end:.1f} s: {segment.name} {segment.score:.1%}")
