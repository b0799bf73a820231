"""Compute what a layer of a trained network says of each video of a dataset, and write it."""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from data.annotations.splits import open_split
from data.annotations.video_folders import Videos
from data.clips.clip_dataset import ClipDataset, ClipRequest, normalise
from data.clips.loader import Batch, validation_loader
from data.data_error import DataError
from data.datasets import dataset_spec
from data.file_writing import write_atomically, write_text
from data.store import open_store
from network.classifier import classifier_name
from run.layer_outputs import (
    Shapes,
    as_maps,
    find_name,
    output_shapes,
    tensors_of,
    token_frames,
)
from run.neighbours import Query, draw_neighbours, nearest, share_of_same_label
from run.single_clip import read_clip
from run.trained_network import Trained, open_checkpoint
from run.worker_pool import printable
from train.config import Config
from train.devices import Devices, open_devices
from train.evaluation import predictions
from train.setup import check_rate, clip_options

log = logging.getLogger(__name__)

CLASSIFIER_INPUT = "the classifier's input"


@dataclass(frozen=True)
class Features:
    """The features of N clips, and which clips these are."""

    features: np.ndarray  # float32 (N, C)
    indices: np.ndarray  # int64 (N,), of the videos
    views: np.ndarray  # int64 (N,), number of the view, from 0
    first: np.ndarray  # int64 (N,), number of the clip's first frame in the video, from 0
    last: np.ndarray  # int64 (N,)
    start: np.ndarray  # float64 (N,), seconds of the first frame, NaN where the rate is not known
    end: np.ndarray  # float64 (N,)


def features_of(
    net: nn.Module,
    batches: Iterable[Batch],
    devices: Devices,
    *,
    layer: str | None,
    shapes: Shapes,
    title: str,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (numbers of the videos int64 (V,), features float32 (V * views, C)) of each batch.

    A layer's output is averaged over all positions in space and time; where a layer gives several
    tensors, as an MTConv block does, their means are joined.

    Args:
        net: the network.
        batches: clips, the views of a video in succession.
        devices: the device to compute on.
        layer: name of the layer; None is what the classifier gets.
        shapes: see `output_shapes`.
        title: of the progress bar.
    """
    modules, seen = dict(net.named_modules()), []
    tokens = token_frames(shapes)

    def note(name: str, output: object) -> None:
        # recurrent layers have time first
        recurrent = isinstance(modules[name], nn.RNNBase) and not modules[name].batch_first
        parts = [p.transpose(0, 1) if recurrent else p for p in tensors_of(output)]
        seen[:] = [torch.cat([_mean(part, tokens) for part in parts], 1)]

    if layer is None:
        classifier = modules[classifier_name(net)]
        handle = classifier.register_forward_pre_hook(lambda _, given: note("", given[0]))
    else:
        handle = modules[layer].register_forward_hook(lambda _, __, output: note(layer, output))
    try:
        for answer in predictions(net, batches, devices, title=title):
            yield answer.indices.numpy(), seen[0].float().cpu().numpy()
    finally:
        handle.remove()


def _mean(part: Tensor, tokens: int) -> Tensor:
    """Average a layer's output over its positions: (B, C)."""
    maps = as_maps(part, tokens)
    if maps is not None:
        return maps.mean((2, 3, 4), dtype=torch.float32)
    if part.ndim <= 2:
        return part.reshape(len(part), -1)
    return part.mean(tuple(range(1, part.ndim - 1)), dtype=torch.float32)


def extract(
    trained: Trained,
    clips: ClipDataset,
    loader: Iterable[Batch],
    config: Config,
    devices: Devices,
    *,
    layer: str | None,
    shapes: Shapes,
    views: int,
) -> Features:
    """Return the features of all clips that `loader` gives.

    Raises:
        DataError: a feature is not finite, or no video can be read.
    """
    rows: list[np.ndarray] = []
    which: list[tuple[int, int]] = []
    where: list[tuple[int, int, float, float]] = []
    answers = features_of(
        trained.net, loader, devices, layer=layer, shapes=shapes, title="features"
    )
    for indices, features in answers:
        if len(features) != len(indices) * views:
            raise DataError(
                f"layer {layer!r} gives {len(features)} rows for {len(indices) * views} clips, so "
                "they have no features of their own; choose another layer"
            )
        bad = ~np.isfinite(features).all(1)
        if bad.any():
            video = clips.videos.folder(int(indices[bad.argmax() // views]))
            raise DataError(f"{video}: its features are not finite; try --precision fp32")
        rows.append(features)
        for index in indices.tolist():
            for view in range(views):
                request = ClipRequest(
                    index, 0, config.clip_length, config.clip_size, view=view, views=views
                )
                which.append((index, view))
                where.append(_place(clips, request))
    if not rows:
        raise DataError(f"{clips.videos.source}: none of its videos can be read")
    first, last, start, end = zip(*where, strict=True)
    return Features(
        np.concatenate(rows),
        *np.array(which, np.int64).T,
        *(np.array(values, np.int64) for values in (first, last)),
        *(np.array(values, np.float64) for values in (start, end)),
    )


def _place(clips: ClipDataset, request: ClipRequest) -> tuple[int, int, float, float]:
    """Return the first and the last frame that a clip shows, and their seconds."""
    numbers = clips.frame_numbers(request)
    first, last = int(numbers.min()), int(numbers.max())
    store = open_store(clips.videos.path(request.index))
    if store.fps is None:
        return first, last, float("nan"), float("nan")
    times = store.times()
    return first, last, float(times[first]), float(times[last])


def open_clips(
    args: argparse.Namespace, trained: Trained
) -> tuple[ClipDataset, Iterable[Batch], Config]:
    """Return the clips of the dataset that the options name, their loader and their options."""
    config = replace(trained.with_shape(None, None, args.clip_fps), skip_bad=args.skip_bad)
    spec = dataset_spec(config.benchmark, config.variant)
    videos = open_split(
        spec,
        args.dataset,
        args.part,
        labels=args.labels,
        split=args.split or config.split,
        skip_bad=config.skip_bad,
        other_names=True,
    )
    if config.clip_fps:
        check_rate(videos)
    options = clip_options(config, spec, training=False)
    clips = ClipDataset(videos, options, training=False, seed=config.random_seed)
    loader = validation_loader(
        clips,
        args.batch_size,
        config.clip_length,
        config.clip_size,
        workers=args.workers,
        timeout=args.batch_timeout,
        views=args.views,
    )
    return clips, loader, config


def write_features(args: argparse.Namespace) -> dict[str, np.ndarray]:
    """Do what the options of `run.features` ask for; return the arrays of features.npz.

    Raises:
        TrainError, NetworkError: the checkpoint cannot be used, or there is no such layer.
        DataError: the dataset or a video cannot be used, or there is no such video.
    """
    with (
        open_devices(args.gpus, args.precision, most=1) as devices,
        tempfile.TemporaryDirectory() as scratch,
    ):
        trained = open_checkpoint(args.checkpoint, devices)
        clips, loader, config = open_clips(args, trained)
        shape = (1, 3, config.clip_length, config.clip_size, config.clip_size)
        example = torch.zeros(shape, dtype=torch.uint8, device=devices.device)
        shapes = output_shapes(trained.net, normalise(example))
        layer = args.layer and find_name(args.layer, list(shapes), "layer")
        log.info("features of %s", layer or CLASSIFIER_INPUT)
        ids = [printable(Path(folder).name) for folder in clips.videos.folders.tolist()]
        queries = [
            _query(given, ids, trained, devices, Path(scratch) / str(number), args, layer, shapes)
            for number, given in enumerate(args.neighbours)
        ]
        found = extract(
            trained, clips, loader, config, devices,
            layer=layer, shapes=shapes, views=args.views,
        )  # fmt: skip
    arrays = _arrays(found, clips.videos, args, trained, layer)
    args.out.mkdir(parents=True, exist_ok=True)
    write_atomically(args.out / "features.npz", lambda file: np.savez(file, **arrays))
    number, width = found.features.shape
    print(f"{args.out / 'features.npz'}: {number} clips, {width} features of each")
    same = share_of_same_label(arrays["features"], arrays["labels"], found.indices)
    if same is not None:
        print(f"the nearest clip of another video has the same label for {same:.1%} of the clips")
    _write_neighbours(args.out, queries, found, clips, config, args.count)
    return arrays


def _arrays(
    found: Features, videos: Videos, args: argparse.Namespace, trained: Trained, layer: str | None
) -> dict[str, np.ndarray]:
    """Return what features.npz holds."""
    folders = videos.folders[found.indices]
    return {
        "features": found.features,
        "ids": np.array([Path(folder).name for folder in folders.tolist()]),
        "folders": folders,
        "labels": videos.labels[found.indices],
        "classes": np.array(videos.classes),
        "view": found.views,
        "first_frame": found.first,
        "last_frame": found.last,
        "start": found.start,
        "end": found.end,
        "layer": np.array(layer or CLASSIFIER_INPUT),
        "network": np.array(trained.config.network),
        "checkpoint": np.array(str(args.checkpoint)),
    }


def _query(
    given: str,
    ids: list[str],
    trained: Trained,
    devices: Devices,
    scratch: Path,
    args: argparse.Namespace,
    layer: str | None,
    shapes: Shapes,
) -> Query:
    """Return the video whose neighbours are wanted: one of the dataset, or one of its own.

    Raises:
        NetworkError: it is neither a video's id nor a file or folder.
        DataError: it cannot be read.
    """
    if given in ids:
        return Query(given, index=ids.index(given))
    path = Path(given)
    if not path.exists():
        return Query(find_name(given, ids, "file and no video"))  # always raises
    clip = read_clip(trained, path, scratch, clip_fps=args.clip_fps).clip
    none = torch.zeros(1, dtype=torch.int64)
    batch = Batch(clip[None], none, none, none - 1)
    ((_, features),) = features_of(
        trained.net, [batch], devices, layer=layer, shapes=shapes, title=path.name
    )
    return Query(printable(path.stem), clip=clip, features=features[0])


def _write_neighbours(
    folder: Path,
    queries: list[Query],
    found: Features,
    clips: ClipDataset,
    config: Config,
    count: int,
) -> None:
    """Print, draw and write the nearest videos of each query."""
    answers = {}
    for query in queries:
        if query.index is not None:
            rows = np.flatnonzero(found.indices == query.index)
            if not len(rows):
                log.warning("%s cannot be read, so it has no neighbours", query.name)
                continue
            query = query._replace(features=found.features[rows[len(rows) // 2]])
        near = nearest(query, found.features, found.indices, count)
        path = folder / f"neighbours_{query.name.replace('/', '_')}.png"
        draw_neighbours(query, near, clips, (config.clip_length, config.clip_size), path)
        answers[query.name] = [
            {
                "id": printable(Path(str(clips.videos.folders[index])).name),
                "class": printable(clips.videos.classes[clips.videos.labels[index]]),
                "similarity": round(similarity, 4),
            }
            for index, similarity in near
        ]
        said = ", ".join(f"{row['id']} {row['similarity']:.2f}" for row in answers[query.name])
        print(f"nearest to {query.name}: {said}")
    if queries:
        write_text(folder / "neighbours.json", json.dumps(answers, indent=1) + "\n")
