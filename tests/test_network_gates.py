"""The temporal gate: the definition, against plain loops, and what must hold of it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from network import build_network, gate_rates
from network.build_options import PLACES
from network.gates import cycle_consistent
from network.srtg import SRTG

shapes = st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 9))
seeds = st.integers(0, 2**32 - 1)


def random(seed, shape, scale=1.0):
    return torch.from_numpy(np.random.default_rng(seed).normal(0, scale, shape))


def by_the_definition(p, s):
    """One clip, (T, C) numpy float64, frame by frame."""

    def returns(here, there):
        for i, frame in enumerate(here):
            distances = ((there - frame) ** 2).sum(1)
            weights = np.exp(-(distances - distances.min()))
            neighbour = (weights / weights.sum()) @ there
            if ((there - neighbour) ** 2).sum(1).argmin() != i:
                return False
        return True

    return returns(p, s) and returns(s, p)


@settings(max_examples=150, deadline=None)
@given(shapes, seeds, st.sampled_from([0.1, 1.0, 3.0]), st.sampled_from([0.0, 0.05, 0.5]))
def test_decisions_follow_the_definition(shape, seed, scale, noise):
    p = random(seed, shape, scale)
    s = p + random(seed + 1, shape, noise * scale) if noise else random(seed + 1, shape, scale)
    expected = [by_the_definition(a.numpy(), b.numpy()) for a, b in zip(p, s, strict=True)]
    assert cycle_consistent(p, s).tolist() == expected


@pytest.mark.parametrize(("frames", "noise"), [(2, 1.8), (3, 1.2), (5, 0.6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_many_close_decisions_follow_the_definition(frames, noise, dtype):
    """Noise at which about half of the clips are consistent, where each detail of it decides."""
    p = random(frames, (400, frames, 3), 1.5)
    s = p + random(frames + 1, p.shape, noise)
    s[:, :, 0] = p[:, :, 0]  # being equal in one channel is not being equal
    expected = [by_the_definition(a.numpy(), b.numpy()) for a, b in zip(p, s, strict=True)]
    assert 80 < sum(expected) < 320
    decided = cycle_consistent(p.to(dtype), s.to(dtype)).tolist()
    assert sum(a != b for a, b in zip(decided, expected, strict=True)) <= (dtype != p.dtype)


@pytest.mark.parametrize("scale", [10, 1e3, 1e30])
def test_nearly_equal_sequences_are_consistent_at_every_scale(scale):
    """Frames lie 14 apart or more, the sequences a hundredth of that."""
    p = torch.eye(6).repeat(4, 1, 1) * scale
    s = p * (1 + random(0, p.shape, 0.01)).float()
    assert cycle_consistent(p, s).all()
    mixed = torch.cat([p, torch.full_like(p, 1e-30)], 2)  # large and small channels together
    assert cycle_consistent(mixed, torch.cat([s, torch.full_like(p, -1e-30)], 2)).all()


def test_many_frames_that_lie_close_together_are_told_apart():
    """Distances by way of products, which torch prefers for 26 frames or more, would cancel."""
    p = 1e5 + random(0, (4, 32, 8), 10)
    s = p + random(1, p.shape, 0.1)
    assert all(by_the_definition(a.numpy(), b.numpy()) for a, b in zip(p, s, strict=True))
    assert cycle_consistent(p.float(), s.float()).all()


def test_nothing_is_kept_for_a_backward_pass():
    p, s = (random(seed, (3, 4, 5)).requires_grad_() for seed in (0, 1))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda tensor: tensor):
        cycle_consistent(p, s)
    assert kept == []


def test_the_definition_opens_some_and_shuts_some():
    p = random(0, (64, 3, 16), 2.0)
    opened = cycle_consistent(p, p + random(1, p.shape, 4.0))
    assert 0 < opened.sum() < 64


@settings(deadline=None)
@given(shapes, seeds, st.sampled_from([1e-30, 1e-3, 1.0, 1e3, 1e30]))
def test_a_sequence_is_consistent_with_itself(shape, seed, scale):
    p = random(seed, shape, scale).float()
    assert cycle_consistent(p, p.clone()).all()


@settings(deadline=None)
@given(shapes, seeds, st.sampled_from([1e-30, 1e-3, 1.0, 1e3, 1e30]))
def test_distinct_frames_reversed_in_time_never_are(shape, seed, scale):
    batch, frames, channels = shape
    p = random(seed, (batch, frames + 1, channels), scale).float()
    assert not cycle_consistent(p, p.flip(1)).any()


@settings(deadline=None)
@given(shapes, seeds)
def test_permuting_clips_permutes_decisions(shape, seed):
    p = random(seed, shape)
    s = p + random(seed + 1, shape, 0.3)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(shape[0]))
    assert torch.equal(cycle_consistent(p[order], s[order]), cycle_consistent(p, s)[order])


def test_one_frame_is_always_consistent():
    assert cycle_consistent(random(0, (5, 1, 4)), random(1, (5, 1, 4))).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_decides_in_float32_at_least_whatever_the_input(dtype):
    p = random(3, (8, 4, 16)).to(dtype)
    s = (p + random(4, p.shape, 0.4)).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = cycle_consistent(p, s)
    assert torch.equal(under_autocast, cycle_consistent(p.double(), s.double()))


def gated(channels=6):
    torch.manual_seed(0)
    return SRTG(channels, gates=True)


@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1.0, 1e20, 1e37])
@pytest.mark.parametrize("sides", [(1, 1), (1, 5), (4, 1), (3, 4)])
def test_huge_and_tiny_activations_and_narrow_maps_stay_finite(scale, sides):
    x = (random(0, (3, 6, 4, *sides)) * scale).float().clamp(-3e38, 3e38)
    before = x.clone()
    y = gated()(x)
    assert y.isfinite().all()
    assert torch.equal(x, before)


def test_shut_clips_pass_untouched_and_send_no_gradient_to_the_recursion(monkeypatch):
    opened = torch.tensor([True, False, True])
    monkeypatch.setattr("network.srtg.cycle_consistent", lambda p, s: opened)
    block, x = gated(), random(0, (3, 6, 4, 2, 2)).float().requires_grad_()
    y = block(x)
    assert torch.equal(y[1], x[1])
    assert not torch.equal(y[0], x[0])
    y[1].sum().backward(retain_graph=True)
    assert all(p.grad is None or not p.grad.any() for p in block.parameters())
    assert torch.equal(x.grad[1], torch.ones_like(x[1]))
    y[0].sum().backward()
    assert block.lstm.weight_ih_l0.grad.any()


def test_rates_count_the_clips_that_passed(monkeypatch):
    block = gated()
    assert np.isnan(gate_rates(block)[""])
    for opened in ([True, False, True, True], [False, False, False, False]):
        decided = torch.tensor(opened)
        monkeypatch.setattr("network.srtg.cycle_consistent", lambda p, s, d=decided: d)
        block(torch.zeros(4, 6, 3, 2, 2))
    assert gate_rates(block) == {"": 3 / 8}
    assert gate_rates(block, reset=True) == {"": 3 / 8}
    assert np.isnan(gate_rates(block)[""])


def test_rates_name_every_block_and_no_state_dict_changes():
    gated, plain = build_network("srtg_r3d_18", 3, gates=True), build_network("srtg_r3d_18", 3)
    gated(torch.randn(2, 3, 4, 16, 16))
    rates = gate_rates(gated)
    assert list(rates) == [f"layer{i}.{j}.sar" for i in (1, 2, 3, 4) for j in (0, 1)]
    assert rates["layer4.1.sar"] == 1.0  # one frame left
    assert gate_rates(plain) == {}
    assert list(gated.state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize("name", ["srtg_r3d_18", "srtg_r3d_50", "srtg_r2plus1d_18"])
@pytest.mark.parametrize("place", PLACES)
def test_every_placement_works_on_both_kinds_of_block(name, place):
    torch.manual_seed(0)
    with torch.device("meta"):
        block = build_network(name, 3, place=place).layer2[0]
    block = block.to_empty(device="cpu")
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, 0, 0.1)
    x = torch.randn(2, block.downsample[0].in_channels, 4, 6, 6)
    out = block(x)
    assert out.shape == (2, 128, 2, 3, 3)
    out.square().sum().backward()
    assert block.sar.lstm.weight_ih_l1.grad.any()
    seen = []
    block.sar.register_forward_hook(lambda m, i, o: seen.append(i[0].shape[2:]))
    block(x)
    early = {"start"} if "18" in name else {"start", "top"}
    assert seen == [torch.Size((4, 6, 6) if place in early else (2, 3, 3))]


def test_placements_differ_in_what_they_multiply():
    torch.manual_seed(0)
    nets = {place: build_network("srtg_r3d_18", 3, place=place).eval() for place in PLACES}
    state = nets["bottom"].state_dict()
    clip = torch.randn(1, 3, 4, 32, 32)
    logits = {}
    for place in ("bottom", "res", "final"):  # their recursions are equally wide
        nets[place].load_state_dict(state)
        logits[place] = nets[place](clip)
    assert not torch.allclose(logits["bottom"], logits["final"], rtol=1e-4)
    assert not torch.allclose(logits["bottom"], logits["res"], rtol=1e-4)
