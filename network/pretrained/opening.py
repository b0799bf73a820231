"""Read weights by the name of their source, or from a file of any known layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from network.build_options import BuildOptions
from network.checkpoint_file import read_checkpoint_file, tensor_problem
from network.input_profile import DEFAULT_PROFILE, InputProfile
from network.network_error import NetworkError
from network.pretrained.download import weights_file
from network.pretrained.recognition import differences, recognise, said
from network.pretrained.source import Source
from network.pretrained.sources import (
    LAYOUT_PROFILES,
    find_source,
    is_source_name,
    list_pretrained,
)
from network.registry import find_builder

#: The parts of a checkpoint that can hold its state dict, and prefixes of whole networks.
WRAPPERS = ("state_dict", "model_state")
PREFIXES = ("module.", "backbone.")


@dataclass(frozen=True)
class PretrainedWeights:
    """Weights, and the network that they belong to.

    Attributes:
        source: name of the source, or path of the file.
        network: name of the network.
        options: arguments of `build_network`.
        profile: how clips must look.
        tensors: the tensors, by their names in the network.
        raw: the tensors, by their names in the file without prefixes of whole networks.
        classes: names of the classes, where they are known.
    """

    source: str
    network: str
    options: dict[str, Any]
    profile: InputProfile
    tensors: dict[str, Tensor]
    raw: dict[str, Tensor]
    classes: tuple[str, ...] = ()

    @property
    def has_srtg(self) -> bool:
        """Return whether the weights have SRTG blocks."""
        return self.network.startswith("srtg_")


def open_pretrained(source: str | PathLike, *, averaged: bool = True) -> PretrainedWeights:
    """Read weights, and recognise their network and how its input must look.

    Args:
        source: one of `list_pretrained()`, or a file: a checkpoint of this project, or one whose
            layout is recognised by its tensors.
        averaged: take the averaged weights of a checkpoint of this project that has them.

    Raises:
        NetworkError: the source is unknown, cannot be downloaded, or is not a checkpoint; or the
            tensors are of no known network. The message is one line.
    """
    path, named = find_weights(source)
    return weights_in(source, path, named, read_checkpoint_file(path), averaged=averaged)


def find_weights(source: str | PathLike) -> tuple[Path, Source | None]:
    """Return the file of a source or of a path, downloaded if need be, and the source if known.

    Raises:
        NetworkError: the source is unknown or cannot be downloaded.
    """
    if is_source_name(str(source)) and not Path(source).exists():
        named = find_source(str(source))
        return weights_file(named), named
    path = Path(source)
    return path, _source_of(path.name)


def weights_in(
    source: str | PathLike,
    path: Path,
    named: Source | None,
    content: object,
    *,
    averaged: bool = True,
) -> PretrainedWeights:
    """Return the weights in the content of a file. For arguments and errors see `open_pretrained`.

    Args:
        source: name or path, as it was given.
        path: the file.
        named: the source, if it is known.
        content: of the file.
        averaged: take the averaged weights of a checkpoint of this project that has them.
    """
    try:
        if isinstance(content, Mapping) and _is_ours(content):
            return _open_ours(str(source), content, averaged)
        return _open_other(str(source), content, named)
    except NetworkError as error:
        text = str(error)
        where = str(path) if str(source) == str(path) else f"{source} ({path})"
        raise NetworkError(text if text.startswith(where) else f"{where}: {text}") from None


def _source_of(file_name: str) -> Source | None:
    """Return the source whose file has this name; such names have a hash, or many words."""
    sources = (find_source(name) for name in list_pretrained())
    return next((one for one in sources if one.file_name == file_name), None)


def _is_ours(content: Mapping) -> bool:
    config = content.get("config")
    return (
        isinstance(config, Mapping)
        and isinstance(content.get("state_dict"), Mapping)
        and type(config.get("network")) is str
    )


def _open_ours(source: str, content: Mapping, averaged: bool) -> PretrainedWeights:
    """Return the weights of a checkpoint of this project, whose options say what they are."""
    network, options = recorded_network(content)
    ema = content.get("ema") if averaged else None
    given = ema if isinstance(ema, Mapping) else content["state_dict"]
    tensors = named_tensors({name: v for name, v in given.items() if name != "n_averaged"})
    wrong = differences(network, options, tensors)
    if wrong:
        raise NetworkError(f"its tensors are not those of its network, {network}: {said(wrong)}")
    classes = content.get("classes")
    plain = isinstance(classes, list) and all(type(name) is str for name in classes)
    return PretrainedWeights(
        source, network, options, recorded_profile(content), tensors, tensors,
        tuple(classes) if plain else (),
    )  # fmt: skip


def recorded_network(content: Mapping) -> tuple[str, dict[str, Any]]:
    """Return name and options of the network in a checkpoint of this project.

    Checkpoints of earlier versions have no options but those of the command line.

    Raises:
        NetworkError: there is no such network, or it does not have these options.
    """
    config = content["config"]
    network = config["network"].lower()
    find_builder(network)
    options = content.get("network_options")
    if options is None:
        names = ("gates", "place") if network.startswith("srtg_") else ()
        options = {name: config[name] for name in names if name in config}
    if not isinstance(options, Mapping) or not all(type(name) is str for name in options):
        raise NetworkError("its network_options are not a dictionary")
    BuildOptions.of(options)
    return network, dict(options)


def recorded_profile(content: Mapping) -> InputProfile:
    """Return the input profile of a checkpoint of this project, the default one if it has none.

    Raises:
        NetworkError: it is damaged.
    """
    profile = content.get("input_profile")
    if profile is not None:
        if not isinstance(profile, Mapping):
            raise NetworkError("its input_profile is not a dictionary")
        return InputProfile.from_dict(profile)
    names = {"frames": "clip_length", "crop": "clip_size", "interval": "val_frame_interval"}
    config = content["config"]
    known = {ours: config.get(name) for ours, name in names.items()}
    values = {**DEFAULT_PROFILE.as_dict(), **known}
    return InputProfile.from_dict(values)


def _open_other(source: str, content: object, named: Source | None) -> PretrainedWeights:
    """Return the weights of a checkpoint that another project made, or an original's."""
    wrapped = next(
        (part for part in WRAPPERS if isinstance(content, Mapping) and part in content), None
    )
    state = content[wrapped] if wrapped else content
    if not isinstance(state, Mapping):
        raise NetworkError("holds no named tensors: it is not a checkpoint of a network")
    raw = named_tensors(state)
    found = recognise(raw)
    network, options, layout = found.network, found.options, found.layout
    if network == "r2plus1d_18" and not layout and not wrapped and not _has_pool(state):
        layout, options = "torchvision", {"pool": "none"}
    if named and network != named.network:
        raise NetworkError(f"holds weights of {network}, not of {named.network}")
    if named:
        profile = named.profile
    elif layout == "torchvision" or network.startswith("torchvision:"):
        profile = find_source(f"torchvision:{network.removeprefix('torchvision:')}").profile
    else:
        profile = LAYOUT_PROFILES.get(layout, DEFAULT_PROFILE)
    head = max((len(value) for name, value in raw.items() if _is_head_bias(name)), default=0)
    classes = named.class_names if named and len(named.class_names) == head else ()
    return PretrainedWeights(source, network, options, profile, found.tensors, raw, classes)


def _is_head_bias(name: str) -> bool:
    return name in ("fc.bias", "head.bias", "head.1.bias", "classifier.1.bias")


def _has_pool(state: Mapping) -> bool:
    """Return whether a bare state dict is of one of our networks, which pool behind the stem.

    torchvision's r2plus1d_18 has the same names and shapes, but no pooling. The list of modules
    that torch saves in a state dict tells them apart. A bare state dict without that list is taken
    for torchvision's, because the originals' files and ours are not bare.
    """
    return "pool" in (getattr(state, "_metadata", None) or ())


def named_tensors(state: Mapping) -> dict[str, Tensor]:
    """Return the tensors of a state dict, without the prefixes of whole networks in their names.

    Raises:
        NetworkError: there are none, a name is no plain text or occurs twice, or a tensor cannot
            be used (it is not dense, not real or not finite).
    """
    tensors: dict[str, Tensor] = {}
    for full, value in state.items():
        if not isinstance(full, str) or not full.isprintable():
            raise NetworkError("holds tensors whose names are not plain text")
        name = full
        for prefix in PREFIXES:
            name = name.removeprefix(prefix)
        problem = tensor_problem(name, value)
        if not problem and name in tensors:
            problem = "is there twice, with and without a prefix before its name"
        if problem:
            raise NetworkError(f"{full} {problem}; use another file")
        tensors[name] = value
    if not tensors:
        raise NetworkError("holds no named tensors: it is not a checkpoint of a network")
    return tensors
