"""Write an exported network as safetensors, torch.export's and ONNX files, and run such files."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.export import Dim

from network import build_network
from network.input_profile import InputProfile
from run.exporting.agreement import Answer
from run.exporting.clip_axes import ClipAxes, example_shape
from run.exporting.exported_network import ExportedNetwork
from run.exporting.onnx_recurrence import with_onnx_recurrence

#: Version of ONNX's operators: onnxruntime knows it since 1.14.
OPSET = 18
FACTS = "network.json"  # name of the facts inside a file of torch.export
Facts = dict[str, str]


@dataclass(frozen=True)
class FileFormat:
    """A format that a network can be exported to.

    Attributes:
        suffix: of its files.
        write: writes a file of (exported network, clips it shall take, facts, path).
        answer: opens a file, and returns the function that it computes.
    """

    suffix: str
    write: Callable[[ExportedNetwork, ClipAxes, Facts, Path], None]
    answer: Callable[[Path], Answer]


def write_safetensors(net: ExportedNetwork, axes: ClipAxes, facts: Facts, path: Path) -> None:
    """Write the network's weights by their names, with the facts as metadata."""
    from safetensors.torch import save_file

    tensors = {name: value.contiguous() for name, value in net.net.state_dict().items()}
    save_file(tensors, path, metadata=facts)


def answer_of_safetensors(path: Path) -> Answer:
    """Build the network that the file's metadata name, and return its function."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        facts = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    classes, options = (json.loads(facts[name]) for name in ("classes", "options"))
    net = build_network(facts["network"], len(classes), **options)
    net.input_profile = InputProfile.from_dict(json.loads(facts["profile"]))
    net.load_state_dict(tensors)
    return _of_module(ExportedNetwork(net.eval()))


def write_torch(net: ExportedNetwork, axes: ClipAxes, facts: Facts, path: Path) -> None:
    """Write the program that torch.export makes, with the facts as an extra file in it."""
    with _quiet():
        torch.export.save(_program(net, axes), path, extra_files={FACTS: json.dumps(facts)})


def answer_of_torch(path: Path) -> Answer:
    """Open a file of torch.export, and return its function."""
    with _quiet():
        return _of_module(torch.export.load(path).module())


def write_onnx(net: ExportedNetwork, axes: ClipAxes, facts: Facts, path: Path) -> None:
    """Write an ONNX file, with the facts as its metadata."""
    portable = with_onnx_recurrence(net)
    with _quiet():
        exported = torch.onnx.export(
            _program(portable, axes), dynamo=True, opset_version=OPSET,
            verbose=False, input_names=["clips"], output_names=["logits"],
        )  # fmt: skip
        exported.model.metadata_props.update(facts)
        exported.save(path)


def answer_of_onnx(path: Path) -> Answer:
    """Open an ONNX file with onnxruntime on the CPU, and return its function."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda clips: session.run(["logits"], {"clips": clips})[0]


#: The formats by the words of the command line, `run.export.PACKAGES`.
FORMATS = {
    "safetensors": FileFormat(".safetensors", write_safetensors, answer_of_safetensors),
    "torch": FileFormat(".pt2", write_torch, answer_of_torch),
    "onnx": FileFormat(".onnx", write_onnx, answer_of_onnx),
}


def _program(net: nn.Module, axes: ClipAxes) -> torch.export.ExportedProgram:
    """Return the program of a network for clips of several shapes. Nothing is computed."""
    clips = torch.zeros((*example_shape(axes), 3), dtype=torch.uint8)
    dynamic = {0: Dim.DYNAMIC}
    if not axes.frames:
        dynamic[1] = Dim.DYNAMIC
    if not axes.size:
        dynamic |= {2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    return torch.export.export(net.eval(), (clips,), dynamic_shapes=(dynamic,), strict=False)


def _of_module(module: nn.Module) -> Answer:
    @torch.no_grad()
    def answer(clips: np.ndarray) -> np.ndarray:
        return module(torch.from_numpy(clips)).numpy()

    return answer


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the warnings of exporters about their own parts."""
    noisy = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch")]
    levels = [one.level for one in noisy]
    for one in noisy:
        one.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(noisy, levels, strict=True):
            one.setLevel(level)
