"""Load any checkpoint of these networks: ours, the originals', torchvision's video ResNets."""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from network.errors import NetworkError

logger = logging.getLogger(__name__)


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


def load_weights(net: nn.Module, source: str | PathLike | Mapping[str, Tensor]) -> LoadReport:
    """Copy every tensor of a checkpoint that fits into `net`, in place.

    Names may carry the `module.` of DataParallel, or be torchvision's (r3d_18, r2plus1d_18). A
    tensor of another shape is skipped: a classifier for other classes keeps its fresh weights.

    Args:
        net: the network, on any device, of any dtype.
        source: a state dict, a dict that has one under "state_dict", or a file with either.

    Raises:
        NetworkError: the file cannot be read as a checkpoint, or fewer than half of the network's
            tensors have a match in it.
    """
    where = "the given state dict" if isinstance(source, Mapping) else str(source)
    given = source if isinstance(source, Mapping) else _read(source)
    given = given.get("state_dict", given) if isinstance(given, Mapping) else given
    if not isinstance(given, Mapping) or not any(torch.is_tensor(v) for v in given.values()):
        raise NetworkError(f"{where} holds no named tensors: it is no checkpoint of a network")

    own = net.state_dict()
    fitting: dict[str, Tensor] = {}
    skipped: list[tuple[str, str]] = []
    for name, value in given.items():
        target = _own_name(name, own)
        reason = _why_not(value, own.get(target))
        if reason:
            skipped.append((name, reason))
        else:
            fitting[target] = value
    if 2 * len(fitting) < len(own):
        raise NetworkError(
            f"{where} fits {len(fitting)} of the network's {len(own)} tensors, fewer than half: "
            "it is a checkpoint of another network"
        )
    for name, value in fitting.items():
        own[name].copy_(value)
    missing = tuple(name for name in own if name not in fitting)
    report = LoadReport(tuple(fitting), tuple(skipped), missing)
    logger.info("weights from %s:\n%s", where, report)
    return report


def _read(path: str | PathLike) -> object:
    if not Path(path).is_file():
        raise NetworkError(f"{path}: there is no such file")
    damaged = zipfile.is_zipfile(path) and _damaged_member(path)
    if damaged:  # torch.load itself does not look at the checksums
        raise NetworkError(f"{path}: the file is damaged (checksum of {damaged})")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as trouble:  # unpickling what is no pickle raises whatever it stumbles over
        reason = str(trouble).partition("\n")[0] or type(trouble).__name__
        raise NetworkError(f"{path}: cannot be read as a checkpoint ({reason})") from None


def _damaged_member(path: str | PathLike) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip()
    except (OSError, zipfile.BadZipFile, NotImplementedError):
        return "its table of contents"


def _own_name(name: str, own: Mapping[str, Tensor]) -> str:
    """The network's name for a checkpoint's: without `module.`, and torchvision's one-conv name."""
    name = name.removeprefix("module.")
    if name not in own:  # torchvision: layer1.0.conv1.0.weight, ours: layer1.0.conv1.0.0.weight
        name = re.sub(r"(\.conv[12]\.0)\.weight$", r"\1.0.weight", name)
    return name


def _why_not(value: object, target: Tensor | None) -> str:
    """Why a value cannot become the target's, or an empty string."""
    if target is None:
        return "the network has no such tensor"
    if not torch.is_tensor(value):
        return f"is no tensor but {type(value).__name__}"
    if value.shape != target.shape:
        return f"has shape {tuple(value.shape)}, the network's has {tuple(target.shape)}"
    return ""
