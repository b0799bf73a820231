"""From an imgaug pipeline to a function that draws one clip's operations.

Each kind of augmenter that is known has a rule, found by the exact class's name: a rule takes the
augmenter and returns a `Draft`, or None where the augmenter is set up in a way that the rule does
not cover. Whatever is left runs through imgaug itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import cv2
import numpy as np
import torch

from data.augment.imgaug_parameters import constant, drawer
from data.augment.operations import (
    LUMA,
    TRUNCATE,
    ByImgaug,
    Colour,
    Filter,
    GaussianBlur,
    HueSaturation,
    Noise,
    Operation,
    Table,
    Warp,
    motion_kernel,
    rotation,
)

#: Draws the operations of one clip of `size` x `size` pixels: (rng, size) -> operations in order.
Draft = Callable[[np.random.Generator, int], list[Operation]]
Rule = Callable[[Any], "Draft | None"]

RULES: dict[str, Rule] = {}
INVISIBLE_SIGMA = 0.25  # pixels: a Gaussian that gives 1 / 3000 to its neighbours changes no byte
FAR = np.float32([[0, 0], [1, 0], [1, 1], [0, 1]])  # a square's corners, clockwise
INVISIBLE_REACH = 4.85  # sigmas, where a Gaussian has fallen to 2 ** -17


def compile_pipeline(augmenter: Any) -> Draft:
    """The clip-level program of an imgaug augmenter."""
    rule = RULES.get(type(augmenter).__name__)
    draft = rule(augmenter) if rule else None
    return draft or _through_imgaug(augmenter)


def compiles(augmenter: Any) -> bool:
    """Whether a rule covers the augmenter itself (not its children)."""
    rule = RULES.get(type(augmenter).__name__)
    return rule is not None and rule(augmenter) is not None


def _through_imgaug(augmenter: Any) -> Draft:
    def draft(rng, size):
        augmenter.seed_(entropy=int(rng.integers(2**31)))
        return [ByImgaug(augmenter.to_deterministic())]

    return draft


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for imgaug's classes of these names."""

    def register(function: Rule) -> Rule:
        for name in names:
            assert name not in RULES, f"two rules for {name}"
            RULES[name] = function
        return function

    return register


# Containers


@rule("Identity", "Noop")
def _identity(augmenter):
    return lambda rng, size: []


@rule("Sequential")
def _sequential(augmenter):
    children = [compile_pipeline(child) for child in augmenter]

    def draft(rng, size):
        order = rng.permutation(len(children)) if augmenter.random_order else range(len(children))
        return [operation for i in order for operation in children[i](rng, size)]

    return draft


@rule("Sometimes")
def _sometimes(augmenter):
    happens = drawer(augmenter.p)
    then, otherwise = (
        compile_pipeline(branch) if branch is not None else _identity(None)
        for branch in (augmenter.then_list, augmenter.else_list)
    )
    return lambda rng, size: (then if happens(rng) else otherwise)(rng, size)


@rule("SomeOf", "OneOf")
def _some_of(augmenter):
    children = [compile_pipeline(child) for child in augmenter]
    count = {
        "deterministic": lambda rng: augmenter.n,
        "None": lambda rng: len(children),
        "(int,None)": lambda rng: rng.integers(augmenter.n[0], len(children) + 1),
        "stochastic": lambda rng: drawer(augmenter.n)(rng),
    }[augmenter.n_mode]

    def draft(rng, size):
        chosen = rng.permutation(len(children))[: max(0, int(count(rng)))]
        if not augmenter.random_order:
            chosen = np.sort(chosen)
        return [operation for i in chosen for operation in children[i](rng, size)]

    return draft


# Colour


def _per_channel(augmenter: Any, parameter: Any) -> Callable[[np.random.Generator], np.ndarray]:
    """Draws float (3,) values: three of them, or one for all."""
    value, apart = drawer(parameter), drawer(augmenter.per_channel)

    def draw(rng):
        if apart(rng) > 0.5:
            return np.array([value(rng) for _ in range(3)], np.float64)
        return np.full(3, value(rng), np.float64)

    return draw


def _affine_colour(scale: np.ndarray, offset: np.ndarray) -> Colour:
    return Colour(np.column_stack([np.diag(scale), offset]))


@rule("Add")
def _add(augmenter):
    values = _per_channel(augmenter, augmenter.value)
    return lambda rng, size: [_affine_colour(np.ones(3), np.rint(values(rng)))]


@rule("Multiply")
def _multiply(augmenter):
    values = _per_channel(augmenter, augmenter.mul)
    return lambda rng, size: [_affine_colour(values(rng), np.full(3, TRUNCATE))]


@rule("LinearContrast")
def _linear_contrast(augmenter):
    alphas = _per_channel(augmenter, augmenter.params1d[0])

    def draft(rng, size):
        alpha = alphas(rng)
        return [_affine_colour(alpha, 127 * (1 - alpha) + TRUNCATE)]

    return draft


@rule("GammaContrast")
def _gamma_contrast(augmenter):
    gammas = _per_channel(augmenter, augmenter.params1d[0])

    def draft(rng, size):
        ramp = np.linspace(0, 1, 256)[:, None]
        return [Table((ramp ** gammas(rng) * 255).astype(np.uint8))]

    return draft


@rule("EnhanceColor")
def _enhance_color(augmenter):
    factor = drawer(augmenter.factor)

    def draft(rng, size):
        f = factor(rng)
        mix = f * np.eye(3) + (1 - f) * LUMA
        return [Colour(np.column_stack([mix, np.full(3, TRUNCATE)]))]

    return draft


@rule("EnhanceBrightness")
def _enhance_brightness(augmenter):
    factor = drawer(augmenter.factor)
    return lambda rng, size: [_affine_colour(np.full(3, factor(rng)), np.full(3, TRUNCATE))]


@rule("AddToHueAndSaturation", "AddToHue", "AddToSaturation")
def _hue_and_saturation(augmenter):
    if augmenter.from_colorspace != "RGB":
        return None
    shared, apart = augmenter.value, drawer(augmenter.per_channel)
    hue, saturation = (
        drawer(parameter) if parameter is not None else lambda rng: 0
        for parameter in (augmenter.value_hue or shared, augmenter.value_saturation or shared)
    )

    def draft(rng, size):
        turn = hue(rng)
        linked = shared is not None and apart(rng) <= 0.5
        more = turn if linked else saturation(rng)
        return [HueSaturation(int(turn / 255 * 180), int(more))]

    return draft


# Noise and blur


@rule("AdditiveGaussianNoise")
def _gaussian_noise(augmenter):
    if type(augmenter.value).__name__ != "Normal":
        return None
    mean, deviation = drawer(augmenter.value.loc), drawer(augmenter.value.scale)
    apart = drawer(augmenter.per_channel)

    def draft(rng, size):
        channels = 3 if apart(rng) > 0.5 else 1
        table = _signed_normals(float(mean(rng)), float(deviation(rng)))
        drawn = np.frombuffer(rng.bytes(2 * size * size * channels), "<u2")
        pairs = table.take(drawn, mode="clip").view(np.uint8).reshape(size, -1, 2)
        parts = [part.reshape(size, size, channels) for part in cv2.split(pairs)]
        if channels == 1:
            parts = [cv2.cvtColor(part, cv2.COLOR_GRAY2RGB) for part in parts]
        return [Noise(*parts)]

    return draft


@cache
def _normals() -> np.ndarray:
    """The standard normal distribution in 2 ** 16 equally likely steps: float64 (65536,)."""
    return torch.special.ndtri((torch.arange(2**16, dtype=torch.float64) + 0.5) / 2**16).numpy()


@lru_cache(maxsize=4)
def _signed_normals(mean: float, deviation: float) -> np.ndarray:
    """Whole normal numbers: uint16 (65536,), each a byte to add and a byte to subtract.

    To look 16 random bits up here takes a fifth of the time of drawing a normal number.
    """
    values = np.clip(np.rint(_normals() * deviation + mean), -255, 255)
    signed = np.stack([np.maximum(values, 0), np.maximum(-values, 0)], axis=-1)
    return signed.astype(np.uint8).view(np.uint16)[:, 0]


@rule("GaussianBlur")
def _gaussian_blur(augmenter):
    sigma = drawer(augmenter.sigma)

    def draft(rng, size):
        s = float(sigma(rng))
        kernel = max(5, int((3.3 if s < 3 else 2.9 if s < 5 else 2.6) * s)) // 2 * 2 + 1
        kernel = min(kernel, 2 * int(INVISIBLE_REACH * s) + 1)
        return [GaussianBlur(kernel, s)] if s > INVISIBLE_SIGMA else []

    return draft


@rule("MotionBlur")
def _motion_blur(augmenter):
    generator = augmenter.matrix
    if constant(generator.order) not in (None, 1) and generator.order != 1:
        return None
    size_of, angle, direction = map(drawer, (generator.k, generator.angle, generator.direction))

    def draft(rng, size):
        k = int(size_of(rng)) // 2 * 2 + 1
        return [Filter(motion_kernel(k, angle(rng), direction(rng)))]

    return draft


# Geometry


def _linear_on_black(augmenter: Any) -> bool:
    """Whether an Affine looks up bilinearly, keeps the size and is black outside."""
    return (
        constant(augmenter.order) == 1
        and constant(augmenter.mode) == "constant"
        and constant(augmenter.cval) == 0
        and not augmenter.fit_output
    )


@rule("Affine", "Rotate", "TranslateX", "TranslateY", "ScaleX", "ScaleY")
def _affine(augmenter):
    straight = augmenter._shear_param_type == "single-number" and constant(augmenter.shear) == 0
    if not (straight and _linear_on_black(augmenter)):
        return None
    scale, degrees = _pair(augmenter.scale), drawer(augmenter.rotate)
    shift, unit = _pair(augmenter.translate[:2]), augmenter.translate[2]

    def draft(rng, size):
        factors = np.array(scale(rng), np.float64)
        inverse = rotation(degrees(rng), size)  # out to in
        centre = np.full(2, (size - 1) / 2)
        moved = np.array(shift(rng), np.float64) * (size if unit == "percent" else 1)
        inverse[:2, :2] = inverse[:2, :2] / factors[:, None]
        inverse[:2, 2] = centre - inverse[:2, :2] @ (centre + moved)
        return [Warp((inverse,))]

    return draft


def _pair(parameters: Any) -> Callable[[np.random.Generator], tuple[float, float]]:
    """Draws x and y: apart where imgaug has two parameters, else one value for both."""
    pair = parameters if isinstance(parameters, tuple) else (parameters, None)
    if pair[1] is None:
        both = drawer(pair[0])
        return lambda rng: (both(rng),) * 2
    x, y = map(drawer, pair)
    return lambda rng: (x(rng), y(rng))


@rule("PerspectiveTransform")
def _perspective(augmenter):
    plain = constant(augmenter.cval) == 0 and constant(augmenter.mode) in (0, "constant")
    if not plain or not augmenter.keep_size or augmenter.fit_output:
        return None
    deviation = drawer(augmenter.jitter.scale)

    def draft(rng, size):
        jitter = rng.normal(0, deviation(rng), (4, 2))
        return [Warp((perspective(jitter, size),))]

    return draft


def perspective(jitter: np.ndarray, size: int) -> np.ndarray:
    """The homography, out to in, that spreads a quadrangle over the square it lies in.

    Args:
        jitter: (4, 2), how far each corner (top left, top right, bottom right, bottom left) moves
            inwards along x and y, relative to the square's side; only the amount counts.
        size: the square's side in pixels.
    """
    inward = np.mod(np.abs(jitter), 1)
    corners = _in_order((np.abs(FAR - inward) * size).tolist())
    sides = [math.dist(corners[i - 1], corners[i]) for i in (1, 2, 3, 0)]
    width, height = (int(max(sides[i], sides[i + 2], 2)) for i in (0, 1))
    # imgaug warps to (width, height), then resizes to (size, size) about the pixels' corners.
    x, y = width / size, height / size
    to_flat = np.array([[x, 0, x / 2 - 0.5], [0, y, y / 2 - 0.5], [0, 0, 1]])
    flat = FAR * np.float32([width, height])
    return cv2.getPerspectiveTransform(flat, np.float32(corners)) @ to_flat


def _in_order(points: list[list[float]]) -> list[list[float]]:
    """Four points as top left, top right, bottom right, bottom left, by imgaug's measure."""
    top_left, *_, bottom_right = sorted(points, key=sum)
    top_right, *_, bottom_left = sorted(points, key=lambda point: point[1] - point[0])
    return [top_left, top_right, bottom_right, bottom_left]
