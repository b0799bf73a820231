"""The options of `build_network`: names, defaults and values. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from network.network_error import NetworkError

#: The places in a residual block where the SRTG can be, as in the paper's figure.
PLACES = ("start", "top", "mid", "bottom", "res", "final")
RECURRENT_INITS = ("open", "default")


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What can be chosen of a network beside its name; see `network.build_network`."""

    gates: bool = False
    place: str = "final"
    recurrent_init: str = "open"
    srtg_alpha: float | None = None
    expansion: int = 1
    pool: str = "full"
    stem_frames: int = 3
    middle: str = "block"
    middle_relu: bool = True
    norm_eps: float = 1e-5
    norm_momentum: float = 0.1

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> BuildOptions:
        """Return the checked options.

        Raises:
            NetworkError: an option does not exist, or has a value that it cannot have.
        """
        for name, value in options.items():
            if name not in VALUES:
                raise NetworkError(
                    f"build_network has no option {name!r}; it has {', '.join(VALUES)}"
                )
            allowed = VALUES[name]
            if not any(_fits(value, one) for one in allowed):
                said = ", ".join(one if isinstance(one, str) else _said(one) for one in allowed)
                raise NetworkError(f"{name} is {value!r}: it must be one of {said}")
        return cls(**options)

    def chosen(self) -> dict[str, Any]:
        """Return the options that differ from the defaults."""
        return {
            item.name: getattr(self, item.name)
            for item in fields(self)
            if getattr(self, item.name) != item.default
        }

    def refuse(self, names: Collection[str], why: str) -> None:
        """Raise NetworkError with the reason `why` if one of the options `names` was chosen."""
        wrong = [name for name in names if name in self.chosen()]
        if wrong:
            raise NetworkError(f"{' and '.join(wrong)}: {why}")


#: What each option may be: words, types, ranges of numbers.
VALUES: dict[str, tuple[Any, ...]] = {
    "gates": (bool,),
    "place": PLACES,
    "recurrent_init": RECURRENT_INITS,
    "srtg_alpha": (None, (-10.0, 10.0)),
    "expansion": (range(1, 65),),
    "pool": ("full", "space", "none"),
    "stem_frames": (range(1, 16, 2),),
    "middle": ("block", "conv"),
    "middle_relu": (bool,),
    "norm_eps": ((1e-12, 1.0),),
    "norm_momentum": ((0.0, 1.0),),
}


def _fits(value: object, allowed: object) -> bool:
    if allowed is bool or allowed is None:
        return value is None if allowed is None else type(value) is bool
    if isinstance(allowed, range):
        return type(value) is int and value in allowed
    if isinstance(allowed, tuple):
        low, high = allowed
        return type(value) in (int, float) and math.isfinite(value) and low <= value <= high
    return type(value) is str and value == allowed


def _said(allowed: object) -> str:
    if isinstance(allowed, range):
        step = f" in steps of {allowed.step}" if allowed.step > 1 else ""
        return f"a whole number from {allowed[0]} to {allowed[-1]}{step}"
    if isinstance(allowed, tuple):
        return f"a number from {allowed[0]:g} to {allowed[1]:g}"
    return "None" if allowed is None else "True, False"
