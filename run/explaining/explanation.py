"""Explain a network's answer to one clip: compute heat maps, occlusion and factors, write files."""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data.data_error import DataError
from data.file_writing import write_text
from run.explaining.explained_layer import choose_layer, last_layer
from run.explaining.film import film_frames, film_rate
from run.explaining.heat_maps import evidence, grad_cam, saliency_tubes, trace
from run.explaining.occlusion import Occlusion, occlude
from run.explaining.overlay import enlarged_frames, overlaid
from run.explaining.pictures import draw_factors, draw_occlusion
from run.explaining.random_weights import randomised, rank_correlation
from run.explaining.srtg_factors import BlockFactors, srtg_factors
from run.film_strip import Strip, draw_strips
from run.layer_outputs import find_name, output_shapes, token_frames
from run.mp4_writer import write_mp4
from run.single_clip import SingleClip, read_clip
from run.trained_network import Trained, open_checkpoint
from run.worker_pool import printable
from train.devices import Devices, open_devices
from train.input_normalisation import normalised

log = logging.getLogger(__name__)

PANEL = 224  # height of a frame in pictures and film, in pixels (roughly)
NO_TUBES = "the classifier of this network does not see the mean of the last layer's maps"


@dataclass(frozen=True)
class Explanation:
    """What is found out about one clip. Heat maps have values from 0 to 1."""

    probabilities: Tensor  # (classes,)
    label: int  # the class that is explained
    layer: str
    why: str  # a sentence about the layer
    heat: Tensor  # (t, h, w), Grad-CAM at `layer`
    tubes_layer: str
    tubes: Tensor | None  # (t, h, w), Saliency Tubes at `tubes_layer`
    control: Tensor  # (t, h, w), Grad-CAM at `layer` of a network with random weights
    correlations: list[float]  # of the maps with those of networks with random weights
    occlusion: Occlusion
    factors: list[BlockFactors]


def explain(
    trained: Trained,
    clip: Tensor,
    devices: Devices,
    *,
    label: int | None = None,
    layer: str | None = None,
    controls: int = 5,
) -> Explanation:
    """Explain the network's answer to a clip.

    Args:
        trained: the network.
        clip: uint8 (3, T, S, S), RGB.
        devices: the device to compute on, always in float32.
        label: number of the class to explain; by default the likeliest one.
        layer: name of the layer for Grad-CAM; see `choose_layer` for the default.
        controls: number of networks with random weights.

    Raises:
        NetworkError: there is no such layer, or it has no positions.
        DataError: the network's answer is not finite.
    """
    net = trained.net.eval().requires_grad_(False)

    @torch.no_grad()
    def answer(clips: Tensor) -> Tensor:
        return net(normalised(net, devices.to_device(clips)))

    shown = normalised(net, devices.to_device(clip[None]))
    shapes = output_shapes(net, shown)
    tokens = token_frames(shapes)
    name, why = choose_layer(shapes, layer)
    log.info("Grad-CAM at layer %s", why)
    probabilities = answer(clip[None])[0].softmax(0)
    if not probabilities.isfinite().all():
        raise DataError("the network's answer is not finite")
    label = int(probabilities.argmax()) if label is None else label
    found = trace(net, shown, label, name, tokens)
    tubes_layer = last_layer(shapes)
    last = found if tubes_layer == name else trace(net, shown, label, tubes_layer, tokens)
    drawn = []
    for seed in tqdm(range(controls), desc="random weights", leave=False, disable=None):
        drawn.append(trace(randomised(net, seed), shown, label, name, tokens))
    maps = [grad_cam(one) for one in drawn]
    signed = evidence(found)
    correlations = [rank_correlation(signed, evidence(control)) for control in drawn]
    return Explanation(
        probabilities=probabilities.cpu(),
        label=label,
        layer=name,
        why=why,
        heat=grad_cam(found),
        tubes_layer=tubes_layer,
        tubes=saliency_tubes(net, last, label),
        control=next((one for one in maps if one.any()), maps[0]),
        correlations=[value for value in correlations if value is not None],
        occlusion=occlude(clip, label, answer),
        factors=srtg_factors(net, shown),
    )


def explain_video(args: argparse.Namespace) -> dict[str, object]:
    """Explain what the options of `run.explain` ask for, write the files, return the json's values.

    Raises:
        DataError, NetworkError, TrainError: see `read_clip`, `explain` and `open_checkpoint`; or
            there is no such class.
    """
    with (
        open_devices(args.gpus, "fp32", most=1) as devices,
        tempfile.TemporaryDirectory() as scratch,
    ):
        trained = open_checkpoint(args.checkpoint, devices)
        label = None
        if args.class_name is not None:
            names = [printable(name) for name in trained.classes]
            label = names.index(find_name(args.class_name, names, "class"))
        clip = read_clip(
            trained,
            args.video,
            Path(scratch) / "video",
            start=args.start,
            short_side=args.short_side,
            clip_fps=args.clip_fps,
        )
        found = explain(
            trained,
            clip.clip,
            devices,
            label=label,
            layer=args.layer,
            controls=args.random_networks,
        )
    facts = {
        "video": printable(args.video),
        "checkpoint": printable(args.checkpoint),
        "network": trained.config.network,
        **_facts(trained, clip, found),
    }
    _write(args.out, clip, found, facts)
    return facts


def _facts(trained: Trained, clip: SingleClip, found: Explanation) -> dict[str, object]:
    """Return the numbers that the json has."""
    best = found.probabilities.argsort(descending=True)[:5].tolist()
    occlusion, correlations = found.occlusion, found.correlations
    return {
        "frames": clip.frames.tolist(),
        "seconds": None if clip.times is None else clip.times.round(4).tolist(),
        "class": printable(trained.classes[found.label]),
        "probability": float(found.probabilities[found.label]),
        "top": [
            {"class": printable(trained.classes[i]), "score": float(found.probabilities[i])}
            for i in best
        ],
        "grad_cam": {
            "layer": found.layer,
            "why": found.why,
            "grid": list(found.heat.shape),
            "heat": _rounded(found.heat),
        },
        "saliency_tubes": {
            "layer": found.tubes_layer,
            **(
                {"reason": NO_TUBES}
                if found.tubes is None
                else {"grid": list(found.tubes.shape), "heat": _rounded(found.tubes)}
            ),
        },
        "random_weights": {
            "rank_correlation": [round(value, 4) for value in correlations],
            "mean_rank_correlation": round(float(np.mean(correlations)), 4)
            if correlations
            else None,
        },
        "occlusion": {
            "log_odds": round(occlusion.whole, 4),
            "fall_if_grey": [round(occlusion.whole - score, 4) for score in occlusion.grey],
            "fall_if_repeated": [round(occlusion.whole - score, 4) for score in occlusion.repeated],
        },
        "srtg": [
            {
                "block": block.block,
                "gate": {None: None, True: "open", False: "closed"}[block.is_open],
                "mean_factor": [round(value, 4) for value in block.mean],
                "tenth_below": [round(value, 4) for value in block.low],
                "tenth_above": [round(value, 4) for value in block.high],
            }
            for block in found.factors
        ],
    }


def _rounded(heat: Tensor) -> list:
    return np.round(heat.cpu().numpy().astype(float), 4).tolist()


def _write(folder: Path, clip: SingleClip, found: Explanation, facts: dict) -> None:
    """Write all files into a temporary folder, then move them into `folder`."""
    frames, moments = enlarged_frames(clip.clip, PANEL), clip.moments()
    heat = overlaid(frames, found.heat)
    control = overlaid(frames, found.control)
    tubes = [] if found.tubes is None else [("Saliency Tubes", overlaid(frames, found.tubes))]
    mean, number = facts["random_weights"]["mean_rank_correlation"], len(found.correlations)
    empty = "" if found.heat.any() else "\n(nothing is for it)"
    said = "" if mean is None else f"\nrank correlation\n{mean:.2f} (mean of {number})"
    strips = [
        Strip("frames", frames),
        Strip(f"Grad-CAM\n{found.layer}{empty}", heat),
        *(Strip(f"{name}\n{found.tubes_layer}", shown) for name, shown in tubes),
        Strip(f"Grad-CAM with\nrandom weights{said}", control),
    ]
    title = f"{facts['network']}: {facts['class']} {facts['probability']:.1%}"
    if facts["top"][0]["class"] != facts["class"]:
        title += f" (likeliest: {facts['top'][0]['class']} {facts['top'][0]['score']:.1%})"
    panels = [("clip", frames), ("Grad-CAM", heat), *tubes, ("random weights", control)]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unfinished-") as unfinished:
        draft = Path(unfinished).absolute()
        draw_strips(strips, title, draft / "film_strip.png", moments=moments)
        whole = f"{title}. How much each frame matters"
        draw_occlusion(frames, moments, found.occlusion, whole, draft / "occlusion.png")
        if found.factors:
            gates = f"{title}. What SRTG blocks multiply the features by"
            draw_factors(frames, moments, found.factors, gates, draft / "gates.png")
        rate = film_rate(clip.frames_per_second())
        write_mp4(draft / "explanation.mp4", film_frames(panels, moments), rate, shown_rate=24)
        write_text(draft / "explanation.json", json.dumps(facts, indent=1) + "\n")
        for path in sorted(draft.iterdir()):
            path.replace(folder / path.name)
    print(f"{facts['video']}: {title}")
    print(f"{', '.join(sorted(path.name for path in folder.iterdir()))} are in {folder}")
