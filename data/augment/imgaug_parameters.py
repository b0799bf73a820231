"""imgaug's random parameters as plain functions of a `numpy.random.Generator`.

imgaug draws an array for every parameter, in tens of microseconds; a clip needs single numbers.
The distributions met in practice are drawn here, any other by imgaug itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from data.augment.presets import import_imgaug

Draw = Callable[[np.random.Generator], Any]


def drawer(parameter: Any) -> Draw:
    """A function that draws one value as imgaug's `StochasticParameter` does."""
    make = DRAWERS.get(type(parameter).__name__, _any)
    return make(parameter)


def constant(parameter: Any) -> Any | None:
    """The value of a parameter that always has the same one, else None."""
    return parameter.value if type(parameter).__name__ == "Deterministic" else None


def _deterministic(parameter: Any) -> Draw:
    return lambda rng: parameter.value


def _uniform(parameter: Any) -> Draw:
    ends = constant(parameter.a), constant(parameter.b)
    if None in ends:
        return _any(parameter)
    low, high = min(ends), max(ends)
    return lambda rng: low + (high - low) * rng.random()


def _discrete_uniform(parameter: Any) -> Draw:
    ends = constant(parameter.a), constant(parameter.b)
    if None in ends:
        return _any(parameter)
    low, count = min(ends), abs(ends[1] - ends[0]) + 1
    return lambda rng: low + int(rng.random() * count)


def _choice(parameter: Any) -> Draw:
    values = list(parameter.a)
    if parameter.p is not None or any(hasattr(value, "draw_sample") for value in values):
        return _any(parameter)
    return lambda rng: values[int(rng.random() * len(values))]


def _binomial(parameter: Any) -> Draw:
    p = constant(parameter.p)
    if p is None:
        return _any(parameter)
    return lambda rng: rng.random() < p


def _any(parameter: Any) -> Draw:
    imgaug_rng = import_imgaug().random.RNG
    return lambda rng: parameter.draw_sample(random_state=imgaug_rng(rng))


DRAWERS: dict[str, Callable[[Any], Draw]] = {
    "Deterministic": _deterministic,
    "Uniform": _uniform,
    "DiscreteUniform": _discrete_uniform,
    "Choice": _choice,
    "Binomial": _binomial,
}
