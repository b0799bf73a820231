"""Names: exact, case aside; every registered network builds, runs, learns and round-trips."""

import pytest
import torch
from torch import nn

from network import NetworkError, build_network, list_networks
from network.figures import compute_figures, read_figures
from network.mtnet import MTBlock
from network.registry import find_builder, register
from network.resnet3d import BasicBlock, Bottleneck
from network.srtg import SRTG
from network.variants import MTNET_DEPTHS, VARIANTS

CLIP = (2, 3, 4, 16, 16)
CLASSES = 5


#: One network of each kind of block and of convolution, of those that are built quickly.
FIGURES_BY_DEFAULT = ("r3d_18", "srtg_r2plus1d_18", "srtg_ir_csn_50", "ip_csn_50", "mtnet_xs_g8")


def expected_names():
    plain = [
        *(
            f"{kind}_{depth}"
            for kind in ("r3d", "r2plus1d")
            for depth in (18, 34, 50, 101, 152, 200)
        ),
        *(
            f"{kind}xt{row}"
            for kind in ("r3d", "r2plus1d")
            for row in ("34_32d", "50_32x4d", "101_32x8d")
        ),
        *(f"wide_{kind}{row}" for kind in ("r3d", "r2plus1d") for row in ("50_2", "101_2")),
        *(f"{kind}_csn_{depth}" for kind in ("ir", "ip") for depth in (50, 101, 152)),
    ]
    mtnets = [
        f"mtnet_{size}{suffix}"
        for size in ("xs", "s", "m", "l", "xl", "xxl")
        for suffix in ("", "_g8")
    ]
    return {*plain, *(f"srtg_{name}" for name in plain), *mtnets}


def test_every_name_of_the_families_is_registered_once():
    assert set(list_networks()) == expected_names()
    assert len(list_networks()) == len(set(list_networks()))


def test_case_does_not_matter():
    assert find_builder("MTNet_s") is find_builder("mtnet_s")


def test_unknown_name_gets_the_nearest_three():
    with pytest.raises(
        NetworkError, match="unknown network 'srtg_r3d_35'; the nearest are"
    ) as error:
        build_network("srtg_r3d_35", 10)
    assert "srtg_r3d_34" in str(error.value)
    assert str(error.value).count(", ") == 2


def test_a_name_that_contains_another_is_not_taken_for_it():
    with torch.device("meta"):
        assert not any(isinstance(m, SRTG) for m in build_network("r3d_18", 5).modules())
        assert any(isinstance(m, SRTG) for m in build_network("srtg_r3d_18", 5).modules())
        assert len(build_network("mtnet_xl", 5).layer3) == 36


def test_a_duplicate_name_is_an_error():
    with pytest.raises(NetworkError, match="two networks"):
        register("R3D_18", build_network)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("r3d_18", {"gates": True}, "srtg_ networks only"),
        ("r3d_18", {"place": "top"}, "srtg_ networks only"),
        ("srtg_r3d_18", {"place": "end"}, "start, top, mid, bottom, res, final"),
        ("srtg_r3d_34", {"expansion": 4}, "expansion"),
        ("mtnet_xs", {"gates": True}, "mtnet_"),
        ("srtg_r3d_18", {"recurrent_init": "ones"}, "recurrent_init"),
    ],
)
def test_options_a_network_lacks_are_refused_with_a_sentence(name, options, sentence):
    with torch.device("meta"), pytest.raises(NetworkError, match=sentence):
        build_network(name, 5, **options)


def test_no_classes_is_refused():
    with pytest.raises(NetworkError, match="at least one class"):
        build_network("r3d_18", 0)


def test_the_stored_figures_are_of_all_networks():
    assert list(read_figures()) == list_networks()


@pytest.mark.parametrize("name", FIGURES_BY_DEFAULT)
def test_the_stored_figures_are_true(name):
    assert read_figures()[name] == compute_figures(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(expected_names() - set(FIGURES_BY_DEFAULT)))
def test_the_stored_figures_of_every_other_network_are_true(name):
    assert read_figures()[name] == compute_figures(name)


def check_blocks(name, net):
    """The blocks of `net` are what its name says."""
    layers = [net.layer1, net.layer2, net.layer3, net.layer4]
    depths = tuple(len(layer) for layer in layers)
    if name.startswith("mtnet"):
        assert depths == MTNET_DEPTHS[name.split("_")[1]]
        groups = 7 if name.endswith("_g8") else 1
        blocks = [m for m in net.modules() if isinstance(m, MTBlock)]
        assert {block.conv2.conv_short.groups for block in blocks} == {groups}
        return
    plain = name.removeprefix("srtg_")
    variant = VARIANTS[plain]
    blocks = [block for layer in layers for block in layer]
    assert depths == variant.depths
    assert {type(block) for block in blocks} == {
        BasicBlock if "18" in name or "34" in name else Bottleneck
    }
    assert all(hasattr(block, "sar") == name.startswith("srtg_") for block in blocks)
    spatial = [
        m
        for b in blocks
        for m in b.conv2.modules()
        if isinstance(m, nn.Conv3d) and m.kernel_size[2] == 3
    ]
    assert {m.kernel_size for m in spatial} == {(1, 3, 3) if "r2plus1d" in name else (3, 3, 3)}
    if "csn" in name:
        assert all(m.groups == m.in_channels for m in spatial)
    else:
        assert {m.groups for m in spatial} == {32 if "xt" in name else 1}
    if "wide" in name:
        assert net.layer1[0].conv1[0].out_channels == 128


DEEP = ("101", "152", "200", "_m", "_l", "_xl", "_xxl")


@pytest.mark.parametrize("name", sorted(expected_names()))
def test_every_name_builds_and_runs(name):
    """On the meta device: every shape, forward and backward, and not a number computed."""
    with torch.device("meta"):
        net = build_network(name, CLASSES)
    check_blocks(name, net)
    deep = any(part in name for part in DEEP)  # rows of the same blocks: forward says enough
    with torch.set_grad_enabled(not deep):
        logits = net(torch.empty(*CLIP, device="meta"))
    assert logits.shape == (2, CLASSES)
    if not deep:
        logits.sum().backward()
        assert all(p.grad.shape == p.shape for p in net.parameters())


FAMILIES = ("r3d_18", "r2plus1dxt34_32d", "ir_csn_50", "ip_csn_50")
SMALLEST = [
    *(prefix + name for name in FAMILIES for prefix in ("", "srtg_")),
    "srtg_r2plus1d_18",
    "mtnet_xs",
    "mtnet_xs_g8",
]


def check_runs(name, shape):
    torch.manual_seed(0)
    net = build_network(name, CLASSES)
    clip = torch.randn(*shape)
    nn.functional.cross_entropy(net(clip), torch.tensor([1, 3])).backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    with torch.device("meta"):
        other = build_network(name, CLASSES)
    other.to_empty(device="cpu").load_state_dict(net.state_dict())
    # to rounding: a kernel may take another path where the memory happens to lie otherwise
    assert torch.allclose(net.eval()(clip), other.eval()(clip), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SMALLEST)
def test_the_smallest_of_each_family_runs_learns_and_round_trips(name):
    check_runs(name, CLIP)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(expected_names() - set(SMALLEST)))
def test_every_other_name_runs_learns_and_round_trips(name):
    # The deep stages of CLIP are one value a clip. Batch norm over two values multiplies gradients
    # by up to 1 / sqrt(eps) a layer: a hundred layers of that overflow, or not, by a rounding.
    check_runs(name, (2, 3, 4, 64, 64))


@pytest.mark.parametrize(
    "name", ["srtg_r3d_18", "srtg_r2plus1d_18", "srtg_ir_csn_50", "mtnet_xs", "mtnet_xs_g8"]
)
@pytest.mark.parametrize(
    "shape", [(1, 16, 16), (2, 17, 33), (3, 40, 16), (5, 32, 32), (17, 16, 18)]
)
def test_any_clip_of_one_frame_and_16_pixels_or_more(name, shape):
    with torch.device("meta"):
        net = build_network(name, CLASSES).eval()
    assert net(torch.empty(1, 3, *shape, device="meta")).shape == (1, CLASSES)


@pytest.mark.parametrize("name", ["srtg_r3d_50", "srtg_ip_csn_50", "r2plus1d_50"])
def test_expansion_four_is_the_classic_bottleneck(name):
    with torch.device("meta"):
        net = build_network(name, CLASSES, expansion=4)
    assert net.fc.in_features == 2048
    assert net.layer1[0].downsample[0].out_channels == 256
    assert net(torch.empty(*CLIP, device="meta")).shape == (2, CLASSES)
