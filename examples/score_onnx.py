"""Name the action in a clip with onnxruntime alone: `python examples/score_onnx.py FILE CLIP`.

FILE is the model.onnx that `python -m run.export` writes, CLIP a file of numpy.save: the frames of
one clip as uint8 (T, H, W, 3), RGB. Frame rate, size and crop of clips are in the file's metadata
under `profile`. Needs numpy and onnxruntime, but neither torch nor this project.
"""

import json
import sys

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
facts = session.get_modelmeta().custom_metadata_map
classes = json.loads(facts["classes"])
(logits,) = session.run(["logits"], {"clips": np.load(sys.argv[2])[None]})  # float32 (1, classes)
scores = np.exp(logits[0] - logits[0].max())
for number in scores.argsort()[::-1][:3]:
    print(f"{classes[number]:20} {scores[number] / scores.sum():6.1%}")
