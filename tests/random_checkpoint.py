"""A checkpoint of a network with random weights, as a training run would write it."""

from pathlib import Path

from run.command_line import complete
from train.checkpoint.saving import save_checkpoint
from train.devices import open_devices
from train.setup import prepare


def random_checkpoint(tiny: Path, folder: Path, **options) -> Path:
    """Write it for the classes of the dataset `tiny`, by default for clips of 8 x 48 x 48."""
    options = {
        "clip_length": 8,
        "clip_size": 48,
        "batch_size": 4,
        "gpus": 0,
        "workers": 0,
    } | options
    labels = str(tiny / "labels" / "tiny_train.csv")
    config = complete("custom", dataset=str(tiny), labels=labels, **options)
    with open_devices(0, "fp32") as devices:
        save_checkpoint(folder / "last.pth", prepare(config, devices).state_dict())
    return folder / "last.pth"
