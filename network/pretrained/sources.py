"""The weights that can be loaded by name, as a table; torchvision's are in its own tables.

Everything here was read in the projects' own code and documents. Needs no torch, except for the
details of torchvision's weights.
"""

from __future__ import annotations

import difflib
from dataclasses import replace

from network.input_profile import InputProfile
from network.network_error import NetworkError
from network.pretrained.source import Source
from network.variants import TORCHVISION_CNNS, TORCHVISION_TRANSFORMERS

_TORCHVISION = {"mean": (0.43216, 0.394666, 0.37645), "std": (0.22803, 0.22145, 0.216989)}
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_FACEBOOK = {"mean": (0.45, 0.45, 0.45), "std": (0.225, 0.225, 0.225)}

#: Input profiles by the layout of the tensors (`network.pretrained.layouts`), for weights that
#: come from a file.
LAYOUT_PROFILES = {
    "ig65m": InputProfile(**_TORCHVISION, frames=8, interval=1, resize=128, crop=112),
    "pytorchvideo": InputProfile(**_FACEBOOK, frames=32, interval=2, resize=256, crop=224),
    "mmaction2": InputProfile(**_IMAGENET, frames=32, interval=2, resize=256, crop=224),
    "3D-ResNets-PyTorch": InputProfile(
        mean=(0.4345, 0.4051, 0.3775), std=(0.2768, 0.2713, 0.2737),
        frames=16, interval=1, resize=112, crop=112,
    ),
}  # fmt: skip


def _ig65m(frames: int, head: str, file: str, classes: int) -> Source:
    return Source(
        name=f"ig65m:r2plus1d_34_clip{frames}_{head}",
        network="r2plus1d_34",
        url=f"https://github.com/moabitcoin/ig65m-pytorch/releases/download/v1.0.0/{file}.pth",
        layout="ig65m",
        profile=replace(LAYOUT_PROFILES["ig65m"], frames=frames),
        trained_on="IG-65M, Kinetics-400" if head == "kinetics" else "IG-65M",
        classes=classes,
        parameters=63_697_175 + (classes - 400) * 513,
        top1="",
        licence="MIT (repository)",
    )


def _csn(name: str, network: str, url: str, trained_on: str, parameters: int, top1: str) -> Source:
    layout = name.partition(":")[0]
    return Source(
        name=name,
        network=network,
        url=url,
        layout=layout,
        profile=LAYOUT_PROFILES[layout],
        trained_on=trained_on,
        classes=400,
        parameters=parameters,
        top1=f"{top1} (30)",
        licence="Apache-2.0 (repository)",
    )


_MMACTION = "https://download.openmmlab.com/mmaction"
_IRCSN = f"{_MMACTION}/v1.0/recognition/csn/{{name}}/{{name}}_20220811-{{digits}}.pth"
_IRCSN_50 = "ircsn_ig65m-pretrained-r50-bnfrozen_8xb12-32x2x1-58e_kinetics400-rgb"
_IRCSN_152 = "ircsn_ig65m-pretrained-r152_8xb12-32x2x1-58e_kinetics400-rgb"

#: The sources that are not torchvision's, by name.
OTHERS = {
    source.name: source
    for source in (
        _ig65m(8, "kinetics", "r2plus1d_34_clip8_ft_kinetics_from_ig65m-0aa0550b", 400),
        _ig65m(32, "kinetics", "r2plus1d_34_clip32_ft_kinetics_from_ig65m-ade133f1", 400),
        _ig65m(8, "ig65m", "r2plus1d_34_clip8_ig65m_from_scratch-9bae36ae", 487),
        _ig65m(32, "ig65m", "r2plus1d_34_clip32_ig65m_from_scratch-449a7af9", 359),
        _csn("pytorchvideo:csn_r101", "ir_csn_101",
             "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/CSN_32x2_R101.pyth",
             "Kinetics-400", 22_213_776, "77.00"),
        _csn("mmaction2:ircsn_50", "ir_csn_50", _IRCSN.format(name=_IRCSN_50, digits="44395bae"),
             "IG-65M, Kinetics-400", 13_131_152, "79.44"),
        _csn("mmaction2:ircsn_152", "ir_csn_152",
             _IRCSN.format(name=_IRCSN_152, digits="c7a3cc5b"),
             "IG-65M, Kinetics-400", 29_703_568, "82.87"),
        _csn("mmaction2:ipcsn_152", "ip_csn_152",
             f"{_MMACTION}/recognition/csn/vmz/vmz_ipcsn_ig65m_pretrained_r152_32x2x1_58e_"
             "kinetics400_rgb_20210617-c3be9793.pth",
             "IG-65M, Kinetics-400", 33_016_592, "82.68"),
    )
}  # fmt: skip

#: torchvision's name of a network -> names of its sources and of their entries in torchvision.
TORCHVISION = {
    name: {f"torchvision:{name}": "KINETICS400_V1"}
    for name in (*TORCHVISION_CNNS, *TORCHVISION_TRANSFORMERS)
}
TORCHVISION["swin3d_b"]["torchvision:swin3d_b_22k"] = "KINETICS400_IMAGENET22K_V1"


def list_pretrained() -> list[str]:
    """Return the names of all sources that `load_pretrained` knows."""
    return [name for names in TORCHVISION.values() for name in names] + list(OTHERS)


def is_source_name(text: str) -> bool:
    """Return whether a text is meant as the name of a source rather than a file."""
    return text.partition(":")[0] in {name.partition(":")[0] for name in list_pretrained()}


def check_source_name(name: str) -> None:
    """Raise NetworkError, which names the three most similar ones, if there is no such source."""
    if name not in list_pretrained():
        near = difflib.get_close_matches(name, list_pretrained(), n=3, cutoff=0.0)
        raise NetworkError(
            f"unknown source of weights {name!r}; the nearest are {', '.join(near)} "
            "(python -m run.networks --pretrained lists all)"
        )


def find_source(name: str) -> Source:
    """Return the source of exactly this name. Those of torchvision need torch.

    Raises:
        NetworkError: there is no such source; the message names the three most similar ones.
    """
    check_source_name(name)
    if name in OTHERS:
        return OTHERS[name]
    from network.pretrained.torchvision_sources import torchvision_source

    network = next(network for network, names in TORCHVISION.items() if name in names)
    return torchvision_source(name, network, TORCHVISION[network][name])
