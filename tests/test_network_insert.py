"""SRTG behind the stages of networks that are not ours."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models import video

from network import NetworkError, gate_rates, insert_srtg

RESIDUAL = ["layer1.2", "layer2.2", "layer3.2", "layer4.2"]


@pytest.mark.parametrize(
    ("build", "blocks", "side"),
    [
        (video.r3d_18, RESIDUAL, 32),
        (video.mc3_18, RESIDUAL, 32),
        (video.r2plus1d_18, RESIDUAL, 32),
        (video.s3d, ["features.6.srtg", "features.12.srtg", "features.16"], 224),
    ],
)
def test_torchvision_networks_get_one_per_stage(build, blocks, side):
    net = build(num_classes=5)
    names = set(net.state_dict())
    assert insert_srtg(net, gates=True) is net
    assert names < set(net.state_dict())
    assert list(gate_rates(net)) == blocks
    clip = torch.randn(1, 3, 16, side, side)
    if side == 32:
        clip = torch.randn(2, 3, 8, side, side)
        net = copy.deepcopy(net)
        net(clip).sum().backward()
    else:
        with torch.no_grad():
            assert net(clip).shape == (1, 5)
    assert all(0 <= rate <= 1 for rate in gate_rates(net).values())


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv3d(3, 4, 3, stride=2, padding=1), nn.Conv3d(4, 6, 3)

    def forward(self, x):
        return self.b(self.a(x)).mean((2, 3, 4))


def test_modules_may_be_named():
    net = insert_srtg(Plain().double(), where=["a"])
    assert net.a.srtg.lstm.hidden_size == 4
    clip = torch.randn(2, 3, 8, 16, 16, dtype=torch.float64)
    features = []
    net.a.register_forward_hook(lambda m, i, o: features.append(o))
    net(clip)
    assert torch.equal(
        features[0], net.a.srtg(nn.functional.conv3d(clip, net.a.weight, net.a.bias, 2, 1))
    )


def test_a_network_without_stages_or_with_a_wrong_name_is_refused():
    with pytest.raises(NetworkError, match="no stage found"):
        insert_srtg(Plain())
    with pytest.raises(NetworkError, match="'c' is not a submodule"):
        insert_srtg(Plain(), where=["c"])
