"""Weights of other projects: the network computes what their own code computes, or refuses."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_networks import CSN, HaraResNet, ig65m, pytorchvideo_names, randomised
from torch import nn
from torchvision.models import get_model, get_model_weights

from network import (
    NetworkError,
    build_network,
    insert_srtg,
    list_pretrained,
    load_pretrained,
)
from network.classifier import classifier_name
from network.cost import count_parameters
from network.input_profile import DEFAULT_PROFILE, InputProfile
from network.pretrained import download
from network.pretrained.opening import open_pretrained
from network.pretrained.source import Source
from network.pretrained.sources import OTHERS, find_source
from network.registry import list_networks, list_torchvision_networks

CLIP = (2, 3, 4, 16, 16)
RESNETS = ("r3d_18", "r2plus1d_18")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """torch.hub's folder of checkpoints, an empty one."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def logits(net: nn.Module, shape=CLIP) -> torch.Tensor:
    """Logits in float64 of random clips."""
    clips = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return net.double().eval()(clips)


def assert_same_function(ours: nn.Module, theirs: nn.Module, shape=CLIP) -> None:
    ours, theirs = logits(ours, shape), logits(theirs, shape)
    assert theirs.std() > 1e-3  # they tell the two clips and the classes apart
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def place(folder, source: str, net: nn.Module):
    path = folder / find_source(source).file_name
    torch.save(net.state_dict(), path)
    return path


@pytest.mark.parametrize("name", RESNETS)
def test_torchvisions_resnets_are_computed_exactly_by_name_and_by_file(name, hub, tmp_path):
    theirs = randomised(get_model(name, num_classes=400))
    path = place(hub, f"torchvision:{name}", theirs)
    by_name = load_pretrained(f"torchvision:{name}")
    assert (by_name.network_name, by_name.build_options) == (name, {"pool": "none"})
    path.rename(tmp_path / "x.pth")
    by_file = open_pretrained(tmp_path / "x.pth")
    assert (by_file.network, by_file.options) == (name, {"pool": "none"})
    assert by_file.profile == by_name.input_profile
    assert_same_function(by_name, theirs)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("mc3_18", CLIP), ("s3d", (2, 3, 14, 224, 224)), ("swin3d_t", (2, 3, 2, 32, 32))],
)
def test_torchvisions_other_networks_are_torchvisions_own(name, shape, tmp_path):
    theirs = randomised(get_model(name, num_classes=7))
    torch.save(theirs.state_dict(), tmp_path / "x.pth")
    ours = load_pretrained(tmp_path / "x.pth")
    assert ours.network_name == f"torchvision:{name}"
    assert type(ours) is type(theirs)
    if name != "s3d":  # it is slow in float64
        assert_same_function(ours, theirs, shape)
    assert all(torch.equal(a, b) for a, b in zip(
        ours.double().state_dict().values(), theirs.double().state_dict().values(), strict=True
    ))  # fmt: skip


@pytest.mark.parametrize("name", [name.partition(":")[2] for name in list_torchvision_networks()])
def test_every_network_of_torchvision_is_recognised_by_its_tensors(name):
    from network.pretrained.recognition import recognise

    with torch.device("meta"):
        state = get_model(name, num_classes=11).state_dict()
    found = recognise(state)
    # this project's r2plus1d_18 has the same tensors, see test_a_wrapped_r2plus1d_18_is_ours
    assert found.network.removeprefix("torchvision:") == name


@pytest.mark.slow
def test_ig65m_is_computed_exactly_at_its_full_depth(hub):
    theirs = randomised(ig65m(400))
    source = "ig65m:r2plus1d_34_clip8_kinetics"
    place(hub, source, theirs)
    ours = load_pretrained(source)
    assert count_parameters(ours) == 63_697_175
    assert {(m.eps, m.momentum) for m in ours.modules() if isinstance(m, nn.BatchNorm3d)} == {
        (1e-3, 0.9)
    }
    assert_same_function(ours, theirs)
    assert (ours.input_profile.frames, ours.input_profile.crop) == (8, 112)


def test_ig65ms_options_are_computed_exactly():
    """With two blocks in each stage, which is quicker; the depth is only a number of blocks."""
    theirs = randomised(ig65m(9, depths=(2, 2, 2, 2)))
    ours = build_network("r2plus1d_18", 9, pool="none", middle="conv", norm_eps=1e-3)
    ours.load_state_dict(theirs.state_dict())
    assert_same_function(ours, theirs)


@pytest.mark.parametrize("preserved", [False, True], ids=["reduced", "preserved"])
def test_mmactions_csn_is_computed_exactly(preserved, tmp_path):
    theirs = randomised(CSN((3, 4, 6, 3), 9, preserved=preserved))
    torch.save({"meta": {}, "state_dict": theirs.state_dict()}, tmp_path / "csn.pth")
    ours = load_pretrained(tmp_path / "csn.pth")
    assert ours.network_name == ("ip_csn_50" if preserved else "ir_csn_50")
    assert_same_function(ours, theirs)
    bare = {name.removeprefix("backbone."): v for name, v in theirs.state_dict().items()}
    torch.save(bare, tmp_path / "bare.pth")
    assert torch.equal(logits(load_pretrained(tmp_path / "bare.pth")), logits(ours))


def test_pytorchvideos_csn_is_computed_exactly(hub):
    theirs = randomised(CSN((3, 4, 23, 3), 400, eps=1e-5))
    path = hub / "CSN_32x2_R101.pyth"
    torch.save({"model_state": pytorchvideo_names(theirs)}, path)
    ours = load_pretrained("pytorchvideo:csn_r101")
    assert ours.input_profile.interval == 2
    assert_same_function(ours, theirs)


@pytest.mark.parametrize(
    ("name", "depths", "bottleneck"),
    [("r3d_18", (2, 2, 2, 2), False), ("r3d_50", (3, 4, 6, 3), True)],
)
def test_3d_resnets_are_computed_exactly(name, depths, bottleneck, tmp_path):
    theirs = randomised(HaraResNet(depths, 12, bottleneck=bottleneck))
    state = {f"module.{key}": value for key, value in theirs.state_dict().items()}
    torch.save({"epoch": 200, "arch": "resnet", "state_dict": state}, tmp_path / "r3d_K.pth")
    ours = load_pretrained(tmp_path / "r3d_K.pth")
    assert ours.network_name == name
    assert ours.input_profile.mean == (0.4345, 0.4051, 0.3775)
    assert_same_function(ours, theirs)


@pytest.mark.parametrize(
    "name",
    ["r3d_34", "srtg_r3d_50", "r2plus1d_50", "r2plus1dxt34_32d", "wide_r3d50_2", "ip_csn_50",
     "srtg_r2plus1d_18", "mtnet_s", "mtnet_xs_g8"],
)  # fmt: skip
def test_the_originals_files_are_recognised_by_their_tensors(name):
    from network.pretrained.recognition import recognise

    with torch.device("meta"):
        state = build_network(name, 11).state_dict()
    found = recognise(state)
    assert (found.network, found.options) == (name, {})


def test_a_bottleneck_of_expansion_four_is_recognised():
    from network.pretrained.recognition import recognise

    with torch.device("meta"):
        state = build_network("r3d_50", 11, expansion=4).state_dict()
    found = recognise(state)
    assert (found.network, found.options) == ("r3d_50", {"expansion": 4})


def test_a_wrapped_r2plus1d_18_is_ours(tmp_path):
    """The names and shapes of torchvision's are the same; the originals' files are wrapped."""
    state = build_network("r2plus1d_18", 5).state_dict()
    for content in ({"state_dict": dict(state)}, state):
        torch.save(content, tmp_path / "x.pth")
        weights = open_pretrained(tmp_path / "x.pth")
        assert (weights.network, weights.options) == ("r2plus1d_18", {})
        assert weights.profile == DEFAULT_PROFILE


def test_another_number_of_classes_gets_a_fresh_classifier(tmp_path):
    theirs = get_model("mc3_18", num_classes=6)
    torch.save(theirs.state_dict(), tmp_path / "x.pth")
    kept = load_pretrained(tmp_path / "x.pth", num_classes=6)
    assert torch.equal(kept.fc.weight, theirs.fc.weight)
    fresh = load_pretrained(tmp_path / "x.pth", num_classes=4)
    assert fresh.fc.weight.shape == (4, 512)
    assert torch.equal(fresh.stem[0].weight, theirs.stem[0].weight)
    assert (fresh.classes, load_pretrained(tmp_path / "x.pth").classes) == ((), ())
    without = {name: v for name, v in theirs.state_dict().items() if not name.startswith("fc.")}
    torch.save(without, tmp_path / "x.pth")
    with pytest.raises(NetworkError, match="has no classifier: give the number of classes"):
        load_pretrained(tmp_path / "x.pth")
    assert load_pretrained(tmp_path / "x.pth", num_classes=3).fc.out_features == 3


def test_torchvisions_class_names_come_with_its_weights(hub):
    place(hub, "torchvision:mc3_18", get_model("mc3_18"))
    net = load_pretrained("torchvision:mc3_18")
    assert (len(net.classes), net.classes[0]) == (400, "abseiling")


def test_every_tensor_of_the_backbone_must_find_its_place(tmp_path):
    state = CSN((3, 4, 6, 3), 3).state_dict()
    theirs, ours = "backbone.layer3.1.conv3.conv.weight", "layer3.1.conv3.0.weight"
    fewer = {name: v for name, v in state.items() if name != theirs}
    for wrong, said in (
        ({**state, "layer5.0.weight": torch.ones(1)}, r"layer5\.0\.weight is not in the network"),
        (fewer, f"{ours} is missing"),
        ({**state, theirs: torch.ones(2)}, rf"{ours} has shape \(2,"),
    ):
        torch.save(wrong, tmp_path / "x.pth")
        with pytest.raises(NetworkError, match=rf"x\.pth: .*{said}") as error:
            load_pretrained(tmp_path / "x.pth")
        assert "\n" not in str(error.value)


def test_weights_of_another_network_are_refused_or_loaded_in_part(tmp_path):
    state = CSN((3, 4, 6, 3), 3).state_dict()
    torch.save(state, tmp_path / "x.pth")
    said = r"weights of ir_csn_50, not of ir_csn_101: .* ir_csn_50 or srtg_ir_csn_50"
    with pytest.raises(NetworkError, match=said):
        load_pretrained(tmp_path / "x.pth", network="ir_csn_101")
    net = load_pretrained(tmp_path / "x.pth", network="ir_csn_101", num_classes=3, partial=True)
    assert net.build_options == {"expansion": 4, "pool": "space", "norm_eps": 1e-3}
    assert torch.equal(net.layer1[1].conv2[1].weight, state["backbone.layer1.1.conv2.0.bn.weight"])
    assert torch.equal(net.layer3[22].conv3[1].weight, torch.ones(1024))  # as it was built


def test_options_that_would_change_the_function_are_refused(tmp_path):
    torch.save(CSN((3, 4, 6, 3), 3).state_dict(), tmp_path / "x.pth")
    with pytest.raises(NetworkError, match="needs pool='space', not 'full'"):
        load_pretrained(tmp_path / "x.pth", pool="full")
    assert load_pretrained(tmp_path / "x.pth", norm_momentum=0.3).stem[1].momentum == 0.3
    with pytest.raises(NetworkError, match="no option 'pol'"):
        load_pretrained(tmp_path / "x.pth", pol="full")


def test_networks_with_other_arithmetic_are_refused(tmp_path):
    """Layouts whose names are alike, but which compute something else than ours do."""
    for state in (
        {"blocks.1.res_blocks.0.branch2.conv_b.weight": torch.ones(64, 64, 1, 3, 3)},
        {"backbone.layer1.0.conv1.conv.conv_s.weight": torch.ones(144, 64, 1, 3, 3)},
        {"conv1.weight": torch.ones(64, 3, 7, 7), "layer1.0.conv1.weight": torch.ones(1, 1, 3, 3)},
    ):
        torch.save(state, tmp_path / "x.pth")
        with pytest.raises(NetworkError, match="no network that is known"):
            load_pretrained(tmp_path / "x.pth")


def test_srtg_on_pretrained_weights_starts_as_nothing_bit_for_bit(tmp_path):
    name = "r3d_18"
    torch.save(randomised(get_model(name, num_classes=5)).state_dict(), tmp_path / "x.pth")
    plain = load_pretrained(tmp_path / "x.pth").eval()
    clips = torch.randn(CLIP)
    srtg = load_pretrained(tmp_path / "x.pth", network=f"srtg_{name}").eval()
    assert srtg.build_options == {"pool": "none", "srtg_alpha": 0.0}
    with torch.no_grad():
        assert torch.equal(srtg(clips), plain(clips))
    srtg.train()(clips).sum().backward()
    assert all(block.sar.alpha.grad.abs() > 0 for block in (srtg.layer1[0], srtg.layer4[1]))


@pytest.mark.parametrize("gates", [False, True])
def test_srtg_inserted_into_torchvisions_network_starts_as_nothing_bit_for_bit(gates):
    net = randomised(get_model("mc3_18", num_classes=5))
    clips = torch.randn(CLIP)
    with torch.no_grad():
        before = net(clips)
        insert_srtg(net, gates, alpha=0.0)
        assert torch.equal(net(clips), before)
        net.layer2[-1].alpha.fill_(1.0)
        assert gates or not torch.equal(net(clips), before)


def test_srtg_in_torchvisions_own_network_by_name(tmp_path):
    theirs = randomised(get_model("mc3_18", num_classes=5))
    torch.save(theirs.state_dict(), tmp_path / "x.pth")
    ours = load_pretrained(tmp_path / "x.pth", network="srtg_torchvision:mc3_18").eval()
    clips = torch.randn(CLIP)
    with torch.no_grad():
        assert torch.equal(ours(clips), theirs(clips))
    with pytest.raises(NetworkError, match="unknown network 'srtg_torchvision:swin3d_t'"):
        build_network("srtg_torchvision:swin3d_t", 5)


def test_srtg_weights_without_alpha_get_alpha_one(tmp_path):
    published = build_network("srtg_ir_csn_50", 4).eval()
    torch.save({"state_dict": published.state_dict()}, tmp_path / "x.pth")
    clips = torch.randn(CLIP)
    assert not any("alpha" in name for name in load_pretrained(tmp_path / "x.pth").state_dict())
    ours = load_pretrained(tmp_path / "x.pth", srtg_alpha=0.0).eval()
    assert {block.sar.alpha.item() for block in (*ours.layer1, *ours.layer4)} == {1.0}
    with torch.no_grad():
        torch.testing.assert_close(ours(clips), published(clips), rtol=1e-4, atol=1e-5)


def test_an_unknown_source_gets_the_nearest_three():
    with pytest.raises(NetworkError, match="unknown source of weights 'torchvision:r3d_19'") as e:
        load_pretrained("torchvision:r3d_19")
    assert str(e.value).count("torchvision:") == 4


def test_without_a_connection_the_error_says_where_the_file_belongs(hub, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr("urllib.request.OpenerDirector.open", offline)
    for name in ("torchvision:mvit_v2_s", "mmaction2:ircsn_50"):
        source = find_source(name)
        with pytest.raises(NetworkError) as error:
            load_pretrained(name)
        said = str(error.value)
        assert source.url in said and str(hub / source.file_name) in said, said
        assert "Network is unreachable" in said and "\n" not in said
    assert list(hub.iterdir()) == []


def test_a_download_whose_hash_differs_is_not_kept(hub, tmp_path):
    from dataclasses import replace

    file = tmp_path / "weights-0123abcd.pth"
    file.write_bytes(b"not these")
    source = replace(OTHERS["mmaction2:ircsn_50"], url=file.as_uri())
    with pytest.raises(NetworkError, match="another hash than the 0123abcd in its name"):
        download.weights_file(source)
    assert list(hub.iterdir()) == []
    import hashlib

    digits = hashlib.sha256(b"not these").hexdigest()[:8]
    right = file.rename(tmp_path / f"weights-{digits}.pth")
    assert download.weights_file(replace(source, url=right.as_uri())).read_bytes() == b"not these"


def test_a_file_of_other_weights_under_a_sources_name_is_refused(hub):
    place(hub, "torchvision:r3d_18", get_model("mc3_18"))
    with pytest.raises(NetworkError, match="holds weights of torchvision:mc3_18, not of r3d_18"):
        load_pretrained("torchvision:r3d_18")


def test_the_table_of_sources_is_true():
    """Parameters and classes are those of the networks, profiles are complete."""
    for name in list_pretrained():
        source = find_source(name)
        assert isinstance(source, Source) and source.url.startswith("https://")
        assert re.search(r"[a-f0-9]{8}\.pth$", source.file_name) or "CSN_32x2" in source.url
        profile = source.profile
        assert profile.frames and profile.crop and profile.resize and profile.frame_interval
        assert profile == InputProfile.from_dict(profile.as_dict())


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_the_parameters_in_the_table_are_counted(name):
    from network.pretrained.layouts import LAYOUTS

    source = OTHERS[name]
    layout = next(
        one for one in LAYOUTS if one.name == source.layout and source.network in one.networks
    )
    with torch.device("meta"):
        net = build_network(source.network, source.classes, **layout.options)
    assert count_parameters(net) == source.parameters


def test_torchvisions_facts_are_those_of_its_own_table():
    for name, frames, fps in (("r3d_18", 16, 15.0), ("s3d", 128, 15.0), ("mvit_v2_s", 16, 7.5)):
        source, weights = find_source(f"torchvision:{name}"), get_model_weights(name).DEFAULT
        assert (source.url, source.profile.frames, source.profile.fps) == (weights.url, frames, fps)
        assert list(source.profile.std) == weights.transforms().std
    assert find_source("torchvision:swin3d_b_22k").url.endswith("swin3d_b_22k-7c6ae6fa.pth")
    assert find_source("torchvision:mvit_v2_s").top1 == "80.76 (5)"


def test_checkpoints_of_this_project_carry_their_options_and_profile(tmp_path):
    net = build_network("srtg_ir_csn_50", 3, gates=True, pool="space")
    profile = InputProfile((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), frames=8, fps=15.0, crop=64)
    content = {
        "state_dict": net.state_dict(),
        "config": {"network": "srtg_ir_csn_50", "gates": True, "place": "final"},
        "network_options": net.build_options,
        "input_profile": profile.as_dict(),
        "classes": ["a", "b", "c"],
    }
    torch.save(content, tmp_path / "x.pth")
    ours = load_pretrained(tmp_path / "x.pth")
    assert ours.build_options == {"gates": True, "pool": "space"}
    assert (ours.input_profile, ours.classes) == (profile, ("a", "b", "c"))
    with pytest.raises(NetworkError, match="needs gates=True, not False"):
        load_pretrained(tmp_path / "x.pth", gates=False)
    for part, wrong in (
        ("network_options", {"pool": "x"}), ("network_options", [1]), ("input_profile", 3),
        ("input_profile", {"mean": [1]}), ("input_profile", {**profile.as_dict(), "crop": -1}),
    ):  # fmt: skip
        torch.save({**content, part: wrong}, tmp_path / "y.pth")
        with pytest.raises(NetworkError, match=r"y\.pth"):
            load_pretrained(tmp_path / "y.pth")


def test_averaged_weights_are_taken_where_there_are_any(tmp_path):
    net, average = build_network("ir_csn_50", 3), build_network("ir_csn_50", 3)
    ema = {f"module.{name}": v for name, v in average.state_dict().items()}
    content = {"state_dict": net.state_dict(), "ema": {**ema, "n_averaged": torch.tensor(3)},
               "config": {"network": "ir_csn_50"}}  # fmt: skip
    torch.save(content, tmp_path / "x.pth")
    assert torch.equal(load_pretrained(tmp_path / "x.pth").fc.weight, average.fc.weight)
    weights = open_pretrained(tmp_path / "x.pth", averaged=False)
    assert torch.equal(weights.tensors["fc.weight"], net.fc.weight)


def test_the_classifier_is_the_last_layer_of_every_network():
    names = ["r3d_18", "srtg_ip_csn_50", "mtnet_xs", "mtnet_xs_g8", *list_torchvision_networks()]
    assert {name.partition("_")[0] for name in list_networks()} >= {"mtnet", "srtg", "r3d"}
    for name in names:
        with torch.device("meta"):
            net = build_network(name, 37)
        head = net.get_submodule(classifier_name(net))
        assert head.weight.shape[0] == 37, name


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(
    st.sampled_from([*DEFAULT_PROFILE.as_dict(), "more"]), plain | st.lists(plain, max_size=4)
))  # fmt: skip
def test_any_damaged_profile_is_one_error(values):
    values = {**DEFAULT_PROFILE.as_dict(), **values}
    try:
        profile = InputProfile.from_dict(values)
    except NetworkError as error:
        assert "input profile" in str(error)
    else:
        assert InputProfile.from_dict(profile.as_dict()) == profile
        assert str(profile)
