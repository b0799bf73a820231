"""Draw single numbers from imgaug's random parameters with a `numpy.random.Generator`.

imgaug itself draws an array for each parameter, which takes tens of microseconds; a clip needs
single numbers. The common distributions are drawn here, any other one by imgaug.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from data.augment.presets import import_imgaug

Sampler = Callable[[np.random.Generator], Any]


def make_sampler(parameter: Any) -> Sampler:
    """Return a function that draws one value from an imgaug `StochasticParameter`."""
    make = SAMPLERS.get(type(parameter).__name__, _by_imgaug)
    return make(parameter)


def constant_value(parameter: Any) -> Any | None:
    """Return the value of a parameter that is a constant, None for a random one."""
    return parameter.value if type(parameter).__name__ == "Deterministic" else None


def _deterministic(parameter: Any) -> Sampler:
    return lambda rng: parameter.value


def _uniform(parameter: Any) -> Sampler:
    ends = constant_value(parameter.a), constant_value(parameter.b)
    if None in ends:
        return _by_imgaug(parameter)
    low, high = min(ends), max(ends)
    return lambda rng: low + (high - low) * rng.random()


def _discrete_uniform(parameter: Any) -> Sampler:
    ends = constant_value(parameter.a), constant_value(parameter.b)
    if None in ends:
        return _by_imgaug(parameter)
    low, count = min(ends), abs(ends[1] - ends[0]) + 1
    return lambda rng: low + int(rng.random() * count)


def _choice(parameter: Any) -> Sampler:
    values = list(parameter.a)
    if parameter.p is not None or any(hasattr(value, "draw_sample") for value in values):
        return _by_imgaug(parameter)
    return lambda rng: values[int(rng.random() * len(values))]


def _binomial(parameter: Any) -> Sampler:
    p = constant_value(parameter.p)
    if p is None:
        return _by_imgaug(parameter)
    return lambda rng: rng.random() < p


def _by_imgaug(parameter: Any) -> Sampler:
    imgaug_rng = import_imgaug().random.RNG
    return lambda rng: parameter.draw_sample(random_state=imgaug_rng(rng))


SAMPLERS: dict[str, Callable[[Any], Sampler]] = {
    "Deterministic": _deterministic,
    "Uniform": _uniform,
    "DiscreteUniform": _discrete_uniform,
    "Choice": _choice,
    "Binomial": _binomial,
}
