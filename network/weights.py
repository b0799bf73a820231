"""Load any checkpoint of these networks: ours, and the originals'."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from network.checkpoint_file import read_checkpoint_file, tensor_problem
from network.network_error import NetworkError

logger = logging.getLogger(__name__)

#: How the SHA-256 of torchvision's r2plus1d_18 file begins; its name says so.
TORCHVISION_R2PLUS1D = "91a641e6"


@dataclass(frozen=True)
class LoadReport:
    """What `load_weights` did, by tensor name; as a string, a table.

    loaded: names in the network that took their value from the checkpoint.
    skipped: (name in the checkpoint, reason) of what was left out.
    missing: names in the network that kept their value.
    """

    loaded: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        rows = [("loaded", f"{len(self.loaded)} tensors", "")]
        rows += [("skipped", name, reason) for name, reason in self.skipped]
        rows += [("missing", name, "keeps its initial value") for name in self.missing]
        width = max(len(name) for _, name, _ in rows)
        return "\n".join(f"{what:8} {name:{width}}  {why}".rstrip() for what, name, why in rows)


def load_weights(
    net: nn.Module, source: str | PathLike | Mapping[str, Tensor], *, strict: bool = False
) -> LoadReport:
    """Copy every tensor of a checkpoint that fits into `net`, in place.

    Names may carry the `module.` of DataParallel, or be torchvision's where the network pools as
    little as torchvision's do. A tensor of another shape is skipped: a classifier for other classes
    keeps its fresh weights.

    Args:
        net: the network, on any device, of any dtype.
        source: a state dict, a dict that has one under "state_dict", or a file with either.
        strict: accept nothing but a checkpoint that holds exactly the network's tensors.

    Raises:
        NetworkError: the file cannot be read as a checkpoint; a tensor that fits by name and shape
            is not dense, real and finite; fewer than half of the network's tensors have a match
            (with `strict`: not all of them); or the weights are of torchvision's networks, which
            have no pooling behind their stem. The network keeps its weights then.
    """
    where = "the given state dict" if isinstance(source, Mapping) else str(source)
    given = source if isinstance(source, Mapping) else read_checkpoint_file(source)
    bare = isinstance(given, Mapping) and "state_dict" not in given
    if isinstance(given, Mapping) and not bare:
        given = given["state_dict"]
    if not isinstance(given, Mapping) or not any(torch.is_tensor(v) for v in given.values()):
        raise NetworkError(f"{where} holds no named tensors: it is no checkpoint of a network")
    if not all(isinstance(name, str) and name.isprintable() for name in given):
        raise NetworkError(f"{where} holds tensors whose names are not plain text")
    own = net.state_dict()
    path = None if isinstance(source, Mapping) else Path(source)
    if isinstance(getattr(net, "pool", None), nn.MaxPool3d) and _is_torchvisions(
        given, own, bare, path
    ):
        raise NetworkError(
            f"{where} is of torchvision's r3d_18 or r2plus1d_18, which do not pool behind their "
            "stem, while this network does: with these weights it would compute something else"
        )
    report, fitting = _match(where, given, own)
    if strict and (report.missing or report.skipped):
        raise NetworkError(f"{where} does not fit the network: {_misfits(report, len(own))}")
    if 2 * len(fitting) < len(own):
        raise NetworkError(
            f"{where} fits {len(fitting)} of the network's {len(own)} tensors, fewer than half: "
            "it is a checkpoint of another network"
        )
    with torch.no_grad():
        for name, value in fitting.items():
            own[name].copy_(value)
    logger.info("weights from %s:\n%s", where, report)
    return report


def _match(
    where: str, given: Mapping[str, object], own: Mapping[str, Tensor]
) -> tuple[LoadReport, dict[str, Tensor]]:
    """What fits of a given state dict, by the network's names, and the report on it.

    Raises NetworkError for a tensor that fits by name and shape and is of no use, as only damage
    makes one.
    """
    fitting: dict[str, Tensor] = {}
    skipped: list[tuple[str, str]] = []
    for name, value in given.items():
        target = _own_name(name, own)
        reason = _why_not(value, own.get(target))
        if reason:
            skipped.append((name, reason))
            continue
        problem = tensor_problem(target, value, own[target])
        if not problem and target in fitting:
            problem = "is there twice, with and without `module.` before its name"
        if problem:
            raise NetworkError(f"{where}: {name} {problem}; use another checkpoint")
        fitting[target] = value
    missing = tuple(name for name in own if name not in fitting)
    return LoadReport(tuple(fitting), tuple(skipped), missing), fitting


def _misfits(report: LoadReport, total: int) -> str:
    """What a strict load found wrong, with the first names of each kind."""
    said = []
    if report.missing:
        more = ", ..." if len(report.missing) > 3 else ""
        names = ", ".join(report.missing[:3])
        said.append(f"{len(report.missing)} of {total} tensors are missing ({names}{more})")
    said += [f"{name} {reason}" for name, reason in report.skipped[:1]]
    if len(report.skipped) > 1:
        said.append(f"and {len(report.skipped) - 1} more do not fit")
    return "; ".join(said)


def _own_name(name: str, own: Mapping[str, Tensor]) -> str:
    """The network's name for a checkpoint's: without `module.`, and torchvision's one-conv name."""
    name = name.removeprefix("module.")
    if name not in own:  # torchvision: layer1.0.conv1.0.weight, ours: layer1.0.conv1.0.0.weight
        other = re.sub(r"(\.conv[12]\.0)\.weight$", r"\1.0.weight", name)
        name = other if other in own else name
    return name


def _is_torchvisions(
    given: Mapping[str, object], own: Mapping[str, Tensor], bare: bool, path: Path | None
) -> bool:
    """Whether weights are of torchvision's r3d_18 or r2plus1d_18.

    The names of r3d_18's convolutions differ. Those of r2plus1d_18 are the originals' and ours, so
    do all shapes: what differs is the list of modules that `state_dict` leaves with the tensors
    (the originals' files, whose early versions had no module for their pooling, are not bare state
    dicts), or, for a file without that list, its checksum.
    """
    if any(_own_name(name, own) != name.removeprefix("module.") for name in given):
        return True
    if not bare or "stem.4.weight" not in given:
        return False
    modules = getattr(given, "_metadata", None)
    if modules:
        return "stem" in modules and "pool" not in modules
    if path is None or not path.is_file():
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest().startswith(TORCHVISION_R2PLUS1D)


def _why_not(value: object, target: Tensor | None) -> str:
    """Why a value has no place in the network, or an empty string."""
    if target is None:
        return "is not in the network"
    if torch.is_tensor(value) and not value.is_nested and value.shape != target.shape:
        return f"has shape {tuple(value.shape)}, the network's has {tuple(target.shape)}"
    return ""
