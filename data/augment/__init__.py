"""Augmentation of training clips: imgaug pipelines, compiled into fast programs for whole clips.

presets            the pipelines that have a name, and pipelines from a user's Python file
imgaug_compiler    imgaug augmenter -> function that draws one clip's operations
imgaug_parameters  imgaug's random parameters -> functions that draw one value
operations         what is done to frames: blur, noise, colour matrix, warp and so on
program            a clip's crop and operations, merged where possible and applied to every frame
crop               which square of the frames a clip shows
erasing            random erasing
"""
