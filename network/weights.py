"""Load weights into a network, from checkpoints of this project or of the originals."""

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

#: The first digits of the SHA-256 of torchvision's r2plus1d_18 file, as in the file's name.
TORCHVISION_R2PLUS1D = "91a641e6"


@dataclass(frozen=True)
class LoadReport:
    """What `load_weights` did with each tensor; `str` gives a table.

    Attributes:
        loaded: names in the network whose values came from the checkpoint.
        skipped: (name in the checkpoint, reason) of each tensor that was not used.
        missing: names in the network that kept their values.
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
    """Copy the tensors of a checkpoint that have the network's names and shapes into `net`.

    Names may start with the `module.` that DataParallel adds. torchvision's names are accepted if
    the network has no pooling after its stem. Tensors of another shape are skipped, such as those
    of a classifier for other classes.

    Args:
        net: the network, on any device, of any dtype; changed in place.
        source: a state dict, a dict with a state dict under "state_dict", or a file with either.
        strict: whether the checkpoint must have exactly the network's tensors.

    Raises:
        NetworkError: the file cannot be read as a checkpoint; a tensor that fits by name and shape
            is not dense, real and finite; the checkpoint has fewer than half of the network's
            tensors (with `strict`: not exactly all); or it is the checkpoint of a
            torchvision network without pooling after its stem, and `net` has such pooling. The
            network is not changed then.
    """
    where = "the given state dict" if isinstance(source, Mapping) else str(source)
    given = source if isinstance(source, Mapping) else read_checkpoint_file(source)
    bare = isinstance(given, Mapping) and "state_dict" not in given
    if isinstance(given, Mapping) and not bare:
        given = given["state_dict"]
    if not isinstance(given, Mapping) or not any(torch.is_tensor(v) for v in given.values()):
        raise NetworkError(f"{where} holds no named tensors: it is not a checkpoint of a network")
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
    copy_tensors(net, fitting)
    if path is not None:
        logger.info("weights from %s:\n%s", where, report)
    return report


@torch.no_grad()
def copy_tensors(net: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors, by name, into the parameters and buffers of a network.

    If there are tensors of an SRTG but no `alpha` for it, its `alpha` becomes 1. It then computes
    what the published block does, for which the tensors were trained.
    """
    own = net.state_dict()
    for name, value in tensors.items():
        own[name].copy_(value)
    for name, parameter in net.named_parameters():
        block, _, last = name.rpartition(".")
        if last == "alpha" and name not in tensors and f"{block}.lstm.weight_ih_l0" in tensors:
            parameter.fill_(1.0)


def _match(
    where: str, given: Mapping[str, object], own: Mapping[str, Tensor]
) -> tuple[LoadReport, dict[str, Tensor]]:
    """Return the report, and the tensors to load by their names in the network.

    Raises:
        NetworkError: a tensor has a name and shape of the network's but cannot be used, which means
            that the checkpoint is damaged.
    """
    fitting: dict[str, Tensor] = {}
    skipped: list[tuple[str, str]] = []
    for name, value in given.items():
        target = _own_name(name, own)
        reason = misfit(value, own.get(target))
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
    """Say why a strict load fails, with the first names of each kind."""
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
    """Return the network's name for a tensor in a checkpoint, which may be torchvision's."""
    name = name.removeprefix("module.")
    if name not in own:  # torchvision: layer1.0.conv1.0.weight, ours: layer1.0.conv1.0.0.weight
        other = re.sub(r"(\.conv[12]\.0)\.weight$", r"\1.0.weight", name)
        name = other if other in own else name
    return name


def _is_torchvisions(
    given: Mapping[str, object], own: Mapping[str, Tensor], bare: bool, path: Path | None
) -> bool:
    """Return whether weights are those of torchvision's r3d_18 or r2plus1d_18.

    In r3d_18 the names of the convolutions differ. In r2plus1d_18 all names and shapes are the same
    as ours and the originals'. They are told apart by the list of modules that torch saves in a
    state dict or, if a file has no such list, by the checksum of the file. The originals' files are
    not bare state dicts; their early versions had no module for the pooling either.
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


def misfit(value: object, target: Tensor | None) -> str:
    """Return why a value cannot go into the network's tensor `target`, or an empty string."""
    if target is None:
        return "is not in the network"
    if torch.is_tensor(value) and not value.is_nested and value.shape != target.shape:
        return f"has shape {tuple(value.shape)}, the network's has {tuple(target.shape)}"
    return ""
