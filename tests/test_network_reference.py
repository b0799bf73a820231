"""The originals' own figures: names, counts, logits and gradients under a fixed fill."""

import importlib.util
import json

import pytest
import torch

from network import build_network, load_weights
from network.cost import count_macs, count_parameters

NAMES = (
    "r3d_18",
    "r3d_50",
    "r2plus1d_18",
    "srtg_r3d_18",
    "srtg_r3d_34",
    "srtg_r2plus1d_18",
    "MTNet_xs",
    "MTNet_s_g8",
    "ir_csn_50",
    "ip_csn_50",
)


@pytest.fixture(scope="module")
def reference(real_data):
    folder = real_data / "reference" / "networks"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: it holds the originals' figures")
    return folder


@pytest.fixture(scope="module")
def figures(reference):
    return json.loads((reference / "networks.json").read_text())


@pytest.fixture(scope="module")
def fill_rule(reference):
    spec = importlib.util.spec_from_file_location("fill_rule", reference / "fill_rule.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.self_test()
    return module


@pytest.mark.parametrize("name", NAMES)
def test_names_shapes_and_counts(name, figures, reference):
    with torch.device("meta"):
        net = build_network(name, 400)
    assert count_parameters(net) == figures[name]["parameters"]
    keys = json.loads((reference / "keys" / f"{name}.json").read_text())["state_dict"]
    expected = {key["key"]: tuple(key["shape"]) for key in keys}
    assert {key: tuple(value.shape) for key, value in net.state_dict().items()} == expected
    for shape, macs in figures[name]["macs"].items():
        assert count_macs(net, *map(int, shape.split("x"))) == macs, shape


def filled(name, gain, fill_rule, prefix=""):
    """The network with 10 classes, its weights loaded the way a user loads an old checkpoint."""
    with torch.device("meta"):
        net = build_network(name, 10)
    net = net.to_empty(device="cpu")
    state = {key: torch.zeros(value.shape) for key, value in net.state_dict().items()}
    fill_rule.fill_state_dict(state, gain)
    report = load_weights(net, {"state_dict": {prefix + k: v for k, v in state.items()}})
    assert not report.skipped
    assert not report.missing
    return net.double().eval()


def compare(name, case, fill_rule):
    net = filled(name, case["gain"], fill_rule, prefix="module.")
    batch, _, *sides = case["shape"]
    clip = torch.from_numpy(fill_rule.clip(batch, *sides)).double()
    logits = net(clip)
    expected = torch.tensor(case["eval_logits_f64"], dtype=torch.float64)
    assert (logits - expected).abs().max() < 1e-8 * case["rms"]
    logits.square().sum().backward()
    parameters = dict(net.named_parameters())
    for key, norm in case.get("eval_grad_norm_f64", {}).items():
        assert parameters[key].grad.norm().item() == pytest.approx(norm, rel=1e-6)
    with torch.no_grad():
        single = net.float()(clip.float())
    assert (single.double() - expected).abs().max() < 1e-4 * case["rms"]


@pytest.mark.parametrize("name", NAMES)
def test_logits_and_gradients(name, figures, fill_rule):
    compare(name, figures[name]["cases"]["c8x64"], fill_rule)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_logits_and_gradients_of_longer_and_larger_clips(name, figures, fill_rule):
    for case in figures[name]["cases"].values():
        compare(name, case, fill_rule)
