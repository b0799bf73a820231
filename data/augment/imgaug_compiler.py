"""Compile an imgaug pipeline into a function that draws one clip's operations.

There is one rule for each known class of augmenter, found by the name of the class. A rule takes
the augmenter and returns a `DrawOperations` function, or None if the augmenter has settings that
the rule does not cover. An augmenter without a rule is run by imgaug itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import cv2
import numpy as np
import torch

from data.augment.imgaug_parameters import constant_value, make_sampler
from data.augment.operations import (
    LUMA,
    TRUNCATE,
    ColourMatrix,
    GaussianBlur,
    HueSaturation,
    KernelFilter,
    LookupTable,
    Noise,
    Operation,
    RunImgaug,
    Warp,
    motion_kernel,
    rotation,
)

#: (rng, size) -> the operations of one clip of `size` x `size` pixels, in order.
DrawOperations = Callable[[np.random.Generator, int], list[Operation]]
Rule = Callable[[Any], "DrawOperations | None"]

RULES: dict[str, Rule] = {}
INVISIBLE_SIGMA = 0.25  # pixels; a Gaussian blur that is no wider changes no pixel value
INVISIBLE_REACH = 4.85  # sigmas from the centre, where a Gaussian has fallen to 2 ** -17
CORNERS = np.float32([[0, 0], [1, 0], [1, 1], [0, 1]])  # of a square, clockwise


def compile_pipeline(augmenter: Any) -> DrawOperations:
    """Return the function that draws the operations of an imgaug augmenter."""
    rule = RULES.get(type(augmenter).__name__)
    draw = rule(augmenter) if rule else None
    return draw or _run_by_imgaug(augmenter)


def _run_by_imgaug(augmenter: Any) -> DrawOperations:
    def draw(rng, size):
        augmenter.seed_(entropy=int(rng.integers(2**31)))
        return [RunImgaug(augmenter.to_deterministic())]

    return draw


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule for the imgaug classes of these names."""

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

    def draw(rng, size):
        order = rng.permutation(len(children)) if augmenter.random_order else range(len(children))
        return [operation for i in order for operation in children[i](rng, size)]

    return draw


@rule("Sometimes")
def _sometimes(augmenter):
    happens = make_sampler(augmenter.p)
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
        "stochastic": lambda rng: make_sampler(augmenter.n)(rng),
    }[augmenter.n_mode]

    def draw(rng, size):
        chosen = rng.permutation(len(children))[: max(0, int(count(rng)))]
        if not augmenter.random_order:
            chosen = np.sort(chosen)
        return [operation for i in chosen for operation in children[i](rng, size)]

    return draw


# Colour


def _per_channel(augmenter: Any, parameter: Any) -> Callable[[np.random.Generator], np.ndarray]:
    """Return a function that draws float (3,): a value for each channel, or one for all three."""
    value, separate = make_sampler(parameter), make_sampler(augmenter.per_channel)

    def draw(rng):
        if separate(rng) > 0.5:
            return np.array([value(rng) for _ in range(3)], np.float64)
        return np.full(3, value(rng), np.float64)

    return draw


def _affine_colour(scale: np.ndarray, offset: np.ndarray) -> ColourMatrix:
    return ColourMatrix(np.column_stack([np.diag(scale), offset]))


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

    def draw(rng, size):
        alpha = alphas(rng)
        return [_affine_colour(alpha, 127 * (1 - alpha) + TRUNCATE)]

    return draw


@rule("GammaContrast")
def _gamma_contrast(augmenter):
    gammas = _per_channel(augmenter, augmenter.params1d[0])

    def draw(rng, size):
        ramp = np.linspace(0, 1, 256)[:, None]
        return [LookupTable((ramp ** gammas(rng) * 255).astype(np.uint8))]

    return draw


@rule("EnhanceColor")
def _enhance_color(augmenter):
    factor = make_sampler(augmenter.factor)

    def draw(rng, size):
        f = factor(rng)
        mix = f * np.eye(3) + (1 - f) * LUMA
        return [ColourMatrix(np.column_stack([mix, np.full(3, TRUNCATE)]))]

    return draw


@rule("EnhanceBrightness")
def _enhance_brightness(augmenter):
    factor = make_sampler(augmenter.factor)
    return lambda rng, size: [_affine_colour(np.full(3, factor(rng)), np.full(3, TRUNCATE))]


@rule("AddToHueAndSaturation", "AddToHue", "AddToSaturation")
def _hue_and_saturation(augmenter):
    if augmenter.from_colorspace != "RGB":
        return None
    shared, separate = augmenter.value, make_sampler(augmenter.per_channel)
    hue, saturation = (
        make_sampler(parameter) if parameter is not None else lambda rng: 0
        for parameter in (augmenter.value_hue or shared, augmenter.value_saturation or shared)
    )

    def draw(rng, size):
        hue_change = hue(rng)
        linked = shared is not None and separate(rng) <= 0.5
        saturation_change = hue_change if linked else saturation(rng)
        return [HueSaturation(int(hue_change / 255 * 180), int(saturation_change))]

    return draw


# Noise and blur


@rule("AdditiveGaussianNoise")
def _gaussian_noise(augmenter):
    if type(augmenter.value).__name__ != "Normal":
        return None
    mean, deviation = make_sampler(augmenter.value.loc), make_sampler(augmenter.value.scale)
    separate = make_sampler(augmenter.per_channel)

    def draw(rng, size):
        channels = 3 if separate(rng) > 0.5 else 1
        table = _signed_normals(float(mean(rng)), float(deviation(rng)))
        drawn = np.frombuffer(rng.bytes(2 * size * size * channels), "<u2")
        pairs = table.take(drawn, mode="clip").view(np.uint8).reshape(size, -1, 2)
        parts = [part.reshape(size, size, channels) for part in cv2.split(pairs)]
        if channels == 1:
            parts = [cv2.cvtColor(part, cv2.COLOR_GRAY2RGB) for part in parts]
        return [Noise(*parts)]

    return draw


@cache
def _normals() -> np.ndarray:
    """Return the standard normal distribution as 2 ** 16 equally likely values, float64."""
    return torch.special.ndtri((torch.arange(2**16, dtype=torch.float64) + 0.5) / 2**16).numpy()


@lru_cache(maxsize=4)
def _signed_normals(mean: float, deviation: float) -> np.ndarray:
    """Return 2 ** 16 equally likely normal values, rounded, as uint16 (65536,).

    Of the two bytes of each value, one is the amount to add and one the amount to subtract. Looking
    up 16 random bits in this table takes a fifth of the time of drawing a normal number.
    """
    values = np.clip(np.rint(_normals() * deviation + mean), -255, 255)
    signed = np.stack([np.maximum(values, 0), np.maximum(-values, 0)], axis=-1)
    return signed.astype(np.uint8).view(np.uint16)[:, 0]


@rule("GaussianBlur")
def _gaussian_blur(augmenter):
    sigma = make_sampler(augmenter.sigma)

    def draw(rng, size):
        s = float(sigma(rng))
        kernel = max(5, int((3.3 if s < 3 else 2.9 if s < 5 else 2.6) * s)) // 2 * 2 + 1
        kernel = min(kernel, 2 * int(INVISIBLE_REACH * s) + 1)
        return [GaussianBlur(kernel, s)] if s > INVISIBLE_SIGMA else []

    return draw


@rule("MotionBlur")
def _motion_blur(augmenter):
    generator = augmenter.matrix
    if constant_value(generator.order) not in (None, 1) and generator.order != 1:
        return None
    size_of, angle, direction = map(
        make_sampler, (generator.k, generator.angle, generator.direction)
    )

    def draw(rng, size):
        k = int(size_of(rng)) // 2 * 2 + 1
        return [KernelFilter(motion_kernel(k, angle(rng), direction(rng)))]

    return draw


# Geometry


def _linear_on_black(augmenter: Any) -> bool:
    """Return whether an Affine interpolates bilinearly, keeps the size and fills with black."""
    return (
        constant_value(augmenter.order) == 1
        and constant_value(augmenter.mode) == "constant"
        and constant_value(augmenter.cval) == 0
        and not augmenter.fit_output
    )


@rule("Affine", "Rotate", "TranslateX", "TranslateY", "ScaleX", "ScaleY")
def _affine(augmenter):
    straight = (
        augmenter._shear_param_type == "single-number" and constant_value(augmenter.shear) == 0
    )
    if not (straight and _linear_on_black(augmenter)):
        return None
    scale, degrees = _pair(augmenter.scale), make_sampler(augmenter.rotate)
    shift, unit = _pair(augmenter.translate[:2]), augmenter.translate[2]

    def draw(rng, size):
        factors = np.array(scale(rng), np.float64)
        inverse = rotation(degrees(rng), size)  # from output pixels to input pixels
        centre = np.full(2, (size - 1) / 2)
        moved = np.array(shift(rng), np.float64) * (size if unit == "percent" else 1)
        inverse[:2, :2] = inverse[:2, :2] / factors[:, None]
        inverse[:2, 2] = centre - inverse[:2, :2] @ (centre + moved)
        return [Warp((inverse,))]

    return draw


def _pair(parameters: Any) -> Callable[[np.random.Generator], tuple[float, float]]:
    """Return a function that draws x and y: one value for both if imgaug has one parameter."""
    pair = parameters if isinstance(parameters, tuple) else (parameters, None)
    if pair[1] is None:
        both = make_sampler(pair[0])
        return lambda rng: (both(rng),) * 2
    x, y = map(make_sampler, pair)
    return lambda rng: (x(rng), y(rng))


@rule("PerspectiveTransform")
def _perspective(augmenter):
    plain = constant_value(augmenter.cval) == 0 and constant_value(augmenter.mode) in (
        0,
        "constant",
    )
    if not plain or not augmenter.keep_size or augmenter.fit_output:
        return None
    deviation = make_sampler(augmenter.jitter.scale)

    def draw(rng, size):
        jitter = rng.normal(0, deviation(rng), (4, 2))
        return [Warp((perspective(jitter, size),))]

    return draw


def perspective(jitter: np.ndarray, size: int) -> np.ndarray:
    """Return the homography, from output to input pixels, that stretches a quadrangle to a square.

    Args:
        jitter: (4, 2), how far each corner of the square (top left, top right, bottom right, bottom
            left) moves inwards along x and y, as a fraction of the side. Signs are ignored.
        size: the square's side in pixels.
    """
    inward = np.mod(np.abs(jitter), 1)
    corners = _in_order((np.abs(CORNERS - inward) * size).tolist())
    sides = [math.dist(corners[i - 1], corners[i]) for i in (1, 2, 3, 0)]
    width, height = (int(max(sides[i], sides[i + 2], 2)) for i in (0, 1))
    # imgaug warps to (width, height), then resizes to (size, size); resizing maps pixel corners,
    # not pixel centres, hence the 0.5.
    x, y = width / size, height / size
    to_flat = np.array([[x, 0, x / 2 - 0.5], [0, y, y / 2 - 0.5], [0, 0, 1]])
    flat = CORNERS * np.float32([width, height])
    return cv2.getPerspectiveTransform(flat, np.float32(corners)) @ to_flat


def _in_order(points: list[list[float]]) -> list[list[float]]:
    """Sort four points as top left, top right, bottom right, bottom left, the way imgaug does."""
    top_left, *_, bottom_right = sorted(points, key=sum)
    top_right, *_, bottom_left = sorted(points, key=lambda point: point[1] - point[0])
    return [top_left, top_right, bottom_right, bottom_left]
