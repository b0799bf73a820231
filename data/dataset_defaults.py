"""A table of the six datasets and your own, with facts and training defaults.

`data.annotations.splits` finds the videos of a dataset.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from data.data_error import DataError

READY_MADE = Path(__file__).parent.parent / "labels"  # the label csvs that come with the project


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset's facts, and the original project's defaults for training on it."""

    name: str
    results_name: str  # name of its folder below results/
    classes: int  # in the whole dataset; 0: as many as the label csv names
    csv_prefix: str  # label csvs are `<prefix>_train.csv`, `<prefix>_val.csv`
    lr: float = 0.1
    lr_steps: tuple[int, ...] = (15, 30, 40)
    epochs: int = 100
    batch: int = 32
    clip_length: int = 16  # frames
    clip_size: int = 256  # pixels
    short_side: int = 294  # pixels; the crop has clip_size / short_side of the frame's short side
    train_intervals: tuple[int, ...] = (2,)  # frame intervals to draw from
    val_interval: int = 2
    variants: tuple[int, ...] = ()


_LARGE = {"clip_size": 284, "short_side": 384}

DATASETS = {
    spec.name: spec
    for spec in (
        DatasetSpec(
            "hacs", "HACS", 200, "HACS_clips_v1.1",
            lr_steps=(40, 60, 75, 90), epochs=120, batch=48, train_intervals=(1, 2), **_LARGE,
        ),
        DatasetSpec(
            "kinetics", "KINETICS-400", 400, "kinetics-400",
            lr=0.05, lr_steps=(40, 70, 95), epochs=130, train_intervals=(4, 5, 6), val_interval=5,
            variants=(200, 400, 600, 700), **_LARGE,
        ),
        DatasetSpec(
            "mit", "MIT", 339, "Moments_in_Time",
            lr_steps=(25, 50, 70), epochs=110, batch=48, train_intervals=(3, 4), val_interval=3,
            **_LARGE,
        ),
        DatasetSpec("ucf101", "UCF101", 101, "ucf101_split{split}"),
        DatasetSpec("hmdb51", "HMDB51", 51, "hmdb_split{split}"),
        DatasetSpec("diving48", "DIVING48", 48, "diving48"),
        DatasetSpec("custom", "CUSTOM", 0, "*", clip_size=224, short_side=256),
    )
}  # fmt: skip


def dataset_spec(name: str, variant: int | None = None) -> DatasetSpec:
    """Return the entry of a dataset.

    Args:
        name: one of DATASETS.
        variant: number of classes, for Kinetics: 200, 400 (the default), 600 or 700.

    Raises:
        DataError: there is no such dataset, or it has no such variant.
    """
    if name not in DATASETS:
        raise DataError(f"unknown dataset {name!r}; the datasets are {', '.join(DATASETS)}")
    spec = DATASETS[name]
    if variant is None:
        return spec
    if variant not in spec.variants:
        choices = ", ".join(map(str, spec.variants)) or "none"
        raise DataError(f"--variant {variant}: {name} has the variants {choices}")
    return replace(
        spec,
        classes=variant,
        csv_prefix=f"kinetics-{variant}",
        results_name=f"KINETICS-{variant}",
    )
