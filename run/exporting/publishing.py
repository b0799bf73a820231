"""Export, check and publish the files that `run.export` is asked for."""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path

from run.exporting.agreement import TOLERANCE, expected_answers, largest_difference
from run.exporting.clip_axes import ClipAxes, clip_axes, shapes_to_check
from run.exporting.exported_network import ExportedNetwork, facts_of
from run.exporting.formats import FORMATS
from run.trained_network import open_checkpoint
from train.devices import open_devices

log = logging.getLogger(__name__)

NAME = "model"  # of the files, before the suffix


def export_checkpoint(args: argparse.Namespace) -> dict[str, float]:
    """Do what the options of `run.export` ask for.

    All files are written into a temporary folder and compared with the checkpoint there; they are
    published when all of them agree with it.

    Returns:
        The largest difference from the checkpoint by format, relative as in `agreement.TOLERANCE`.

    Raises:
        TrainError, NetworkError: the checkpoint cannot be used, cannot have the clip shape, or a
            file differs from it.
    """
    with open_devices(0, "fp32") as devices:
        trained = open_checkpoint(args.checkpoint, devices)
    config = trained.with_shape(args.clip_length, args.clip_size)
    frames, size = config.clip_length, config.clip_size
    net = ExportedNetwork(trained.net).eval().requires_grad_(False)
    facts = facts_of(trained, config, args.checkpoint)
    differences: dict[str, float] = {}
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.out, prefix=".unfinished-") as unfinished:
        for name in args.format:
            kind = FORMATS[name]
            path = Path(unfinished, f"{NAME}{kind.suffix}")
            axes = _axes(name, config.network, frames, size)
            log.info("writing %s", path.name)
            kind.write(net, axes, facts | {"clips": str(axes)}, path)
            expected = expected_answers(net, shapes_to_check(axes, frames, size))
            differences[name] = largest_difference(kind.answer(path), expected, path.name)
            print(
                f"{path.name}: {path.stat().st_size / 1e6:.1f} MB; takes {axes}; differs from the "
                f"checkpoint by at most {differences[name]:.2g} (tolerance {TOLERANCE:g})"
            )
            if axes.why:
                print(f"{path.name}: {axes.why}")
        for path in sorted(Path(unfinished).iterdir()):
            path.replace(args.out / path.name)
    print(f"the files are in {args.out}")
    return differences


def _axes(name: str, network: str, frames: int, size: int) -> ClipAxes:
    """Return which clips a file takes; safetensors hold weights, which take any of the network."""
    return clip_axes(network, "onnx" if name == "safetensors" else name, frames, size)
