"""What is known of weights that can be loaded by name."""

from __future__ import annotations

from dataclasses import dataclass

from network.input_profile import InputProfile


@dataclass(frozen=True)
class Source:
    """Weights that can be loaded by name.

    Attributes:
        name: of the source.
        network: name of the network that they belong to.
        url: of the file, whose name ends with the first digits of its SHA-256 where the publisher
            gives them.
        layout: of its tensors, see `network.pretrained.layouts`.
        profile: how clips must look.
        trained_on: the data.
        classes: number of classes.
        parameters: number of parameters, with the classifier.
        top1: accuracy in percent on record, with the number of clips or views of a video.
        licence: of the weights as their publisher states it, or of the repository.
        class_names: names of the classes, where they are published with the weights.
    """

    name: str
    network: str
    url: str
    layout: str
    profile: InputProfile
    trained_on: str
    classes: int
    parameters: int
    top1: str
    licence: str
    class_names: tuple[str, ...] = ()

    @property
    def file_name(self) -> str:
        """Return the name of the file."""
        return self.url.rpartition("/")[2]
