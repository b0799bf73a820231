"""Build the network of some weights and put the weights into it."""

from __future__ import annotations

import logging
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn

from network.build import build_network
from network.checkpoint_file import tensor_problem
from network.classifier import classifier_name
from network.network_error import NetworkError
from network.pretrained.opening import PretrainedWeights, open_pretrained
from network.pretrained.recognition import said
from network.srtg import SRTG
from network.weights import LoadReport, copy_tensors, misfit

logger = logging.getLogger(__name__)

#: Options that say what a network computes with given weights: the weights decide about them.
ARITHMETIC = ("expansion", "pool", "stem_frames", "middle", "middle_relu", "norm_eps")


def load_pretrained(
    source: str | PathLike,
    num_classes: int | None = None,
    network: str | None = None,
    *,
    partial: bool = False,
    **options: Any,
) -> nn.Module:
    """Return a network with pretrained weights, which computes what the weights' own code does.

    Its attribute `input_profile` says how clips must look (`network.input_profile`), and `classes`
    has the names of the classes where they are known, else it is empty.

    Args:
        source: one of `list_pretrained()`, which is downloaded into torch.hub's folder unless it
            is there; or a file: a checkpoint of this project or the originals, of torchvision,
            ig65m-pytorch, pytorchvideo's or mmaction2's CSNs, or 3D-ResNets-PyTorch. Its layout is
            recognised by its tensors.
        num_classes: number of classes. The weights' own classifier is kept if it has this number,
            or if it is None; else the classifier is fresh.
        network: name of another network than the weights' own. If it is their name after `srtg_`,
            SRTG blocks are added that change nothing at first, bit for bit (`srtg_alpha=0`).
        partial: load the tensors that fit, even if others do not.
        options: of `build_network`. Those that decide what is computed follow from the weights.

    Raises:
        NetworkError: the source is unknown or cannot be had; it holds weights of another network; a
            tensor of the backbone does not fit; or an option contradicts the weights.

    Example:
        >>> net = load_pretrained("torchvision:r3d_18", num_classes=10)
        >>> net.input_profile.mean
        (0.43216, 0.394666, 0.37645)
    """
    weights = open_pretrained(source)
    net = build_for(weights, num_classes, network, partial=partial, **options)
    report = place_weights(net, weights, partial=partial)
    logger.info("weights from %s:\n%s", source, report)
    return net


def build_for(
    weights: PretrainedWeights,
    num_classes: int | None = None,
    network: str | None = None,
    *,
    partial: bool = False,
    **options: Any,
) -> nn.Module:
    """Build the network that the weights are for, with random weights; see `load_pretrained`."""
    name = (network or weights.network).lower()
    own = options_for(weights, name, partial=partial, **options)
    own_classes = _own_classes(weights)
    if num_classes is None and not own_classes:
        raise NetworkError(f"{weights.source} has no classifier: give the number of classes")
    net = build_network(name, own_classes if num_classes is None else num_classes, **own)
    net.input_profile = weights.profile
    keeps = num_classes in (None, own_classes)
    net.classes = weights.classes if keeps else ()
    return net


def options_for(
    weights: PretrainedWeights, network: str, *, partial: bool = False, **options: Any
) -> dict[str, Any]:
    """Return the options with which `network` computes the same as the weights' own code.

    Raises:
        NetworkError: the weights are of another network, or one of `options` contradicts them.
    """
    own = weights.network
    if network == own or _is_torchvisions_own(weights, network):
        required = dict(weights.options) if network == own else {}
    elif network == f"srtg_{own}" or _is_torchvisions_own(weights, network, "srtg_"):
        required = dict(weights.options) if network == f"srtg_{own}" else {}
        required["srtg_alpha"] = 0.0
    elif partial:
        return _accepted(network, weights.options) | options
    else:
        srtg = "" if own.startswith(("srtg_", "mtnet_")) else f" or srtg_{own}"
        raise NetworkError(
            f"{weights.source} holds weights of {own}, not of {network}: choose the network "
            f"{own}{srtg}"
        )
    for name, value in options.items():
        fixed = name in ARITHMETIC or (name in ("gates", "place") and name in weights.options)
        if fixed and value != required.get(name, value) and not partial:
            raise NetworkError(
                f"{weights.source} needs {name}={required[name]!r}, not {value!r}: with another "
                "value the network would compute something else"
            )
    return required | options


def _is_torchvisions_own(weights: PretrainedWeights, network: str, prefix: str = "") -> bool:
    """Return whether `network` is torchvision's version of the network that the weights are for."""
    theirs = weights.options.get("pool") == "none" and "middle" not in weights.options
    return theirs and network == f"{prefix}torchvision:{weights.network}"


def _accepted(network: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return those of the options that `network` has."""
    accepted = {}
    for name, value in options.items():
        try:
            with torch.device("meta"):
                build_network(network, 2, **{name: value})
        except NetworkError:
            continue
        accepted[name] = value
    return accepted


def _own_classes(weights: PretrainedWeights) -> int:
    """Return the number of classes of the weights' classifier, 0 if they have none."""
    with torch.device("meta"):
        head = classifier_name(build_network(weights.network, 2, **weights.options))
    weight = weights.tensors.get(f"{head}.weight")
    return 0 if weight is None else len(weight)


def place_weights(
    net: nn.Module, weights: PretrainedWeights, *, partial: bool = False
) -> LoadReport:
    """Copy weights into the network that `build_for` returned, and report on each tensor.

    The weights and the network must have the same tensors. There are two exceptions: a classifier
    for other classes, and SRTG blocks that the weights do not have.

    Raises:
        NetworkError: tensors do not fit or are missing, and `partial` is false; or no tensor fits.
            The message names them, and the network is not changed.
    """
    own = net.state_dict()
    theirs = net.network_name.partition("torchvision:")[1]
    given = weights.raw if theirs and weights.raw.keys() & own.keys() else weights.tensors
    head = f"{classifier_name(net)}."
    fitting: dict[str, Tensor] = {}
    skipped: list[tuple[str, str]] = []
    for name, value in given.items():
        reason = misfit(value, own.get(name))
        if reason:
            skipped.append((name, reason))
            continue
        problem = tensor_problem(name, value, own[name])
        if problem:
            raise NetworkError(f"{weights.source}: {name} {problem}; use another file")
        fitting[name] = value
    wrong = [
        f"{name} {reason}"
        for name, reason in skipped
        if name not in own or not name.startswith(head)
    ]
    missing = tuple(name for name in own if name not in fitting)
    started = () if weights.has_srtg else _srtg_names(net)
    optional = (".num_batches_tracked", ".alpha")
    wrong += [
        f"{name} is missing"
        for name in missing
        if name not in given
        and not name.startswith((head, *started))
        and not name.endswith(optional)
    ]
    if wrong and not partial:
        raise NetworkError(
            f"{weights.source} does not fit {net.network_name}: {said(wrong)}; to load only the "
            "tensors that fit: --pretrained-partial True, or partial=True"
        )
    if not fitting:
        raise NetworkError(f"{weights.source}: no tensor fits {net.network_name}")
    copy_tensors(net, fitting)
    return LoadReport(tuple(fitting), tuple(skipped), missing)


def _srtg_names(net: nn.Module) -> tuple[str, ...]:
    """Return the beginnings of the names of the tensors of SRTG blocks."""
    return tuple(f"{name}." for name, module in net.named_modules() if isinstance(module, SRTG))
