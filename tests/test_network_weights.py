"""Checkpoints: whose names fit, what is reported, what is refused."""

import hashlib

import pytest
import torch
from torch import nn
from torchvision.models import video

from network import NetworkError, build_network, load_weights, weights


@pytest.fixture(scope="module")
def net():
    return build_network("srtg_r3d_18", 7)


def test_our_checkpoint_file_loads_whole(net, tmp_path):
    torch.save({"state_dict": net.state_dict(), "epoch": 3}, tmp_path / "last.pth")
    other = build_network("srtg_r3d_18", 7)
    report = load_weights(other, tmp_path / "last.pth")
    assert (report.skipped, report.missing) == ((), ())
    assert set(report.loaded) == set(net.state_dict())
    assert all(
        torch.equal(a, b)
        for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_data_parallel_prefix_is_dropped(net):
    state = {f"module.{name}": value for name, value in net.state_dict().items()}
    assert len(load_weights(build_network("srtg_r3d_18", 7), state).loaded) == len(state)


def test_another_class_count_keeps_the_fresh_classifier(net):
    other = build_network("srtg_r3d_18", 9)
    fresh = other.fc.weight.clone()
    report = load_weights(other, net.state_dict())
    assert [name for name, _ in report.skipped] == ["fc.weight", "fc.bias"]
    assert "(7, 512)" in report.skipped[0][1]
    assert "(9, 512)" in report.skipped[0][1]
    assert report.missing == ("fc.weight", "fc.bias")
    assert torch.equal(other.fc.weight, fresh)
    assert "fc.weight" in str(report)
    assert str(report).startswith("loaded")


TORCHVISION = [("r3d_18", video.r3d_18), ("r2plus1d_18", video.r2plus1d_18)]


@pytest.mark.parametrize(("name", "build"), TORCHVISION)
def test_torchvision_names_load_where_the_network_does_not_pool(name, build):
    theirs = build(num_classes=7)
    ours = build_network(name, 7)
    ours.pool = torch.nn.Identity()  # torchvision's has none; else the two are one network
    report = load_weights(ours, theirs.state_dict())
    assert (report.skipped, report.missing) == ((), ())
    clip = torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        assert torch.allclose(ours.eval()(clip), theirs.eval()(clip), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("name", "build"), TORCHVISION)
def test_torchvision_weights_are_refused_where_the_network_pools(name, build, tmp_path):
    theirs = build(num_classes=7).state_dict()
    torch.save(theirs, tmp_path / "theirs.pth")
    ours = build_network(name, 7)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    for source in (theirs, tmp_path / "theirs.pth"):
        with pytest.raises(NetworkError, match="do not pool behind their stem"):
            load_weights(ours, source)
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_torchvision_weights_without_their_list_of_modules_are_known_by_checksum(
    tmp_path, monkeypatch
):
    """The file cannot be had here, so the checksum of another one stands for its own."""
    file = tmp_path / "renamed.pth"
    torch.save(dict(video.r2plus1d_18(num_classes=7).state_dict()), file)
    ours = build_network("r2plus1d_18", 7)
    load_weights(ours, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    monkeypatch.setattr("network.weights.TORCHVISION_R2PLUS1D", digest)
    with pytest.raises(NetworkError, match="do not pool behind their stem"):
        load_weights(ours, file)
    url = video.R2Plus1D_18_Weights.KINETICS400_V1.url
    monkeypatch.undo()
    assert url.endswith(f"-{weights.TORCHVISION_R2PLUS1D}.pth")


def test_our_own_bare_state_dicts_are_not_taken_for_torchvisions(tmp_path):
    net = build_network("r2plus1d_18", 7)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    assert not load_weights(net, tmp_path / "net.pth").missing
    original = {"state_dict": video.r2plus1d_18(num_classes=7).state_dict(), "epoch": 3}
    torch.save(original, tmp_path / "net.pth")  # the names of the originals' early versions
    assert not load_weights(net, tmp_path / "net.pth").missing


def test_plain_weights_start_an_srtg_network(net):
    report = load_weights(build_network("srtg_r3d_18", 7), build_network("r3d_18", 7).state_dict())
    assert not report.skipped
    assert all(".sar.lstm." in name for name in report.missing)


@pytest.mark.parametrize("total", [4, 5])
def test_half_of_the_tensors_are_enough_and_one_fewer_are_not(total):
    net = nn.ParameterList(nn.Parameter(torch.zeros(2)) for _ in range(total))
    half = -(-total // 2)
    given = {str(i): torch.full((2,), i + 1.0) for i in range(half)}
    assert len(load_weights(net, given).loaded) == half
    assert net[0].tolist() == [1.0, 1.0]
    given.pop("0")
    with pytest.raises(NetworkError, match=f"fits {half - 1} of the network's {total} tensors"):
        load_weights(net, given)


def test_a_strict_load_asks_for_just_the_networks_tensors(net):
    state = net.state_dict()
    assert not load_weights(net, state, strict=True).missing
    names = list(state)
    fewer = {name: state[name] for name in names[4:]}
    said = rf"4 of {len(names)} tensors are missing \({names[0]}, {names[1]}, {names[2]}, \.\.\.\)"
    with pytest.raises(NetworkError, match=said):
        load_weights(net, fewer, strict=True)
    with pytest.raises(NetworkError, match="more is not in the network"):
        load_weights(net, {**state, "more": torch.ones(1)}, strict=True)
    with pytest.raises(NetworkError, match=r"fc\.bias has shape \(9,\)"):
        load_weights(net, {**state, "fc.bias": torch.ones(9)}, strict=True)


def test_weights_that_cannot_be_right_are_refused_and_nothing_is_taken(net):
    state = net.state_dict()
    before = net.fc.weight.clone()
    for name, value in (
        ("fc.bias", torch.full((7,), torch.nan)),
        ("fc.bias", torch.ones(7, dtype=torch.int64)),
        ("stem.1.running_var", -torch.ones(64)),
    ):
        given = {**state, "fc.weight": torch.ones_like(before), name: value}
        with pytest.raises(NetworkError, match=name):
            load_weights(net, given)
    assert torch.equal(net.fc.weight, before)


def test_another_network_is_refused(net):
    with pytest.raises(NetworkError, match="fewer than half"):
        load_weights(net, build_network("mtnet_xs", 7).state_dict())


@pytest.mark.parametrize(
    "content", [b"", b"no checkpoint", b"PK\x03\x04 torn", bytes(range(256)) * 20]
)
def test_a_file_that_is_no_checkpoint_is_one_sentence(net, tmp_path, content):
    file = tmp_path / "net.pth"
    file.write_bytes(content)
    with pytest.raises(NetworkError, match=r"net\.pth: cannot be read") as error:
        load_weights(net, file)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(net, tmp_path):
    with pytest.raises(NetworkError, match="no such file"):
        load_weights(net, tmp_path / "net.pth")


def test_a_flipped_bit_is_noticed(net, tmp_path):
    file = tmp_path / "net.pth"
    torch.save(net.state_dict(), file)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    with pytest.raises(NetworkError, match="damaged"):
        load_weights(net, file)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"state_dict": 4}])
def test_a_file_without_tensors_is_refused(net, tmp_path, content):
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(NetworkError, match="no named tensors"):
        load_weights(net, tmp_path / "net.pth")
