"""How other projects name their tensors, and how their networks differ from ours.

A layout renames the tensors of a project to the names of `network.resnet3d`, and has the options of
`build_network` with which that network computes what the project's own code does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from network.variants import VARIANTS

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """One project's names of tensors.

    Attributes:
        name: of the layout.
        matches: tells by names and shapes whether tensors have this layout.
        names: (pattern, replacement) of whole names; the first pattern that matches is applied.
        options: of `build_network`.
        networks: our networks that can have this layout.
    """

    name: str
    matches: Callable[[Tensors], bool]
    names: tuple[tuple[str, str], ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    networks: tuple[str, ...] = ()

    def rename(self, name: str) -> str:
        """Return our name of a tensor; a name that no pattern matches is returned as it is."""
        for pattern, replacement in self.names:
            ours, count = re.subn(rf"^(?:{pattern})$", replacement, name)
            if count:
                return ours
        return name


_BLOCK = r"(layer\d\.\d+)"
_VALUE = r"(weight|bias|running_mean|running_var|num_batches_tracked)"


def _kernel(tensors: Tensors, name: str) -> tuple[int, ...]:
    """Return the kernel size of the convolution with this weight; () if there is none."""
    value = tensors.get(name)
    return tuple(value.shape[2:]) if value is not None and value.ndim == 5 else ()


def _is_csn(tensors: Tensors, name: str) -> bool:
    """Return whether the convolution with this weight is depthwise."""
    value = tensors.get(name)
    return value is not None and value.ndim == 5 and value.shape[1] == 1


def _is_ig65m(tensors: Tensors) -> bool:
    """Return whether the second convolution of the first block of layer2 has its own width."""
    value = tensors.get("layer2.0.conv2.0.0.weight")
    return "layer1.0.conv3.0.weight" not in tensors and value is not None and len(value) == 288


_CSN = {"expansion": 4, "pool": "space"}
_RESNETS = tuple(name for name in VARIANTS if re.fullmatch(r"r3d_\d+", name))
_IR, _IP = (
    tuple(name for name in VARIANTS if name.startswith(kind)) for kind in ("ir_csn", "ip_csn")
)
_MMACTION = (
    (rf"conv1\.conv\.{_VALUE}", r"stem.0.\1"),
    (rf"conv1\.bn\.{_VALUE}", r"stem.1.\1"),
    (rf"{_BLOCK}\.conv(1|3)\.conv\.{_VALUE}", r"\1.conv\2.0.\3"),
    (rf"{_BLOCK}\.conv(1|3)\.bn\.{_VALUE}", r"\1.conv\2.1.\3"),
    (rf"{_BLOCK}\.downsample\.conv\.{_VALUE}", r"\1.downsample.0.\2"),
    (rf"{_BLOCK}\.downsample\.bn\.{_VALUE}", r"\1.downsample.1.\2"),
    (r"cls_head\.fc_cls\.(weight|bias)", r"fc.\1"),
)

#: The layouts of other projects. Prefixes of whole networks (`module.`, `backbone.`) are removed
#: before a layout is looked for.
LAYOUTS = (
    Layout(
        "torchvision",
        lambda tensors: (
            _kernel(tensors, "stem.0.weight") == (3, 7, 7)
            and _kernel(tensors, "layer1.0.conv1.0.weight") == (3, 3, 3)
            and _kernel(tensors, "layer2.0.conv1.0.weight") == (3, 3, 3)
        ),
        ((rf"{_BLOCK}\.conv([12])\.0\.weight", r"\1.conv\2.0.0.weight"),),
        {"pool": "none"},
        ("r3d_18",),
    ),
    Layout(
        "ig65m",
        _is_ig65m,
        options={"pool": "none", "middle": "conv", "norm_eps": 1e-3, "norm_momentum": 0.9},
        networks=("r2plus1d_34",),
    ),
    Layout(
        "pytorchvideo",
        lambda tensors: _is_csn(tensors, "blocks.1.res_blocks.0.branch2.conv_b.weight"),
        (
            (rf"blocks\.0\.conv\.{_VALUE}", r"stem.0.\1"),
            (rf"blocks\.0\.norm\.{_VALUE}", r"stem.1.\1"),
            *(
                (
                    rf"blocks\.([1-4])\.res_blocks\.(\d+)\.{theirs}\.{_VALUE}",
                    rf"layer\1.\2.{ours}.\3",
                )
                for theirs, ours in (
                    ("branch1_conv", "downsample.0"),
                    ("branch1_norm", "downsample.1"),
                    (r"branch2\.conv_a", "conv1.0"),
                    (r"branch2\.conv_b", "conv2.0.0"),
                    (r"branch2\.conv_c", "conv3.0"),
                    (r"branch2\.norm_a", "conv1.1"),
                    (r"branch2\.norm_b", "conv2.1"),
                    (r"branch2\.norm_c", "conv3.1"),
                )
            ),
            (r"blocks\.5\.proj\.(weight|bias)", r"fc.\1"),
        ),
        _CSN,
        _IR,
    ),
    Layout(
        "mmaction2",
        lambda tensors: _is_csn(tensors, "layer1.0.conv2.0.conv.weight"),
        (
            *_MMACTION,
            (rf"{_BLOCK}\.conv2\.0\.conv\.{_VALUE}", r"\1.conv2.0.0.\2"),
            (rf"{_BLOCK}\.conv2\.0\.bn\.{_VALUE}", r"\1.conv2.1.\2"),
        ),
        {**_CSN, "norm_eps": 1e-3},
        _IR,
    ),
    Layout(
        "mmaction2",
        lambda tensors: _is_csn(tensors, "layer1.0.conv2.1.conv.weight"),
        (
            *_MMACTION,
            (rf"{_BLOCK}\.conv2\.0\.conv\.{_VALUE}", r"\1.conv2.0.0.\2"),
            (rf"{_BLOCK}\.conv2\.0\.bn\.{_VALUE}", r"\1.conv2.0.1.\2"),
            (rf"{_BLOCK}\.conv2\.1\.conv\.{_VALUE}", r"\1.conv2.0.3.0.\2"),
            (rf"{_BLOCK}\.conv2\.1\.bn\.{_VALUE}", r"\1.conv2.1.\2"),
        ),
        {**_CSN, "norm_eps": 1e-3, "middle_relu": False},
        _IP,
    ),
    Layout(
        "3D-ResNets-PyTorch",
        lambda tensors: (
            _kernel(tensors, "conv1.weight") == (7, 7, 7)
            and _kernel(tensors, "layer1.0.conv3.weight") == ()
        ),
        (
            (r"conv1\.weight", "stem.0.weight"),
            (rf"bn1\.{_VALUE}", r"stem.1.\1"),
            (rf"{_BLOCK}\.conv([12])\.weight", r"\1.conv\2.0.0.weight"),
            (rf"{_BLOCK}\.bn([12])\.{_VALUE}", r"\1.conv\2.1.\3"),
        ),
        {"stem_frames": 7},
        _RESNETS,
    ),
    Layout(
        "3D-ResNets-PyTorch",
        lambda tensors: (
            _kernel(tensors, "conv1.weight") == (7, 7, 7)
            and _kernel(tensors, "layer1.0.conv2.weight") == (3, 3, 3)
        ),
        (
            (r"conv1\.weight", "stem.0.weight"),
            (rf"bn1\.{_VALUE}", r"stem.1.\1"),
            (rf"{_BLOCK}\.conv2\.weight", r"\1.conv2.0.0.weight"),
            (rf"{_BLOCK}\.conv([13])\.weight", r"\1.conv\2.0.weight"),
            (rf"{_BLOCK}\.bn([123])\.{_VALUE}", r"\1.conv\2.1.\3"),
        ),
        {"stem_frames": 7, "expansion": 4},
        _RESNETS,
    ),
)
