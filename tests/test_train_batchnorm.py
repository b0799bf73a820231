"""Split batch norm: each sub-batch as `BatchNorm3d` would treat it, nothing else changed."""

import copy
import multiprocessing

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from network.srtg import SRTG, gate_rates
from train.batchnorm import (
    SplitBatchNorm3d,
    StepNorms,
    estimate_statistics,
    number_of_groups,
    shortage,
    split_batch_norm,
    synchronise_batch_norm,
)
from train.devices import Devices


def network() -> nn.Sequential:
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv3d(3, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ReLU(), nn.BatchNorm3d(6)
    )
    with torch.no_grad():
        net[1].weight.uniform_(0.5, 2)
        net[1].bias.normal_()
    return net


def clips(batch: int, seed: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, 2, 6, 6, generator=torch.Generator().manual_seed(seed)) * 3 + 1


@pytest.mark.parametrize(("batch", "parts"), [(16, (8, 8)), (9, (5, 4)), (17, (6, 6, 5))])
def test_each_part_is_normalised_by_itself_and_so_are_the_gradients(batch, parts):
    norm, alone = nn.BatchNorm3d(3), nn.BatchNorm3d(3)
    split_batch_norm(norm, 8)
    x = clips(batch).requires_grad_()
    y = norm(x)
    y.square().sum().backward()
    x_alone = clips(batch).requires_grad_()
    expected = torch.cat([alone(part) for part in x_alone.split(list(parts))])
    expected.square().sum().backward()
    assert torch.equal(y, expected)
    assert torch.allclose(x.grad, x_alone.grad, atol=1e-5)
    assert torch.allclose(norm.weight.grad, alone.weight.grad, rtol=1e-4)


def test_running_statistics_are_the_mean_of_the_parts():
    norm = nn.BatchNorm3d(3)
    split_batch_norm(norm, 8)
    x = clips(9)
    norm(x)
    parts = [x[:5], x[5:]]
    mean = sum(part.mean((0, 2, 3, 4)) * len(part) / 9 for part in parts)
    variance = sum(part.var((0, 2, 3, 4)) * len(part) / 9 for part in parts)
    assert torch.allclose(norm.running_mean, 0.1 * mean, atol=1e-6)
    assert torch.allclose(norm.running_var, 0.9 + 0.1 * variance, atol=1e-5)
    assert norm.num_batches_tracked == 1


@pytest.mark.parametrize("batch", [1, 7, 8])
def test_small_batches_are_batch_norm_s(batch):
    norm, plain = nn.BatchNorm3d(3), nn.BatchNorm3d(3)
    split_batch_norm(norm, 8)
    assert torch.equal(norm(clips(batch)), plain(clips(batch)))
    assert torch.equal(norm.running_var, plain.running_var)


def test_nothing_that_a_checkpoint_or_an_optimiser_holds_changes():
    net = network()
    before = {name: id(value) for name, value in net.named_parameters()}
    buffers = {name: id(value) for name, value in net.named_buffers()}
    modules = [id(module) for module in net.modules()]
    state = copy.deepcopy(net.state_dict())
    split_batch_norm(net, 8)
    assert isinstance(net[1], SplitBatchNorm3d) and "clips=8" in repr(net)
    assert {name: id(value) for name, value in net.named_parameters()} == before
    assert {name: id(value) for name, value in net.named_buffers()} == buffers
    assert [id(module) for module in net.modules()] == modules
    assert list(net.state_dict()) == list(state)
    net.load_state_dict(state)
    split_batch_norm(net, 4)
    assert net[3].clips == 4
    synchronise_batch_norm(net)
    assert type(net[3]) is nn.SyncBatchNorm
    assert [id(module) for module in net.modules()] == modules
    assert {name: id(value) for name, value in net.named_parameters()} == before
    assert list(net.state_dict()) == list(state)
    split_batch_norm(net, 0)
    plain = network()
    plain.load_state_dict(state)
    assert torch.equal(net(clips(9)), plain(clips(9)))  # over all clips, as ever


def test_evaluation_is_unchanged():
    net, plain = network().eval(), network().eval()
    split_batch_norm(net, 2)
    assert torch.equal(net(clips(9)), plain(clips(9)))


def test_channels_last_stays_and_gives_the_same():
    norm = nn.BatchNorm3d(3)
    split_batch_norm(norm, 4)
    x = clips(9)
    y = norm(x.contiguous(memory_format=torch.channels_last_3d))
    assert y.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.allclose(y, norm(x), atol=1e-5)


def test_under_autocast_statistics_stay_in_float32():
    net = network()
    split_batch_norm(net, 4)
    x = clips(9)
    reference = net(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = net(x)
    y.float().square().sum().backward()
    assert y.dtype == torch.bfloat16
    assert net[1].running_mean.dtype == torch.float32
    assert torch.allclose(y.float(), reference, atol=0.15)


def test_without_running_statistics_and_without_affine():
    norm = nn.BatchNorm3d(3, affine=False, track_running_stats=False)
    split_batch_norm(norm, 4)
    x = clips(8)
    norm.train()
    y = norm(x)
    assert torch.allclose(y[:4].mean((0, 2, 3, 4)), torch.zeros(3), atol=1e-5)


def test_precise_batch_norm_averages_the_statistics_of_all_batches():
    net = network()
    split_batch_norm(net, 4)
    batches = [clips(8, seed) for seed in (3, 4, 5)]
    estimate_statistics(net, batches)
    inner = [net[0](batch) for batch in batches]
    expected = torch.stack([batch.mean((0, 2, 3, 4)) for batch in inner]).mean(0)
    assert torch.allclose(net[1].running_mean, expected, atol=1e-5)
    assert net[1].momentum == 0.1 and not net[1].training


def test_precise_batch_norm_runs_gates_as_evaluation_does_and_counts_no_clip():
    net = nn.Sequential(*network(), SRTG(6, gates=True), nn.Dropout(0.5), nn.BatchNorm3d(6))
    split_batch_norm(net, 4)
    net(clips(4))
    before = gate_rates(net), net[4].counts.tolist()
    batches = [clips(8, seed) for seed in (3, 4)]
    estimate_statistics(net, batches)
    assert (gate_rates(net), net[4].counts.tolist()) == before and before[1][1] == 4
    net[1].train(), net[3].train()
    expected = torch.stack([net[:6](batch).mean((0, 2, 3, 4)) for batch in batches]).mean(0)
    assert torch.allclose(net[6].running_mean, expected, atol=1e-4)  # no channel was dropped


def test_copies_and_replicas_keep_splitting():
    net = network()
    split_batch_norm(net, 4)
    x = clips(9)
    assert torch.equal(copy.deepcopy(net)(x), net(x))
    replica = net[1]._replicate_for_data_parallel()
    assert isinstance(replica, SplitBatchNorm3d) and replica.clips == 4


def test_negative_clips_are_refused():
    with pytest.raises(ValueError, match="clips=-1"):
        split_batch_norm(network(), -1)


def flat(batch: int) -> torch.Tensor:
    """Maps that have shrunk to one value a channel."""
    return clips(batch)[:, :, :1, :1, :1]


@pytest.mark.parametrize("over", [0, 1, 8])
def test_one_value_a_channel_is_normalised_by_the_running_statistics(over):
    norm = nn.BatchNorm3d(3)
    split_batch_norm(norm, over)
    norm(clips(16))
    before = norm.running_mean.clone()
    y = norm(flat(1))
    assert torch.equal(norm.running_mean, before)
    assert torch.equal(y, norm.eval()(flat(1))) and not torch.equal(y, flat(1))


@pytest.mark.parametrize(("over", "batch", "parts"), [(1, 4, (2, 2)), (1, 5, (3, 2)), (2, 3, (3,))])
def test_no_part_has_one_value_a_channel(over, batch, parts):
    norm, alone = nn.BatchNorm3d(3), nn.BatchNorm3d(3)
    split_batch_norm(norm, over)
    y = norm(flat(batch))
    assert torch.equal(y, torch.cat([alone(part) for part in flat(batch).split(list(parts))]))
    assert torch.isfinite(norm.running_var).all()


@pytest.mark.parametrize(
    ("world_size", "batch", "clips", "groups"),
    [
        (8, 32, 8, 4),  # pairs of four clips each
        (4, 32, 8, 4),  # each device has enough
        (4, 31, 8, 4),  # seven are nearer to eight than fourteen
        (4, 16, 8, 2),
        (4, 20, 8, 2),  # ten, not five
        (4, 8, 8, 1),
        (4, 4, 8, 1),  # fewer than eight in all
        (6, 12, 8, 2),  # two groups of three: no other number divides them into eights
        (7, 14, 8, 2),  # groups of four and of three
        (5, 10, 8, 1),
        (2, 64, 8, 2),  # each device splits its own 32
        (16, 1024, 8, 16),
        (64, 64, 8, 8),
        (4, 4, 1, 4),
    ],
)
def test_groups_of_ranks_have_about_the_clips_asked_for(world_size, batch, clips, groups):
    assert number_of_groups(world_size, batch, clips) == groups


@given(st.integers(1, 64), st.integers(1, 32), st.integers(1, 64))
def test_no_other_number_of_equal_groups_is_nearer(world_size, share, clips):
    number, batch = number_of_groups(world_size, world_size * share, clips), world_size * share
    assert 1 <= number <= world_size
    off = max(-(-world_size // number) * share / clips, clips / (world_size // number * share))
    for other in (n for n in range(1, world_size + 1) if world_size % n == 0):
        assert off <= max(batch / other / clips, clips * other / batch) + 1e-9


@pytest.mark.parametrize(
    ("gpus", "world_size"),
    [(1, 1), (4, 1), (0, 4)],
    ids=["nobody to share with", "DataParallel", "torch shares on GPUs only"],
)
def test_devices_that_cannot_share_split_their_own_clips(gpus, world_size):
    net = network()
    norms = StepNorms(net, Devices(torch.device("meta"), gpus, "fp32", world_size=world_size), 8)
    norms.arrange(4)
    assert type(net[1]) is SplitBatchNorm3d and net[1].clips == 8


def test_what_cannot_be_had_is_said_in_one_line():
    def said(gpus, world, batch, clips=8):
        return shortage(Devices(torch.device("meta"), gpus, "fp32", world_size=world), batch, clips)

    assert "DataParallel: each GPU" in said(4, 1, 16) and "its own 4 clips" in said(4, 1, 16)
    assert "--nproc-per-node 4" in said(4, 1, 16) and "\n" not in said(4, 1, 16)
    assert "on the CPU" in said(0, 2, 8)
    for enough in (said(4, 1, 32), said(1, 4, 16), said(1, 1, 4), said(0, 2, 16), said(4, 1, 4, 0)):
        assert enough is None


def sharing_rank(rank: int, world_size: int, file: str, answers) -> None:
    """What four processes find in the groups of a run whose batches change from step to step."""
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=world_size)
    # one GPU each, as far as the arrangement is concerned; only the layers themselves need one
    devices = Devices(torch.device("cpu"), 1, "fp32", rank=rank, world_size=world_size)
    net = network()
    norms, found = StepNorms(net, devices, 8), []
    for batch in (32, 16, 8, 16, 32, 16):
        norms.arrange(batch)
        if type(net[1]) is SplitBatchNorm3d:
            found.append((batch, None, net[1].clips))
            continue
        assert type(net[3]) is nn.SyncBatchNorm and net[1].process_group is net[3].process_group
        total = torch.tensor(10.0**rank)
        dist.all_reduce(total, group=net[1].process_group)
        ranks = dist.get_world_size(net[1].process_group)
        found.append((batch, int(total), ranks * batch // world_size))
    norms.split()
    found.append(("split", type(net[1]) is SplitBatchNorm3d, len(norms._group_of)))
    answers.put((rank, found))
    dist.destroy_process_group()


def test_four_processes_make_the_same_groups_once(tmp_path):
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    ranks = [
        context.Process(target=sharing_rank, args=(rank, 4, str(tmp_path / "store"), answers))
        for rank in range(4)
    ]
    for process in ranks:
        process.start()
    found = dict(answers.get(timeout=120) for _ in ranks)
    for process in ranks:
        process.join()
        assert process.exitcode == 0
    for rank in range(4):
        pair = 11 if rank < 2 else 1100
        assert found[rank] == [
            (32, None, 8), (16, pair, 8), (8, 1111, 8), (16, pair, 8), (32, None, 8),
            (16, pair, 8), ("split", True, 2),
        ]  # fmt: skip
