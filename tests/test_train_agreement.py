"""Ranks start from the same state with the same options and data, or all end with one line."""

import os
import shutil
import signal
import sqlite3
import tempfile

import pytest
import torch
from runs import SERVER, as_ranks, command, environment, folder, start

from data.clips.loader import StepSampler
from run.command_line import parse_config
from train import rank_agreement
from train.devices import Devices, open_devices
from train.rank_agreement import check_same_state, digest
from train.setup import prepare
from train.train_errors import TrainError
from train.training_run import TrainingRun

OPTIONS = ["--workers", "0", "--ema", "0.9", "--optimiser", "adamw", "--tensorboard", "False"]
OPTIONS += ["--micro-batch", "8"]  # without a trial of how many fit
ALONE = Devices(torch.device("cpu"), 0, "fp32")


@pytest.fixture(scope="module")
def stopped(tiny, tmp_path_factory):
    """Where a run lies that one process stopped after two steps of its first epoch; its facts."""
    out = tmp_path_factory.mktemp("stopped")
    run = prepare(parse_config("custom", command(tiny, out, *OPTIONS)[2:]), ALONE)
    for parameter in run.net.parameters():
        parameter.grad = torch.rand_like(parameter)
    run.optimiser.step()
    run.ema.update_parameters(run.net)
    run.meter.sums += 3
    run.step, run.best_top1, run.skipped_steps = 2, 12.5, 1
    run.folder.mkdir(parents=True)
    torch.save(run.state_dict(), run.folder / "last.pth")
    return out, facts(run)


def facts(run: TrainingRun) -> dict:
    """What a rank has prepared, and the clips of the steps that are left of its first epoch."""
    requests = StepSampler(
        len(run.train_clips),
        run.schedule.plan,
        range(run.step, run.schedule.epoch_steps(1).stop),
        seed=run.config.random_seed,
        rank=run.devices.rank,
        world_size=run.devices.world_size,
    )
    return {
        "step": (run.epoch, run.step, run.best_top1, run.skipped_steps),
        "sums": float(run.meter.sums.sum()),
        "state": digest(
            {k: run.state_dict()[k] for k in ("state_dict", "optimizer", "ema", "scaler")}
        ),
        "shares": [len(share) for share in requests],
        "clips": [request.index for share in requests for request in share],
    }


def _prepare(words: list[str], variables: dict[str, str], answer: str) -> None:
    os.environ.update(environment() | variables)
    torch.set_num_threads(1)
    with open_devices(0, "fp32") as devices:
        torch.save(facts(prepare(parse_config("custom", words), devices)), answer)


def prepared(options: list[list[str]]) -> list[dict]:
    """`facts` of each rank; `options` by rank."""
    with tempfile.TemporaryDirectory() as out:
        answers = [f"{out}/{rank}" for rank in range(len(options))]
        ranks = [
            SERVER.Process(target=_prepare, args=(words[2:], variables, answer))
            for words, variables, answer in zip(
                options, as_ranks(len(options)), answers, strict=True
            )
        ]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join(100)
        assert [rank.exitcode for rank in ranks] == [0] * len(ranks)
        return [torch.load(answer) for answer in answers]


def refusals(runs: list) -> list[str]:
    """The one line that each rank ends with, exit code 2."""
    codes = [run.wait() for run in runs]
    assert codes == [2] * len(runs), [run.said() for run in runs]
    lines = []
    for run in runs:
        assert "Traceback" not in run.said(), run.said()
        (line,) = [line for line in run.said().splitlines() if line.startswith("error: ")]
        lines.append(line)
    return lines


def start_ranks(*places: tuple, options: tuple = ((), ())) -> list:
    """A run of one rank for each (dataset, folder of results)."""
    return [
        start(root, out, *OPTIONS, *more, variables=variables)
        for (root, out), more, variables in zip(places, options, as_ranks(len(places)), strict=True)
    ]


def test_only_the_first_rank_sees_the_results(tiny, tmp_path, stopped):
    """Three ranks continue from one's checkpoint: the same bits, every clip once an epoch."""
    resume, (out, alone) = ["--resume", "auto"], stopped
    places = [out, tmp_path / "one", tmp_path / "two"]
    ranks = prepared([command(tiny, out, *OPTIONS, *resume) for out in places])
    assert alone["step"] == (1, 2, 12.5, 1)
    for rank in ranks:
        assert (rank["step"], rank["state"]) == (alone["step"], alone["state"])
        assert len(rank["shares"]) == len(alone["shares"])
    assert [rank["sums"] for rank in ranks] == [alone["sums"], 0, 0]  # they are added up
    clips = sorted(clip for rank in ranks for clip in rank["clips"])
    assert clips == sorted(alone["clips"]) and len(clips) == sum(alone["shares"])
    for shares in zip(*(rank["shares"] for rank in ranks), strict=True):
        assert max(shares) - min(shares) <= 1 and min(shares) > 0
    assert not (tmp_path / "one").exists()


def test_only_the_first_rank_sees_the_weights_to_start_from(tiny, tmp_path, stopped):
    out, alone = stopped
    weights = str(folder(out) / "last.pth")
    more = ["--resume-epoch", "2", "--pretrained-3d"]
    first, second = prepared(
        [
            command(tiny, tmp_path / str(rank), *OPTIONS, *more, path)
            for rank, path in enumerate([weights, "/nowhere/weights.pth"])
        ]
    )
    assert first["step"] == second["step"] == (2, 3, 12.5, 0)
    assert first["state"] == second["state"] == alone["state"]


def test_a_checkpoint_of_another_run_ends_all_ranks(tiny, tmp_path, stopped):
    other = ("--resume", "auto", "--batch-size", "8")
    runs = start_ranks((tiny, stopped[0]), (tiny, tmp_path), options=(other, other))
    first, second = refusals(runs)
    assert "was trained with --batch-size 4, not 8" in first
    assert second == first.replace("error: ", "error: rank 0 failed: ")


def test_other_options_on_one_rank(tiny, tmp_path):
    options = ((), ("--random-seed", "7"))
    first, second = refusals(start_ranks((tiny, tmp_path), (tiny, tmp_path), options=options))
    assert first == second
    assert "rank 1 has started with --random-seed 7, rank 0 with --random-seed 1" in first


def test_other_videos_on_one_rank(tiny, tmp_path):
    fewer = shutil.copytree(tiny, tmp_path / "fewer", symlinks=True)
    labels = fewer / "labels" / "tiny_train.csv"
    labels.write_text("\n".join(labels.read_text().splitlines()[:-1]) + "\n")
    first, second = refusals(start_ranks((tiny, tmp_path), (fewer, tmp_path)))
    assert first == second and "rank 1 has other videos or labels, compared with rank 0" in first


def test_a_rank_without_the_dataset_ends_the_others(tiny, tmp_path):
    nowhere = tmp_path / "nowhere"
    labels = ("--labels", str(tiny / "labels" / "tiny_train.csv"))
    runs = start_ranks((tiny, tmp_path), (nowhere, tmp_path), options=((), labels))
    first, second = refusals(runs)
    assert str(nowhere) in second and "no such folder" in second
    assert first == second.replace("error: ", "error: rank 1 failed: ")


def damage_frames(store) -> None:
    """Change a bit of each frame but the first two, which the fingerprint does not look at."""
    with sqlite3.connect(store / "frames.db") as database:
        rows = database.execute("SELECT frame, frames FROM Images WHERE frame > 2").fetchall()
        for frame, jpeg in rows:
            middle = len(jpeg) // 2
            changed = jpeg[:middle] + bytes([jpeg[middle] ^ 1]) + jpeg[middle + 1 :]
            database.execute("UPDATE Images SET frames = ? WHERE frame = ?", (changed, frame))


def test_a_rank_that_fails_while_training_ends_the_other(tiny, tmp_path):
    """A video is damaged on one machine alone, which shows when it is read."""
    other = shutil.copytree(tiny, tmp_path / "other")
    for store in (other / "jpg").glob("*/train*"):
        damage_frames(store)
    first, second = refusals(start_ranks((tiny, tmp_path / "out"), (other, tmp_path / "out")))
    assert "crc32" in second
    assert first == second.replace("error: ", "error: rank 1 failed: ")


def test_a_killed_rank_ends_the_other_with_one_line(tiny, tmp_path):
    run, killed = start_ranks(
        (tiny, tmp_path), (tiny, tmp_path), options=(("--end-epoch", "50"),) * 2
    )
    run.wait_for("Batch [", 1)
    os.kill(killed.pid, signal.SIGKILL)
    (line,) = refusals([run])
    assert "another process of this run has ended" in line


def test_what_is_resumed_on_another_dataset(tiny, tmp_path, stopped, caplog):
    """Other pictures are refused; a checkpoint with an earlier version's fingerprint is not."""
    other = shutil.copytree(tiny, tmp_path / "other")
    store = other / "jpg" / "grow" / "train0"
    shutil.rmtree(store)
    shutil.copytree(other / "jpg" / "grow" / "train3", store)
    out = shutil.copytree(stopped[0], tmp_path / "out")
    words = ["--resume", "auto"]
    elsewhere = parse_config("custom", command(other, out, *OPTIONS, *words)[2:])
    with pytest.raises(TrainError, match=r"last\.pth: was trained on a dataset with other videos"):
        prepare(elsewhere, ALONE)
    last = folder(out) / "last.pth"
    state = torch.load(last)
    names = state["fingerprint"].split(":")[1]  # all that earlier versions compared
    torch.save({**state, "fingerprint": names}, last)
    assert prepare(elsewhere, ALONE).step == 2
    assert "only the names of the training videos are compared" in caplog.text


def test_other_weights_on_one_rank(monkeypatch):
    def of_two_ranks(_devices, value):
        return [value, {**value, "weights": "another"}]

    monkeypatch.setattr(rank_agreement, "all_gather_object", of_two_ranks)
    pair = Devices(torch.device("cpu"), 0, "fp32", world_size=2)
    with pytest.raises(TrainError, match="rank 1 has another weights than rank 0"):
        check_same_state(pair, 3, {"state_dict": {"a": torch.ones(2)}})


def test_a_digest_sees_every_bit():
    state = {"a": torch.zeros(3), "b": [torch.tensor(1), {"c": torch.ones(2, dtype=torch.bool)}]}
    same = {"a": torch.zeros(3), "b": [torch.tensor(1), {"c": torch.ones(2, dtype=torch.bool)}]}
    assert digest(state) == digest(same)
    for change in (
        lambda: same["a"].__setitem__(2, -0.0),
        lambda: same["b"][1]["c"].__setitem__(0, False),
        lambda: same.update(d=1),
    ):
        before = digest(same)
        change()
        assert digest(same) != before
