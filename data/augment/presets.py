"""The augmentation pipelines: imgaug augmenters, by name or from a user's Python file."""

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
    """Import imgaug, whose last release (0.4.0) needs a name that numpy 2 no longer has."""
    with _numpy_sctypes():
        import imgaug
        import imgaug.augmenters
    return imgaug


@contextlib.contextmanager
def _numpy_sctypes() -> Iterator[None]:
    """Provide `numpy.sctypes` inside the block if this numpy lacks it."""
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
    """The original's pipeline: 80 % of the clips get each operation with a probability of 40 %."""
    return _sometimes(
        iaa,
        iaa.GaussianBlur(sigma=[0.1, 0.2, 0.3]),
        iaa.Add((-5, 15), per_channel=True),
        iaa.AdditiveGaussianNoise(scale=0.3 * 255),
        iaa.pillike.EnhanceColor(factor=(1.2, 1.6)),
        iaa.MotionBlur(k=[3, 5, 7]),
        iaa.AddToHueAndSaturation((-16, 16)),
        iaa.LinearContrast(alpha=(0.85, 1.115)),
        iaa.PerspectiveTransform(scale=(0.02, 0.05)),
        iaa.Rotate(rotate=(-10, 10)),
    )


def _colour(iaa: ModuleType) -> Any:
    """The operations of the original's pipeline that only change colours."""
    return _sometimes(
        iaa,
        iaa.Add((-5, 15), per_channel=True),
        iaa.pillike.EnhanceColor(factor=(1.2, 1.6)),
        iaa.AddToHueAndSaturation((-16, 16)),
        iaa.LinearContrast(alpha=(0.85, 1.115)),
    )


def _sometimes(iaa: ModuleType, *operations: Any) -> Any:
    return iaa.Sometimes(0.8, iaa.Sequential([iaa.Sometimes(0.4, op) for op in operations]))


def _randaugment(iaa: ModuleType) -> Any:
    """imgaug's RandAugment, N = 2, M = 9 of 30 (Cubuk et al., arXiv 1909.13719)."""
    return iaa.RandAugment(n=2, m=9)[1]  # [0] mirrors and crops, for which there are options here


def _none(iaa: ModuleType) -> Any:
    return iaa.Identity()


PRESETS: dict[str, Callable[[ModuleType], Any]] = {
    "readme": _readme,
    "imgaug": _readme,  # the same pipeline, run by imgaug itself; see data.augment.program
    "colour": _colour,
    "randaugment": _randaugment,
    "none": _none,
}


def check_pipeline(name: str) -> None:
    """Raise DataError if `load_pipeline` would. Presets are not loaded: that takes a second."""
    if name not in PRESETS:
        load_pipeline(name)


def load_pipeline(name: str) -> Any:
    """Return the imgaug augmenter of a preset, or the `pipeline` that a Python file defines.

    Args:
        name: one of PRESETS, or the path of a Python file.

    Raises:
        DataError: there is no such preset or file, or the file defines no imgaug augmenter called
            `pipeline`.
    """
    imgaug = import_imgaug()
    if name in PRESETS:
        return PRESETS[name](imgaug.augmenters)
    path = Path(name)
    if path.suffix != ".py" or not path.is_file():
        raise DataError(
            f"augmentation {name!r}: neither one of {', '.join(PRESETS)} nor a Python file"
        )
    pipeline = runpy.run_path(str(path)).get("pipeline")
    if not isinstance(pipeline, imgaug.augmenters.Augmenter):
        raise DataError(f"{path}: must define `pipeline`, an imgaug augmenter")
    return pipeline
