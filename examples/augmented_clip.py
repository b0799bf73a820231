"""See what training does to a clip: `python examples/augmented_clip.py FOLDER`.

FOLDER holds the frames of one video. The picture, augmented_clip.png, has the frames as they are
stored in its first row and three augmented clips below. `--recipe` takes any value of the training
scripts' `--augmentation`.
"""

import argparse

import numpy as np
from matplotlib.figure import Figure

from data import FrameStore
from data.augment.crop import draw_crop
from data.augment.program import load_augmentation

parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("--picture", default="augmented_clip.png")
parser.add_argument("--recipe", default="readme")
args = parser.parse_args()
FRAMES, SIZE = 4, 224  # frames of a clip; its height and width in pixels

with FrameStore(args.folder) as store:
    frames = store.read(np.linspace(0, store.n_frames - 1, FRAMES).astype(int).tolist())

augmentation = load_augmentation(args.recipe)
rows = {"stored": frames}
for seed in range(3):
    rng = np.random.default_rng(seed)  # one generator for a clip: all its frames change alike
    crop = draw_crop(7 / 8, rng)  # a square whose side is 7/8 of the frame's short side
    rows[f"seed {seed}"] = augmentation.draw(rng, SIZE).render(frames, crop, SIZE)

figure = Figure(figsize=(2.5 * FRAMES, 2.5 * len(rows)), layout="constrained")
for line, (name, images) in zip(figure.subplots(len(rows), FRAMES), rows.items(), strict=True):
    line[0].set_ylabel(name)
    for axis, image in zip(line, images, strict=True):
        axis.imshow(image)
        axis.set(xticks=[], yticks=[])
figure.savefig(args.picture)
print(f"wrote {args.picture}")
