"""Damaged, odd and hostile checkpoints: each is refused in one line, or is what was saved.

The network is a tiny one, so that a checkpoint is a few kilobytes and thousands can be tried; run,
optimiser, checkpoint and all that opens it are the real ones.
"""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import random
import struct
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from runs import NETWORK, folder, same_bits
from runs import train as train_in_a_process
from torch import nn

import run.trained_network
import train.network_choice
import train.setup
from network import NetworkError, load_weights
from network.checkpoint_file import read_checkpoint_file
from network.srtg import SRTG
from run.command_line import complete
from train.checkpoint.compatibility import check_checkpoint
from train.checkpoint.opening import OPTIONAL_PARTS, load_checkpoint
from train.checkpoint.resume import load_optimiser
from train.checkpoint.saving import save_checkpoint
from train.devices import open_devices
from train.optimiser import restore_optimiser
from train.setup import prepare
from train.train_errors import TrainError
from train.training_run import TrainingRun

pytestmark = pytest.mark.fault

PROMISE = "a checkpoint is refused in one line, or is what was saved"


class Tiny(nn.Module):
    """A network with a bit of everything: (B, 3, T, H, W) -> (B, classes)."""

    def __init__(self, classes: int):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(3, 4, 3, bias=False), nn.BatchNorm3d(4))
        self.sar = SRTG(4, gates=True)
        self.fc = nn.Linear(4, classes)

    def forward(self, x):
        return self.fc(self.sar(self.stem(x)).mean((2, 3, 4)))


def build_tiny(name: str, classes: int, **options) -> nn.Module:
    return Tiny(classes).to(memory_format=torch.channels_last_3d)


@pytest.fixture(scope="module", autouse=True)
def tiny_networks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.setup, "build_network", build_tiny)
        patch.setattr(train.network_choice, "build_network", build_tiny)
        patch.setattr(run.trained_network, "build_network", build_tiny)
        yield


@pytest.fixture(scope="module")
def training(tiny) -> Iterator[TrainingRun]:
    """A run with AdamW, averaged weights and a loss scale, after two updates."""
    config = complete(
        "custom", dataset=str(tiny), labels=str(tiny / "labels" / "tiny_train.csv"),
        network="ir_csn_50", clip_length=4, clip_size=32, batch_size=4, gpus=0, workers=0,
        optimiser="adamw", ema=0.9, precision="fp16", multigrid="off",
    )  # fmt: skip
    with open_devices(0, "fp16") as devices:
        training = prepare(config, devices)
        for _ in range(2):
            loss = training.net(torch.randn(2, 3, 4, 8, 8)).square().sum()
            training.scaler.scale(loss).backward()
            training.scaler.step(training.optimiser)
            training.scaler.update()
            training.ema.update_parameters(training.net)
            training.step += 1
        training.losses.values[:, :4] = 1.0  # of the clips so far
        assert isinstance(training.net, Tiny)
        yield training


@pytest.fixture(scope="module")
def whole(training, tmp_path_factory) -> bytes:
    """The bytes of the run's checkpoint."""
    path = tmp_path_factory.mktemp("whole") / "last.pth"
    save_checkpoint(path, training.state_dict())
    assert to_resume(path, training)
    return path.read_bytes()


def state_of(whole: bytes) -> dict:
    return torch.load(io.BytesIO(whole), weights_only=True)


def saved(content: object, *, legacy: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def outcome(what: Callable[[], object]) -> object:
    """What was read, or one line of an error of ours; fails for any other exception."""
    try:
        return what()
    except (TrainError, NetworkError) as error:
        said = str(error)
        assert said and said.isprintable() and len(said) < 600, said
        assert "weights_only" not in said and "orch.load" not in said, said
        return said


def to_resume(path: Path, training: TrainingRun) -> dict:
    """The content of a checkpoint from which the run can continue."""
    state = load_checkpoint(path)
    check_checkpoint(training, path, state)
    return state


def open_all(path: Path, training: TrainingRun) -> list[object]:
    """The outcome of resuming, of opening for evaluation, of reading, of taking the weights."""
    return [
        outcome(lambda: to_resume(path, training)),
        outcome(
            lambda: run.trained_network.open_checkpoint(path, training.devices).net.state_dict()
        ),
        outcome(lambda: read_checkpoint_file(path)),
        outcome(lambda: load_weights(Tiny(3), path).loaded),
    ]


def is_what_was_saved(outcomes: list[object], expected: list[object]) -> bool:
    return all(
        isinstance(a, str) or same_bits(a, b) for a, b in zip(outcomes, expected, strict=True)
    )


def flip(content: bytes, bit: int) -> bytes:
    flipped = bytearray(content)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


def test_a_flipped_bit_is_never_read_as_something_else(whole, training, tmp_path, trials):
    trial = trials(PROMISE, "one flipped bit anywhere in the file")
    path = tmp_path / "last.pth"
    path.write_bytes(whole)
    expected = open_all(path, training)
    rng = random.Random(1)
    for _ in range(trial.number(60, 1800)):
        bit = rng.randrange(8 * len(whole))
        path.write_bytes(flip(whole, bit))
        trial.add(is_what_was_saved(open_all(path, training), expected), f"bit {bit}")


def test_a_flipped_bit_in_the_table_of_members(whole, training, tmp_path, trials):
    trial = trials(PROMISE, "one flipped bit in the zip's directory")
    path = tmp_path / "last.pth"
    path.write_bytes(whole)
    expected = open_all(path, training)
    with zipfile.ZipFile(path) as archive:
        start = archive.start_dir
    rng = random.Random(2)
    for _ in range(trial.number(60, 900)):
        bit = rng.randrange(8 * start, 8 * len(whole))
        path.write_bytes(flip(whole, bit))
        trial.add(is_what_was_saved(open_all(path, training), expected), f"bit {bit}")


# What is not a checkpoint at all


def members(whole: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(content: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return file.getvalue()


def in_tar(whole: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        entry = tarfile.TarInfo("last.pth")
        entry.size = len(whole)
        archive.addfile(entry, io.BytesIO(whole))
    return file.getvalue()


def with_declared_size(whole: bytes, size: int) -> bytes:
    """The archive, whose table declares that its last member has `size` bytes."""
    content = bytearray(whole)
    at = content.rindex(b"PK\x01\x02")
    content[at + 20 : at + 28] = struct.pack("<II", size, size)
    return bytes(content)


def other_files(whole: bytes) -> Iterator[tuple[str, bytes]]:
    """Files that are not checkpoints, or only part of one."""
    parts = members(whole)
    data = next(name for name in parts if name.endswith("/data/0"))
    root = data.partition("/")[0]
    yield "empty", b""
    for size in (1, 2, 3, 4, 21, 22, 30, 46, 100, 1000):
        yield f"{size} zero bytes", bytes(size)
        yield f"{size} random bytes", random.Random(size).randbytes(size)
    yield "text", b"this is not a checkpoint\n" * 20
    yield "utf-16", "kein Checkpoint".encode("utf-16")
    yield "json", json.dumps({"state_dict": {}}).encode()
    yield "html", b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
    yield "git lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"
    yield "png", b"\x89PNG\r\n\x1a\n" + bytes(100)
    yield "gzip", gzip.compress(whole)
    yield "bzip2", bz2.compress(whole)
    yield "xz", lzma.compress(whole)
    yield "tar", in_tar(whole)
    yield "zip of a checkpoint", zipped({"last.pth": whole})
    yield "zip of texts", zipped({"a/b.txt": b"b", "a/c.txt": b"c"})
    yield "zip of nothing", zipped({})
    yield "zip of data.pkl alone", zipped({"x/data.pkl": parts[f"{root}/data.pkl"]})
    yield "zip of text as data.pkl", zipped({"x/data.pkl": b"text", "x/version": b"3\n"})
    yield "compressed members", zipped(parts, zipfile.ZIP_DEFLATED)
    bomb = parts | {data: bytes(1 << 26)}
    yield "64 MiB in a small file", zipped(bomb, zipfile.ZIP_DEFLATED)
    yield "two folders", zipped({**parts, "other/data.pkl": b"."})
    yield "folder upwards", zipped({f"../{name}": value for name, value in parts.items()})
    yield "TorchScript", zipped({**parts, f"{root}/constants.pkl": parts[f"{root}/data.pkl"]})
    for size in (1 << 20, 3 << 30, (1 << 32) - 2):
        yield f"declares {size} bytes", with_declared_size(whole, size)
    for name in parts:
        if name.endswith(("data.pkl", "/version", "byteorder")) or name.rpartition("/")[2] < "3":
            yield f"without {name}", zipped({k: v for k, v in parts.items() if k != name})
            yield f"empty {name}", zipped({**parts, name: b""})
    yield "shorter storage", zipped({**parts, data: parts[data][:4]})
    yield "garbage before", b"garbage" + whole
    yield "twice", whole + whole
    for k in range(60):
        yield f"cut at {k}/60", whole[: k * len(whole) // 60]
    for k in range(1, 30):
        yield f"cut {k} from the end", whole[:-k]
    for k in range(20):
        at = k * len(whole) // 20
        yield f"zeros from {k}/20", whole[:at] + bytes(len(whole) - at)
    plain = (None, 1, "text", [], {}, {"state_dict": {}}, (1, 2), {"epoch": 1}, OrderedDict())
    for protocol in range(6):
        yield f"pickle {protocol}", pickle.dumps(plain, protocol)
    for value in (*plain, torch.ones(2), {1: torch.ones(1)}, {"state_dict": None}, [[[]]]):
        yield f"torch.save({value!r})", saved(value)
        yield f"old torch.save({value!r})", saved(value, legacy=True)
    odd = {"state_dict": {"a\nb\x1b[1m": torch.ones(2)}}
    yield "names that are not text", saved(odd)


def test_files_that_are_no_checkpoint_are_refused_in_one_line(whole, training, tmp_path, trials):
    trial = trials(PROMISE, "files that are not checkpoints, or only part of one")
    path = tmp_path / "last.pth"
    files = list(other_files(whole))
    for name, content in files[:: 1 if trial.full else 5]:
        path.write_bytes(content)
        resumed, evaluated, _, loaded = open_all(path, training)
        refused = all(isinstance(said, str) for said in (resumed, evaluated, loaded))
        if name.startswith(("without", "empty")):  # torch needs not all of its members
            refused = refused or same_bits(resumed, state_of(whole))
        trial.add(refused, name)


# Checkpoints of which one part is not as it should be


def odd_tensors(like: torch.Tensor) -> Iterator[tuple[str, object]]:
    """What can stand where a tensor should: by name."""
    floating = like.is_floating_point()
    yield "None", None
    yield "number", 1.0
    yield "text", "weights"
    yield "list", like.tolist()
    yield "other shape", torch.zeros((*like.shape, 2), dtype=like.dtype)
    yield "empty", torch.zeros(0, dtype=like.dtype)
    yield "complex", like.to(torch.complex64)
    yield "sparse", like.reshape(1, -1).to_sparse() if not like.ndim else like.to_sparse()
    yield "meta", like.to("meta")
    if floating:
        for value in (float("nan"), float("inf"), -float("inf")):
            changed = like.clone(memory_format=torch.contiguous_format)
            changed.view(-1)[-1] = value
            yield str(value), changed
        yield "integer", like.to(torch.int64)
        yield "boolean", like.to(torch.bool)
        yield "float64 that is too large", torch.full_like(like, 1e300, dtype=torch.float64)
        yield "float8", like.to(torch.float8_e4m3fn)
        yield "quantized", torch.quantize_per_tensor(like.float(), 0.1, 0, torch.qint8)
        if like.numel() > 1:
            yield "expanded", torch.zeros(1).expand(like.shape)
            yield "one dimension", like.reshape(-1)[: like.numel() - 1].clone()
    else:
        yield "floating", like.double() + 0.5
        yield "negative", -like.abs() - 1


def with_part(state: dict, where: tuple, value: object, *, drop: bool = False) -> dict:
    """A copy of a state in which one part is another, or is not there."""
    key, *deeper = where
    copy = state.copy()
    if deeper:
        copy[key] = with_part(state[key], tuple(deeper), value, drop=drop)
    elif drop:
        del copy[key]
    else:
        copy[key] = value
    return copy


def odd_states(state: dict) -> Iterator[tuple[str, dict]]:
    """Checkpoints from none of which a run can continue."""
    for name in state:
        if name not in OPTIONAL_PARTS:
            yield f"without {name}", with_part(state, (name,), None, drop=True)
        numbers = {"epoch": int, "step": int, "skipped_steps": int, "best_top1": float}
        for wrong in (None, 1.5, "text", [1], {"a": 1}, {1: None}, torch.ones(3), -1, True):
            fits = type(wrong) is numbers.get(name) and (name == "best_top1" or wrong >= 0)
            if fits or (name, type(wrong)) == ("best_top1", int):
                continue
            yield f"{name} is {wrong!r}", with_part(state, (name,), wrong)
    for name, value in (("epoch", 2**70), ("step", 2**70), ("step", 10**6), ("step", -1)):
        yield f"{name} is {value}", with_part(state, (name,), value)
    for value in (float("nan"), float("inf")):
        yield f"best_top1 is {value}", with_part(state, ("best_top1",), value)
    for name, value in state["config"].items():
        for wrong in (object, b"bytes", {"a": 1}, torch.ones(2)):
            if wrong is not object:
                yield f"option {name} is {wrong!r}", with_part(state, ("config", name), wrong)
        if isinstance(value, bool | int | float):
            yield f"option {name} is text", with_part(state, ("config", name), "text")
    for name in ("network", "clip_length", "clip_size", "val_frame_interval"):
        yield f"without option {name}", with_part(state, ("config", name), None, drop=True)
        yield f"option {name} is None", with_part(state, ("config", name), None)
    for wrong in ([], [1, 2], ["a", "a"], ["a", None], "abc", {"a": 1}):
        yield f"classes are {wrong}", with_part(state, ("classes",), wrong)
    for part in ("state_dict", "ema", "counts"):
        for name, value in state[part].items():
            yield f"without {part} {name}", with_part(state, (part, name), None, drop=True)
            for what, odd in odd_tensors(value):
                yield f"{part} {name}: {what}", with_part(state, (part, name), odd)
            if name.endswith("running_var"):
                yield f"{part} {name}: negative", with_part(state, (part, name), value - 10)
        yield f"{part} has one more", with_part(state, (part, "more"), torch.ones(1))
    for what, odd in odd_tensors(state["meter"]):
        if "float64" not in what:
            yield f"meter: {what}", with_part(state, ("meter",), odd)
    for what, odd in odd_tensors(state["losses"]):
        yield f"losses: {what}", with_part(state, ("losses",), odd)
    for name in state["scaler"]:
        yield f"without {name}", with_part(state, ("scaler", name), None, drop=True)
        for wrong in (None, "text", float("nan"), -1.0, torch.ones(2)):
            yield f"{name} is {wrong!r}", with_part(state, ("scaler", name), wrong)
    yield from odd_optimisers(state)


def odd_optimisers(state: dict) -> Iterator[tuple[str, dict]]:
    for name in state["optimizer"]:
        yield f"optimiser without {name}", with_part(state, ("optimizer", name), None, drop=True)
        for wrong in (None, 1, "text", [], [1], [{}], {"a": 1}, {0: None}, {0: {}}):
            yield f"{name} is {wrong!r}", with_part(state, ("optimizer", name), wrong)
    groups = state["optimizer"]["param_groups"]
    for key, wrong in (
        ("params", [0, 2]), ("params", None), ("params", ["0"]), ("params", [10**6]),
        ("params", [torch.ones(3)]), ("params", [-1]), ("name", "other"), ("name", None),
    ):  # fmt: skip
        changed = [{**groups[0], key: wrong}, *groups[1:]]
        yield (
            f"first group's {key} is {wrong}",
            with_part(state, ("optimizer", "param_groups"), changed),
        )
    where = ("optimizer", "state")
    for number, values in state["optimizer"]["state"].items():
        yield f"no state of {number}", with_part(state, (*where, number), None, drop=True)
        for name, value in values.items():
            at = (*where, number, name)
            yield f"without {name} of {number}", with_part(state, at, None, drop=True)
            for what, odd in odd_tensors(value):
                yield f"{name} of {number}: {what}", with_part(state, at, odd)
            if name != "exp_avg":
                yield f"{name} of {number}: negative", with_part(state, at, value - 10)
        yield f"more of {number}", with_part(state, (*where, number, "more"), torch.ones(2))
    yield "state of one more", with_part(state, (*where, 999), {"step": torch.ones(())})


def test_a_checkpoint_with_an_odd_part_is_not_resumed_from(whole, training, tmp_path, trials):
    trial = trials(PROMISE, "one part missing, or of another type, shape or kind")
    path = tmp_path / "last.pth"
    before = {name: value.clone() for name, value in training.net.state_dict().items()}
    states = list(odd_states(state_of(whole)))
    chosen = random.Random(3).sample(states, trial.number(60, len(states)))
    # these three were once resumed from
    mended = {f"{part} is {{'a': 1}}" for part in ("input_profile", "network_options", "clock")}
    chosen += [state for state in states if state[0] in mended and not trial.full]
    for number, (name, state) in enumerate(chosen):
        path.write_bytes(saved(state))
        trial.add(isinstance(outcome(lambda: to_resume(path, training)), str), name)
        if number % 8 == 0:
            open_all(path, training)  # some open; none fails by an exception of Python or torch
    assert same_bits(before, dict(training.net.state_dict()))


def test_evaluation_and_fine_tuning_refuse_odd_weights(whole, training, tmp_path, trials):
    trial = trials(PROMISE, "odd weights, to evaluate or to fine-tune from")
    path = tmp_path / "best.pth"
    slim = {k: v for k, v in state_of(whole).items() if k not in ("optimizer", "scaler", "counts")}
    slim["ema"] = None
    path.write_bytes(saved(slim))
    assert not any(isinstance(one, str) for one in open_all(path, training)[1:])
    said = open_all(path, training)[0]
    assert "lacks what resuming needs (scaler, counts)" in said
    weights = list(slim["state_dict"].items())
    for name, value in random.Random(4).sample(weights, trial.number(2, len(weights))):
        path.write_bytes(saved(with_part(slim, ("state_dict", name), None, drop=True)))
        said = open_all(path, training)[1]
        trial.add(f"1 of {len(slim['state_dict'])} tensors are missing ({name})" in said, name)
        for what, odd in odd_tensors(value):
            path.write_bytes(saved(with_part(slim, ("state_dict", name), odd)))
            _, evaluated, _, loaded = open_all(path, training)
            trial.add(isinstance(evaluated, str), f"evaluated: {name}: {what}")
            other_shape = torch.is_tensor(odd) and odd.shape != value.shape
            trial.add(other_shape or isinstance(loaded, str), f"fine-tuned: {name}: {what}")


# Momentum of another shape: torch's fused updates would walk past its end

SHAPES = {
    "smaller": lambda value: value.reshape(-1)[:1].clone(),
    "larger": lambda value: torch.zeros(2 * value.numel()),
    "transposed": lambda value: torch.zeros(value.shape[::-1]),
    "empty": lambda value: torch.zeros(0),
    "scalar": lambda value: torch.zeros(()),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_an_optimiser_state_of_another_shape_is_refused(whole, training, tmp_path, shape, trials):
    trial = trials("no checkpoint corrupts memory", "optimiser state of other shapes")
    path = tmp_path / "last.pth"
    state = state_of(whole)
    weight = max(state["optimizer"]["state"], key=lambda n: shape_key(state, n))
    for name in ("exp_avg", "exp_avg_sq"):
        where = ("optimizer", "state", weight, name)
        value = state["optimizer"]["state"][weight][name]
        odd = with_part(state, where, SHAPES[shape](value))
        path.write_bytes(saved(odd))
        said = f"last.pth: the optimiser's state cannot be used: {name} of parameter {weight}"
        resumed = str(outcome(lambda: to_resume(path, training)))
        trial.add(said in resumed, f"--resume auto, {name}")
        with pytest.raises(TrainError, match=f"{name} of parameter {weight}"):
            restore_optimiser(training.optimiser, odd["optimizer"])
        taken = str(outcome(lambda: load_optimiser(training, path)))
        trial.add(said in taken, f"--resume-epoch, {name}")


def shape_key(state: dict, number: int) -> int:
    return state["optimizer"]["state"][number]["exp_avg"].ndim


@pytest.mark.slow
def test_a_run_refuses_an_optimiser_state_of_another_shape(tiny, tmp_path, trials):
    trial = trials("no checkpoint corrupts memory", "a command resumes from other shapes")
    options = ("--multigrid", "off", "--workers", "0", "--tensorboard", "False")
    answer = train_in_a_process(tiny, tmp_path, *options, "--end-epoch", "1")
    assert answer.returncode == 0, answer.stderr
    whole = (folder(tmp_path) / "last.pth").read_bytes()
    for shape, change in SHAPES.items():
        state = state_of(whole)
        for values in state["optimizer"]["state"].values():
            values["momentum_buffer"] = change(values["momentum_buffer"])
        paths = sorted(folder(tmp_path).glob("*.pth"))
        odd = saved(state)
        for path in paths:
            path.write_bytes(odd)
        first = str(folder(tmp_path) / f"{NETWORK}_ep-0001.pth")
        for words in (
            ("--resume", "auto"),
            ("--resume-epoch", "2", "--pretrained-3d", first),
        ):
            answer = train_in_a_process(tiny, tmp_path, *options, "--end-epoch", "2", *words)
            errors = [line for line in answer.stderr.splitlines() if line.startswith("error: ")]
            refused = answer.returncode == 2 and "optimiser's state cannot be used" in errors[0]
            quiet = len(errors) == 1 and "Traceback" not in answer.stderr
            trial.add(refused and quiet, f"{shape}, {words[0]}: {answer.stderr[-2000:]}")


# Pickles that would run a program


class Call:
    """Pickled as a call of a function, which unpickling makes."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def calls(marker: Path, script: Path) -> Iterator[Call]:
    """Calls each of which makes the file `marker`, or runs `script`, which does."""
    import builtins
    import cProfile
    import runpy
    import shutil
    import subprocess
    import timeit

    touch = f"open({str(marker)!r}, 'w').close()"
    yield Call(os.system, f"touch {marker}")
    yield Call(builtins.exec, touch)
    yield Call(builtins.eval, touch)
    yield Call(builtins.open, str(marker), "w")
    yield Call(subprocess.call, ["touch", str(marker)])
    yield Call(subprocess.check_output, ["touch", str(marker)])
    yield Call(runpy.run_path, str(script))
    yield Call(shutil.copy, str(script), str(marker))
    yield Call(os.mkdir, str(marker))
    yield Call(timeit.timeit, touch, "pass", timeit.default_timer, 1)
    yield Call(cProfile.run, touch)
    yield Call(torch.save, torch.ones(1), str(marker))
    yield Call(pickle.loads, pickle.dumps(Call(os.system, f"touch {marker}")))


def containers(call: Call, state: dict) -> Iterator[bytes]:
    """Files that hold a call."""
    yield saved({**state, "config": call})
    yield saved({"state_dict": {"fc.weight": call}})
    yield saved(call, legacy=True)
    yield pickle.dumps(call, 2)
    yield pickle.dumps(OrderedDict(a=call), 0)
    yield pickle.dumps([call], 4)


def emptied(marker: Path) -> bool:
    """Whether the marker was there; it is gone now."""
    there = marker.exists()
    if there:
        marker.rmdir() if marker.is_dir() else marker.unlink()
    return there


def test_no_pickle_runs_a_program(whole, training, tmp_path, trials):
    trial = trials("opening a checkpoint runs no program", "malicious pickles")
    marker, script, path = tmp_path / "it ran", tmp_path / "script.py", tmp_path / "last.pth"
    marker = tmp_path / "it_ran"
    script.write_text(f"open({str(marker)!r}, 'w').close()\n")
    state = state_of(whole)
    for call in calls(marker, script):
        pickle.loads(pickle.dumps(call))
        assert emptied(marker), "the attack itself does not work"
        for content in containers(call, state):
            path.write_bytes(content)
            said = open_all(path, training)
            refused = all(isinstance(one, str) for one in said)
            trial.add(refused and not emptied(marker), f"{call.call[0]}: {said}")
