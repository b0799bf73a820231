"""Write the features of a dataset's videos, and the videos that are nearest to some of them."""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from data.annotations.video_folders import Videos
from data.clips.clip_dataset import ClipDataset, ClipRequest
from data.clips.loader import Batch
from data.file_writing import write_atomically, write_text
from run.dataset_clips import open_dataset_clips
from run.feature_extraction import Features, extract, numbers_of_videos
from run.layer_features import features_of
from run.layer_outputs import Shapes, find_name, output_shapes
from run.neighbours import Neighbour, Query, draw_neighbours, nearest, share_of_same_label
from run.single_clip import read_clip
from run.trained_network import Trained, open_checkpoint
from run.worker_pool import printable
from train.config import Config
from train.devices import Devices, open_devices
from train.input_normalisation import normalised

log = logging.getLogger(__name__)

CLASSIFIER_INPUT = "the classifier's input"


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
        config = replace(trained.with_shape(None, None, args.clip_fps), skip_bad=args.skip_bad)
        clips, loader = open_dataset_clips(args, config, args.part)
        shape = (1, 3, config.clip_length, config.clip_size, config.clip_size)
        example = torch.zeros(shape, dtype=torch.uint8, device=devices.device)
        shapes = output_shapes(trained.net, normalised(trained.net, example))
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
    of_video = numbers_of_videos(clips.videos, found.indices)
    same = share_of_same_label(found.features, arrays["labels"], of_video)
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
    videos = clips.videos
    views = int(found.views.max()) + 1
    of_video = numbers_of_videos(videos, found.indices)

    def neighbour(row: int, similarity: float) -> Neighbour:
        index = int(found.indices[row])
        request = ClipRequest(
            index, 0, config.clip_length, config.clip_size, view=int(found.views[row]), views=views
        )
        label = int(videos.labels[index])
        name = printable(Path(str(videos.folders[index])).name)
        return Neighbour(
            name, label, printable(videos.classes[label]), similarity, clips[request].clip
        )

    for query in queries:
        label = None
        if query.index is not None:
            rows = np.flatnonzero(found.indices == query.index)
            if not len(rows):
                log.warning("%s cannot be read, so it has no neighbours", query.name)
                continue
            row = int(rows[len(rows) // 2])  # the view in the centre
            own = neighbour(row, 1.0)
            label = own.label
            query = query._replace(
                class_name=own.class_name, clip=own.clip,
                video=int(of_video[row]), features=found.features[row],
            )  # fmt: skip
        rows = nearest(query, found.features, of_video, count)
        near = [neighbour(row, similarity) for row, similarity in rows]
        draw_neighbours(
            query, label, near, folder / f"neighbours_{query.name.replace('/', '_')}.png"
        )
        answers[query.name] = [
            {"id": one.name, "class": one.class_name, "similarity": round(one.similarity, 4)}
            for one in near
        ]
        said = ", ".join(f"{one.name} ({one.class_name}) {one.similarity:.2f}" for one in near)
        print(f"nearest to {query.name}: {said}")
    if queries:
        write_text(folder / "neighbours.json", json.dumps(answers, indent=1) + "\n")
