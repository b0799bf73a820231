"""The augmentation recipes: ordinary imgaug pipelines, by name or from a user's Python file."""

from __future__ import annotations

import contextlib
import runpy
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from data.data_error import DataError


@cache
def import_imgaug() -> ModuleType:
    """The package `imgaug`: its last release, 0.4.0, asks at import for a name numpy 2 dropped."""
    with _numpy_sctypes():
        import imgaug
        import imgaug.augmenters
    return imgaug


@contextlib.contextmanager
def _numpy_sctypes() -> Iterator[None]:
    """`numpy.sctypes`, where there is none, for as long as the context lasts."""
    if hasattr(np, "sctypes"):
        yield
        return
    np.sctypes = {  # noqa: NPY201
        "int": [np.int8, np.int16, np.int32, np.int64],
        "uint": [np.uint8, np.uint16, np.uint32, np.uint64],
        "float": [np.float16, np.float32, np.float64, np.longdouble],
    }
    try:
        yield
    finally:
        del np.sctypes  # noqa: NPY201


def _readme(iaa: ModuleType) -> Any:
    """The original's list, in its order: 80 % of the videos, each operation with 40 %."""
    operations = [
        iaa.GaussianBlur(sigma=[0.1, 0.2, 0.3]),
        iaa.Add((-5, 15), per_channel=True),
        iaa.AdditiveGaussianNoise(scale=0.3 * 255),
        iaa.pillike.EnhanceColor(factor=(1.2, 1.6)),
        iaa.MotionBlur(k=[3, 5, 7]),
        iaa.AddToHueAndSaturation((-16, 16)),
        iaa.LinearContrast(alpha=(0.85, 1.115)),
        iaa.PerspectiveTransform(scale=(0.02, 0.05)),
        iaa.Rotate(rotate=(-10, 10)),
    ]
    return iaa.Sometimes(0.8, iaa.Sequential([iaa.Sometimes(0.4, op) for op in operations]))


def _colour(iaa: ModuleType) -> Any:
    """What of the original's list leaves every pixel where it is."""
    operations = [
        iaa.Add((-5, 15), per_channel=True),
        iaa.pillike.EnhanceColor(factor=(1.2, 1.6)),
        iaa.AddToHueAndSaturation((-16, 16)),
        iaa.LinearContrast(alpha=(0.85, 1.115)),
    ]
    return iaa.Sometimes(0.8, iaa.Sequential([iaa.Sometimes(0.4, op) for op in operations]))


def _randaugment(iaa: ModuleType) -> Any:
    """RandAugment, N 2, M 9 of 30 (Cubuk et al., arXiv 1909.13719), as imgaug has it."""
    return iaa.RandAugment(n=2, m=9)[1]  # [0] mirrors and crops: options of their own here


def _none(iaa: ModuleType) -> Any:
    return iaa.Identity()


RECIPES: dict[str, Callable[[ModuleType], Any]] = {
    "readme": _readme,
    "imgaug": _readme,  # the same, but run by imgaug itself: data.augment.program
    "colour": _colour,
    "randaugment": _randaugment,
    "none": _none,
}


def check_recipe(name: str) -> None:
    """Check, before any video is looked at, that `load_recipe(name)` will work. Raises as it."""
    if name not in RECIPES:
        load_recipe(name)


def load_recipe(name: str) -> Any:
    """The imgaug augmenter called `name`, or the `pipeline` that the Python file `name` defines.

    Raises:
        DataError: no such recipe or file, or a file that defines no imgaug augmenter `pipeline`.
    """
    imgaug = import_imgaug()
    if name in RECIPES:
        return RECIPES[name](imgaug.augmenters)
    path = Path(name)
    if path.suffix != ".py" or not path.is_file():
        raise DataError(
            f"augmentation {name!r}: neither one of {', '.join(RECIPES)} nor a Python file"
        )
    pipeline = runpy.run_path(str(path)).get("pipeline")
    if not isinstance(pipeline, imgaug.augmenters.Augmenter):
        raise DataError(f"{path}: must define `pipeline`, an imgaug augmenter")
    return pipeline
