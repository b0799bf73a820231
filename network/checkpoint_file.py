"""Read checkpoint files safely: the only module that calls `torch.load`.

Nothing in a file is executed, checksums and sizes are checked before anything is read into memory,
and the error for any damaged file is one line.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from os import PathLike
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from network.network_error import NetworkError

ZIP_START = b"PK\x03\x04"
#: A zip attribute that marks a folder. Python ignores it, torch reads zeros instead of the content.
FOLDER = 0x10
#: Tensors whose names end with these words are counts, or their square root is taken.
NEVER_NEGATIVE = (
    "running_var", "num_batches_tracked", "exp_avg_sq", "step", "counts", "meter", "n_averaged"
)  # fmt: skip


def read_checkpoint_file(path: str | PathLike) -> object:
    """Return the content of a file that `torch.save` wrote, in either format, on the CPU.

    Raises:
        NetworkError: the file is missing, damaged, or holds more than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise NetworkError(f"{path}: there is no such file")
    try:
        with path.open("rb") as file:
            zipped = file.read(len(ZIP_START)) == ZIP_START
            if zipped:
                _check_archive(file)
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # these are about old formats only
                return torch.load(file, map_location="cpu", weights_only=True)
    except NetworkError as error:
        raise NetworkError(f"{path}: {error}") from None
    except OSError as error:
        raise NetworkError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception as error:  # unpickling damaged bytes can raise anything
        raise NetworkError(f"{path}: {_reason(error)}") from None


def _check_archive(file: BinaryIO) -> None:
    """Check the archive's table of contents against the file's size, then every checksum.

    torch.load checks neither. torch.save stores members uncompressed, one after the other, so that
    an archive cannot contain more bytes than the file has.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            problem = _archive_problem(archive) or _damaged_member(archive)
    except OSError:
        raise
    except Exception as error:  # zipfile raises many kinds of errors for a damaged table
        problem = f"its table of contents cannot be read: {_plain(str(error))}"
    if problem:
        raise NetworkError(
            "cannot be read as a checkpoint: it is damaged or cut short "
            f"({_plain(problem)}); use another"
        )


def _archive_problem(archive: zipfile.ZipFile) -> str:
    """Return how an archive differs from those that torch.save writes, or an empty string."""
    members = sorted(archive.infolist(), key=lambda member: member.header_offset)
    names = {member.filename for member in members}
    root = members[0].filename.partition("/")[0] if members else ""
    if len(names) < len(members):
        return "its table of contents lists a name twice"
    if f"{root}/data.pkl" not in names or not all(name.startswith(f"{root}/") for name in names):
        return "it is a zip file that torch did not write"
    if members[0].header_offset:  # zipfile would read other bytes than torch does
        return "there are bytes before its first member"
    if f"{root}/constants.pkl" in names:
        return "it is a TorchScript program"
    ends = [member.header_offset for member in members[1:]] + [archive.start_dir]
    for member, end in zip(members, ends, strict=True):
        if member.is_dir() or member.external_attr & FOLDER:
            return f"{member.filename} is marked as a folder"
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            return f"{member.filename} is compressed, which torch does not do"
        if member.header_offset + member.file_size > end:
            return f"{member.filename} declares more bytes than the file has for it"
    return ""


def _damaged_member(archive: zipfile.ZipFile) -> str:
    name = archive.testzip()
    return f"{name} fails its checksum" if name else ""


def _reason(error: Exception) -> str:
    """Return one line on why torch could not read a file, without its advice on how to force it."""
    text = str(error)
    found = re.search(r"GLOBAL (\S+) was not an allowed global|whose module (\S+) is blocked", text)
    if found:
        name = _plain(found[1] or found[2])
        return (
            f"holds {name}, but only tensors and plain values are loaded, because other objects "
            "can run any program; save the state dict alone"
        )
    detail = "" if "weights_only" in text or "\x1b" in text else _plain(text)
    return "cannot be read as a checkpoint" + (f" ({detail})" if detail else "")


def _plain(text: str) -> str:
    """Return the first line of a library's message, printable and at most 150 characters long."""
    line = (text.strip() or "?").splitlines()[0]
    line = "".join(letter if letter.isprintable() else "?" for letter in line)
    return line if len(line) <= 150 else line[:147] + "..."


def tensor_problem(name: str, value: object, like: Tensor | None = None) -> str:
    """Return why a value must not be used as the tensor `name`, or an empty string.

    A tensor must be dense and real, its numbers finite, and those of `NEVER_NEGATIVE` not negative.

    Args:
        name: the tensor's name, of which the part after the last dot matters.
        value: anything that a checkpoint can contain.
        like: the network's own tensor. Both or neither must be of floating point, and the value
            must be finite in the dtype of `like`.
    """
    if type(value) not in (Tensor, nn.Parameter):
        return f"is not a tensor but {type(value).__name__}"
    value = value.detach()
    if value.layout != torch.strided or value.is_nested:
        return "is not a dense tensor"
    if value.device.type != "cpu":
        return f"has no values (its device is {value.device})"
    eight_bit = value.is_floating_point() and value.element_size() == 1
    if value.is_quantized or value.is_complex() or value.dtype == torch.bool or eight_bit:
        return f"has {value.dtype} numbers"
    if value.untyped_storage().nbytes() < value.numel() * value.element_size():
        return "declares more numbers than the file holds"
    if like is not None:
        if value.is_floating_point() != like.is_floating_point():
            # Some files hold batch norm's counters as floats, which does no harm.
            whole = value.is_floating_point() and bool((value == value.round()).all())
            if not whole or not value.isfinite().all():
                return f"has {value.dtype} numbers, where the network's are {like.dtype}"
        value = value.to(like.dtype)
    if value.is_floating_point():
        broken = value.numel() - int(value.isfinite().sum())
        if broken:
            return f"has {broken} numbers of {value.numel()} that are NaN or infinite"
    if name.rpartition(".")[2] in NEVER_NEGATIVE and bool((value < 0).any()):
        return "has negative numbers"
    return ""
