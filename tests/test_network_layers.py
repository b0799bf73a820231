"""Shortcuts that must not change a number: kernel taps and recurrent weights left out."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from network import build_network
from network.layers import Conv3d, scale_frames, spatial_mean
from network.mtnet import halve
from network.recurrent import GRU, LSTM, initialise_recurrent


@pytest.mark.parametrize("sides", [(1, 4, 5), (3, 1, 4), (1, 1, 1), (2, 3, 4)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [(3, 3, 3), (3, 1, 1), (1, 3, 3), (3, 7, 7)])
def test_convolution_equals_the_framework_s(sides, stride, kernel):
    torch.manual_seed(0)
    padding = tuple(k // 2 for k in kernel)
    ours = Conv3d(4, 6, kernel, stride=stride, padding=padding, groups=2, bias=False).double()
    theirs = nn.Conv3d(4, 6, kernel, stride=stride, padding=padding, groups=2, bias=False).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 4, *sides, dtype=torch.float64, requires_grad=True)
    y, z = x.detach().clone().requires_grad_(), torch.randn_like(ours(x))
    (ours(x) * z).sum().backward()
    (theirs(y) * z).sum().backward()
    torch.testing.assert_close(ours(x), theirs(y))
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    torch.testing.assert_close(x.grad, y.grad)


@pytest.mark.parametrize("bias", [False, True])
def test_a_1x1x1_kernel_on_channels_last_equals_the_framework_s(bias):
    torch.manual_seed(0)
    ours, theirs = Conv3d(4, 6, 1, bias=bias), nn.Conv3d(4, 6, 1, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    last = torch.channels_last_3d
    x = torch.randn(2, 4, 3, 4, 5).contiguous(memory_format=last).requires_grad_()
    y, z = x.detach().clone().requires_grad_(), torch.randn(2, 6, 3, 4, 5)
    assert ours(x).is_contiguous(memory_format=last)
    (ours(x) * z).sum().backward()
    (theirs(y) * z).sum().backward()
    torch.testing.assert_close(ours(x), theirs(y))
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    torch.testing.assert_close(x.grad, y.grad)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_sums_over_a_frame_s_pixels(layout):
    x = torch.randn(2, 3, 4, 6, 5, dtype=torch.float64).contiguous(memory_format=layout)
    factors = torch.randn(2, 4, 3, dtype=torch.float64)
    torch.testing.assert_close(spatial_mean(x), x.mean((3, 4)).transpose(1, 2))
    expected = x * factors.transpose(1, 2)[..., None, None]
    torch.testing.assert_close(scale_frames(x, factors), expected)


@pytest.mark.parametrize("sides", [(4, 6), (5, 7), (1, 4), (1, 1)])
def test_halving_is_the_framework_s_average_pooling(sides):
    x = torch.randn(2, 3, 2, *sides, dtype=torch.float64)
    expected = F.avg_pool3d(x, (1, min(2, sides[0]), min(2, sides[1])))
    torch.testing.assert_close(halve(x), expected)


@pytest.mark.parametrize(("ours", "theirs"), [(LSTM, nn.LSTM), (GRU, nn.GRU)])
@pytest.mark.parametrize("frames", [1, 3])
def test_recurrence_equals_the_framework_s(ours, theirs, frames):
    torch.manual_seed(0)
    a, b = ours(5).double(), theirs(5, 5, num_layers=2).double()
    b.load_state_dict(a.state_dict())
    x = torch.randn(frames, 3, 5, dtype=torch.float64)
    (a(x)[0] ** 2).sum().backward()
    (b(x)[0] ** 2).sum().backward()
    torch.testing.assert_close(a(x)[0], b(x)[0])
    for name, parameter in b.named_parameters():
        gradient = dict(a.named_parameters())[name].grad
        assert gradient is not None, name  # an optimiser decays it as it does the framework's
        torch.testing.assert_close(gradient, parameter.grad)


@pytest.mark.parametrize(("kind", "low", "high"), [(LSTM, 0.6, 1), (GRU, 0.2, 0.5)])
@pytest.mark.parametrize("frames", [1, 4])
def test_open_recurrence_starts_open_and_default_near_zero(kind, low, high, frames):
    torch.manual_seed(0)
    layer, x = kind(64), torch.randn(frames, 8, 64)
    default = layer(x)[0].mean().item()
    initialise_recurrent(layer, "open")
    opened = layer(x)[0].mean().item()
    assert abs(default) < 0.1
    assert low < opened < high


@pytest.mark.parametrize("name", ["srtg_r3d_18", "mtnet_xs"])
def test_autocast_leaves_the_recursion_in_float32(name):
    torch.manual_seed(0)
    net = build_network(name, 3)
    dtypes = []
    for module in net.modules():
        if isinstance(module, nn.RNNBase):
            module.register_forward_hook(lambda m, i, o: dtypes.append(o[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(torch.randn(2, 3, 4, 16, 16))
    assert logits.dtype == torch.bfloat16
    assert set(dtypes) == {torch.float32}
    logits.float().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
