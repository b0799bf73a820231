"""Check that 3D convolutions give right numbers at a sane speed on a device, in each number format.

Some releases of PyTorch and cuDNN compute them in bf16 several times more slowly than in fp32, with
many times the memory, or wrongly (github.com/pytorch/pytorch/issues/163539, 166122, 166480).
A network that trains badly for this reason shows no error, so it is better to find out beforehand.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from train.devices import DTYPES, Devices
from train.stopwatch import Stopwatch

LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last_3d}
#: The largest error that rounding explains, relative to the largest value. Measured on a CPU: 2e-6,
#: 1.5e-2 and 1.7e-3. Wrong numbers are off by about 1.
LIMITS = {"fp32": 1e-4, "bf16": 6e-2, "fp16": 8e-3}
TF32_LIMIT = 8e-3  # GPUs round the factors of an fp32 convolution to the 10 bits of TF32 by default
REPEATS = 5
#: (clips, channels, frames, height, width) of the timed convolutions, on a CPU and on a GPU.
TIMED_SHAPES = {False: (2, 16, 4, 28, 28), True: (8, 64, 8, 56, 56)}
SMALL_SHAPE = (2, 16, 4, 14, 14)
INDEX_LIMIT = 2**31  # elements; kernels that count in 32 bits fail above it
SAMPLED = 20  # values of a large result that are computed again

Convolve = Callable[..., Tensor]  # with the arguments of torch.nn.functional.conv3d


class Layer(NamedTuple):
    """One kind of convolution that the networks use."""

    name: str
    kernel: tuple[int, int, int]
    depthwise: bool = False
    stride: int = 1

    def weights(self, channels: int, generator: torch.Generator) -> Tensor:
        """Return random weights, float32 (channels, channels or 1, *kernel)."""
        inputs = 1 if self.depthwise else channels
        return torch.randn(channels, inputs, *self.kernel, generator=generator)

    def options(self, channels: int) -> dict:
        """Return the other arguments of conv3d."""
        return {
            "stride": self.stride,
            "padding": [side // 2 for side in self.kernel],
            "groups": channels if self.depthwise else 1,
        }


LAYERS = (
    Layer("3x3x3", (3, 3, 3)),
    Layer("3x3x3 stride 2", (3, 3, 3), stride=2),
    Layer("1x3x3", (1, 3, 3)),
    Layer("3x1x1", (3, 1, 1)),
    Layer("3x3x3 depthwise", (3, 3, 3), depthwise=True),
)


class Accuracy(NamedTuple):
    """The error of one kind of convolution: its result and both gradients."""

    precision: str  # fp32, bf16 or fp16
    layout: str  # one of LAYOUTS
    layer: str
    error: float  # the largest difference, relative to the largest value; nan if it cannot run
    limit: float
    trouble: str = ""  # why it cannot run

    @property
    def right(self) -> bool:
        """Whether it ran and rounding explains the error."""
        return self.error <= self.limit


class Speed(NamedTuple):
    """The time of one 3x3x3 convolution, forward and backward."""

    precision: str
    layout: str
    time_ms: float
    memory_mib: float  # allocated in addition at the peak; nan on a CPU


def measure_accuracy(devices: Devices, convolve: Convolve = F.conv3d) -> list[Accuracy]:
    """Compare convolutions with the same in float64 on the CPU, in every format and layout."""
    rows = [
        _accuracy(devices, convolve, layer, precision, layout)
        for precision in DTYPES
        for layout in LAYOUTS
        for layer in LAYERS
    ]
    if devices.on_gpu:
        rows += [_large_accuracy(devices, convolve, precision) for precision in ("bf16", "fp16")]
    return rows


def _accuracy(
    devices: Devices, convolve: Convolve, layer: Layer, precision: str, layout: str
) -> Accuracy:
    generator = torch.Generator().manual_seed(1)
    channels = SMALL_SHAPE[1]
    dtype, options = DTYPES[precision], layer.options(channels)
    clips = torch.randn(SMALL_SHAPE, generator=generator).to(dtype)
    weights = layer.weights(channels, generator).to(dtype)
    expected = _with_gradients(F.conv3d, clips.double(), weights.double(), options)
    row = Accuracy(precision, layout, layer.name, float("nan"), _limit(devices, precision))
    try:
        found = _with_gradients(
            convolve,
            devices.to_device(clips).to(memory_format=LAYOUTS[layout]),
            devices.to_device(weights).to(memory_format=LAYOUTS[layout]),
            options,
        )
    except RuntimeError as error:  # this device has no such convolution
        return row._replace(trouble=str(error).splitlines()[0][:120])
    return row._replace(error=max(map(_difference, found, expected)))


def _with_gradients(
    convolve: Convolve, clips: Tensor, weights: Tensor, options: dict
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the convolution's result and its gradients by clips and weights."""
    clips, weights = clips.detach().requires_grad_(), weights.detach().requires_grad_()
    result = convolve(clips, weights, **options)
    # a gradient that every format represents exactly, and that is not the same everywhere
    signs = (torch.arange(result.numel()) * 2_654_435_761 // 2**16 % 2 * 2 - 1).view(result.shape)
    result.backward(signs.to(result))
    return result.detach(), clips.grad, weights.grad


def _difference(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference relative to the largest value; inf if a value is not finite."""
    found = found.double().cpu()
    if not found.isfinite().all():
        return float("inf")
    return float((found - expected).abs().max() / expected.abs().max())


def _limit(devices: Devices, precision: str) -> float:
    tf32 = devices.on_gpu and torch.backends.cudnn.allow_tf32
    return TF32_LIMIT if precision == "fp32" and tf32 else LIMITS[precision]


def _large_accuracy(devices: Devices, convolve: Convolve, precision: str) -> Accuracy:
    """Check some values of the result of a convolution over more than 2^31 elements."""
    name = f"3x3x3, over {INDEX_LIMIT:.1e} elements"
    row = Accuracy(precision, "channels last", name, float("nan"), LIMITS[precision])
    shape = (9, 64, 16, 488, 488)
    generator = torch.Generator().manual_seed(2)
    weights = LAYERS[0].weights(shape[1], generator).to(DTYPES[precision])
    try:
        clips = torch.empty(shape, dtype=DTYPES[precision], device=devices.device)
        clips = clips.to(memory_format=torch.channels_last_3d)
        for clip in clips:  # one at a time, as random numbers are drawn in more memory
            clip.normal_()
        with torch.no_grad():
            result = convolve(clips, devices.to_device(weights), padding=1)
    except RuntimeError as error:
        return row._replace(trouble=str(error).splitlines()[0][:120])
    worst = 0.0
    for number in range(SAMPLED):  # spread over all clips, the last one included
        clip = shape[0] - 1 - number % shape[0]
        t, y, x = (1 + int(torch.randint(side - 2, (), generator=generator)) for side in shape[2:])
        patch = clips[clip, :, t - 1 : t + 2, y - 1 : y + 2, x - 1 : x + 2].double().cpu()
        expected = F.conv3d(patch[None], weights.double()).flatten()
        worst = max(worst, _difference(result[clip, :, t, y, x], expected))
    return row._replace(error=worst)


def measure_speed(devices: Devices, convolve: Convolve = F.conv3d) -> list[Speed]:
    """Time a 3x3x3 convolution, forward and backward, in every format and layout that runs."""
    shape = TIMED_SHAPES[devices.on_gpu]
    weights = LAYERS[0].weights(shape[1], torch.Generator().manual_seed(3))
    rows = []
    for precision, dtype in DTYPES.items():
        for layout, memory_format in LAYOUTS.items():
            clips, kernels = (
                devices.to_device(tensor.to(dtype)).to(memory_format=memory_format)
                for tensor in (torch.ones(shape), weights)
            )
            clips.requires_grad_()
            kernels.requires_grad_()
            try:
                rows.append(_time(devices, convolve, clips, kernels, precision, layout))
            except RuntimeError:  # `measure_accuracy` has said why
                continue
    return rows


def _time(
    devices: Devices,
    convolve: Convolve,
    clips: Tensor,
    weights: Tensor,
    precision: str,
    layout: str,
) -> Speed:
    def once() -> None:
        convolve(clips, weights, padding=1).sum().backward()

    once()  # the first time, cuDNN looks for its kernel
    memory = float("nan")
    if devices.on_gpu:
        torch.accelerator.synchronize()
        torch.accelerator.reset_peak_memory_stats(devices.device)
        before = torch.accelerator.memory_allocated(devices.device)
        once()
        torch.accelerator.synchronize()
        memory = (torch.accelerator.max_memory_allocated(devices.device) - before) / 2**20
    times = []
    for _ in range(REPEATS):
        watch = Stopwatch(devices.device)
        with watch.running():
            once()
        times.append(1e3 * watch.seconds())
    return Speed(precision, layout, statistics.median(times), memory)
