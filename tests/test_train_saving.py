"""What saving promises, each promise attacked: whole files, files apart, a way back from damage."""

import errno
import multiprocessing
import os
import resource
import shutil
import signal
import time
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch

from data import file_writing as files
from train.checkpoint.opening import load_checkpoint
from train.checkpoint.resume import newest_checkpoint
from train.checkpoint.saving import (
    drop_old,
    holds_optimiser,
    save_checkpoint,
    save_epoch,
    slim_old,
    slimmed,
)
from train.config import Config
from train.results.disk_space import Sizes, check_space
from train.results.earlier_run import delete_run, refuse_second_start, set_later_epochs_aside
from train.results.history import History
from train.results.results_folder import epoch_file
from train.train_errors import OtherRunError, TrainError

NET = "ir_csn_50"
OPTIONS = {"network": NET, "clip_length": 4, "clip_size": 32, "val_frame_interval": 1}
CONFIG = Config(network=NET, optimiser="sgd", end_epoch=9)


def state_of(epoch: int) -> dict:
    """A small checkpoint after `epoch`, with an optimiser's state of the weights' size."""
    weights = {"w": torch.full((2000,), float(epoch))}
    optimiser = {"state": {0: {"momentum_buffer": torch.ones(2000)}}, "param_groups": [{}]}
    return {
        "state_dict": weights,
        "ema": None,
        "epoch": epoch,
        "step": 10 * epoch,
        "optimizer": optimiser,
        "scaler": {},
        "meter": torch.zeros(4, dtype=torch.float64),
        "counts": {},
        "best_top1": 33.3,
        "skipped_steps": 0,
        "fingerprint": "0" * 64,
        "config": OPTIONS,
        "classes": ["a", "b"],
    }


def save_epochs(folder: Path, last: int, config: Config = CONFIG, *, best: int = 1) -> None:
    for epoch in range(1, last + 1):
        improved, is_last = epoch == best, epoch == config.end_epoch
        save_epoch(folder, config, state_of(epoch), improved=improved, last=is_last)


def ep(folder: Path, epoch: int) -> Path:
    return epoch_file(folder, NET, epoch)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def flip(path: Path) -> None:
    """Damage one bit of the weights."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


# which files there are, and what they hold


def test_each_checkpoint_is_a_file_of_its_own(tmp_path):
    save_epochs(tmp_path, 2, best=2)
    paths = [tmp_path / "last.pth", ep(tmp_path, 2), tmp_path / "best.pth"]
    assert len({path.stat().st_ino for path in paths}) == 3
    with paths[0].open("r+b") as file:  # damage in place
        file.write(b"\0" * 99)
    for path in paths[1:]:
        assert load_checkpoint(path)["epoch"] == 2


def test_the_newest_two_epochs_keep_the_optimiser(tmp_path):
    save_epochs(tmp_path, 5, best=4)
    kept = {path.name: holds_optimiser(path) for path in tmp_path.iterdir()}
    assert kept == {
        "last.pth": True, "best.pth": False,
        **{f"{NET}_ep-000{epoch}.pth": epoch >= 4 for epoch in range(1, 6)},
    }  # fmt: skip
    slim = load_checkpoint(ep(tmp_path, 2))
    assert torch.equal(slim["state_dict"]["w"], state_of(2)["state_dict"]["w"])
    assert (slim["epoch"], slim["classes"], slim["config"]) == (2, ["a", "b"], OPTIONS)
    assert ep(tmp_path, 2).stat().st_size < 0.6 * ep(tmp_path, 5).stat().st_size


def test_a_slimmed_file_keeps_the_time_when_it_was_trained(tmp_path):
    save_epochs(tmp_path, 2)
    os.utime(ep(tmp_path, 1), (10**9, 10**9))
    save_epoch(tmp_path, CONFIG, state_of(3), improved=False, last=False)
    assert not holds_optimiser(ep(tmp_path, 1)) and ep(tmp_path, 1).stat().st_mtime == 10**9


def test_all_keep_the_optimiser_where_asked(tmp_path):
    save_epochs(tmp_path, 4, replace(CONFIG, keep_optimiser="all"))
    assert all(map(holds_optimiser, tmp_path.iterdir()))
    slim_old(tmp_path, NET, newest=4)  # as a later run without the option does
    assert [holds_optimiser(ep(tmp_path, epoch)) for epoch in (1, 2, 3, 4)] == [False] * 2 + [
        True
    ] * 2


def test_a_damaged_older_epoch_is_set_aside_and_not_rewritten(tmp_path, caplog):
    save_epochs(tmp_path, 2)
    flip(ep(tmp_path, 1))
    save_epoch(tmp_path, CONFIG, state_of(3), improved=False, last=False)
    assert f"{NET}_ep-0001.pth.damaged" in names(tmp_path) and not ep(tmp_path, 1).exists()
    assert str(ep(tmp_path, 1)) in caplog.text and "damaged" in caplog.text


def test_every_so_many_epochs_and_the_last_one(tmp_path):
    save_epochs(tmp_path, 9, replace(CONFIG, save_frequency=4))
    assert [path.name for path in sorted(tmp_path.glob("*_ep-*"))] == [
        f"{NET}_ep-000{epoch}.pth" for epoch in (4, 8, 9)
    ]


def test_keep_deletes_the_oldest(tmp_path):
    for epoch in (1, 2, 9999, 10000):
        ep(tmp_path, epoch).touch()
    drop_old(tmp_path, NET, 0, newest=10000)
    assert len(list(tmp_path.iterdir())) == 4
    drop_old(tmp_path, NET, 1, newest=2)  # the others are an older run's
    assert names(tmp_path) == [f"{NET}_ep-{epoch}.pth" for epoch in ("0002", "10000", "9999")]
    drop_old(tmp_path, NET, 1, newest=10000)
    assert names(tmp_path) == [f"{NET}_ep-10000.pth"]


# what is taken for a checkpoint

BOUNDS = {
    "epoch": (0, 2**62 - 1),
    "step": (0, 2**62 - 1),
    "skipped_steps": (0, 2**62 - 1),
    "best_top1": (0, 33.3, -1.0),
    "scaler": ({}, {"scale": 0.0}, {"scale": 65536, "_growth_tracker": 3}),
    "classes": (["a"],),
    "ema": (None, {}),
    "config": (OPTIONS | {"clip_length": 1}, OPTIONS | {"an option of a later version": 7}),
}
ODD = {
    "epoch": (-1, 2**62, 1.0, True),
    "step": (-1, 2**62),
    "skipped_steps": (-1, 2**62),
    "best_top1": (float("inf"), float("nan"), "33", True),
    "scaler": ({"scale": float("inf")}, {"scale": -1.0}, {"scale": "1"}, None),
    "classes": ([], ["a", "a"], ["a", 1], "ab"),
    "ema": ([],),
    "config": (
        OPTIONS | {"clip_length": 0},
        OPTIONS | {"val_frame_interval": None},
        OPTIONS | {"network": ""},
        OPTIONS | {"precision": "fp8"},
        OPTIONS | {"lr_steps": [1, "2"]},
        {name: OPTIONS[name] for name in OPTIONS if name != "clip_size"},
    ),
    "history": ([],),
    "optimizer": ([],),
    "fingerprint": (7,),
}


@pytest.mark.parametrize("part", BOUNDS)
def test_values_at_the_bounds_are_taken(tmp_path, part):
    for value in BOUNDS[part]:
        save_checkpoint(tmp_path / "a.pth", state_of(1) | {part: value})
        assert load_checkpoint(tmp_path / "a.pth")[part] == value


@pytest.mark.parametrize("part", ODD)
def test_values_beyond_the_bounds_are_refused(tmp_path, part):
    for value in ODD[part]:
        save_checkpoint(tmp_path / "a.pth", state_of(1) | {part: value})
        with pytest.raises(TrainError, match=r"a\.pth: cannot be used: its .*another checkpoint"):
            load_checkpoint(tmp_path / "a.pth")


def test_what_only_resuming_needs_may_be_missing_for_evaluation(tmp_path):
    state = state_of(1)
    for part in ("scaler", "meter", "counts", "optimizer"):
        del state[part]
    save_checkpoint(tmp_path / "a.pth", state)
    assert load_checkpoint(tmp_path / "a.pth", to_resume=False)["epoch"] == 1
    with pytest.raises(TrainError, match=r"resuming needs \(scaler, meter, counts\)"):
        load_checkpoint(tmp_path / "a.pth")
    del state["classes"]
    save_checkpoint(tmp_path / "a.pth", state)
    with pytest.raises(TrainError, match=r"evaluating needs \(classes\)"):
        load_checkpoint(tmp_path / "a.pth", to_resume=False)


# which one a resumed run continues from


def newest(folder: Path):
    return newest_checkpoint(folder, NET, lambda path, state: None)


def found(folder: Path) -> tuple[str, int]:
    path, state = newest(folder)
    return path.name, state["epoch"]


def test_an_empty_folder_holds_no_run(tmp_path):
    assert newest(tmp_path) is None
    refuse_second_start(tmp_path, NET)
    (tmp_path / "train.log").touch()
    (tmp_path / "config.json").touch()  # of a run that ended before it saved anything
    assert newest(tmp_path) is None
    refuse_second_start(tmp_path, NET)


def test_an_epoch_that_is_newer_than_last_pth_is_gone_on_from(tmp_path, caplog):
    save_epochs(tmp_path, 2)
    for epoch in (3, 4):
        save_epoch(tmp_path, CONFIG, state_of(epoch), improved=False, last=False, last_pth=False)
    assert load_checkpoint(tmp_path / "last.pth")["epoch"] == 2
    assert found(tmp_path) == (f"{NET}_ep-0004.pth", 4) and not caplog.messages
    flip(ep(tmp_path, 4))
    assert found(tmp_path) == (f"{NET}_ep-0003.pth", 3)
    assert "ep-0004.pth.damaged, and the run continues from" in caplog.text
    slim_old(tmp_path, NET, newest=10)
    flip(ep(tmp_path, 2))  # older than last.pth: nobody reads it
    save_checkpoint(ep(tmp_path, 3), slimmed(state_of(3)))
    assert found(tmp_path) == ("last.pth", 2)  # it has the optimiser's state


@pytest.mark.fault
def test_damaged_checkpoints_are_set_aside_and_the_newest_whole_one_taken(tmp_path, caplog):
    save_epochs(tmp_path, 4, best=3)
    assert found(tmp_path) == ("last.pth", 4) and not caplog.messages
    flip(tmp_path / "last.pth")
    assert found(tmp_path) == (f"{NET}_ep-0004.pth", 4)
    assert caplog.messages[-1].endswith(
        f"it is now last.pth.damaged, and the run continues from {ep(tmp_path, 4)}"
    )
    ep(tmp_path, 4).write_bytes(ep(tmp_path, 4).read_bytes()[:5000])  # cut off
    assert found(tmp_path) == (f"{NET}_ep-0003.pth", 3)
    assert f"{NET}_ep-0004.pth.damaged" in names(tmp_path) and not ep(tmp_path, 4).exists()
    ep(tmp_path, 3).write_bytes(b"")
    assert found(tmp_path) == ("best.pth", 3) or found(tmp_path) == (f"{NET}_ep-0002.pth", 2)


def test_what_does_not_fit_the_run_is_damaged_and_another_run_s_is_not(tmp_path):
    save_epochs(tmp_path, 3)

    def check(path, state):
        if path.name == "last.pth":
            raise TrainError(f"{path}: cannot be used: in its state_dict, w is not finite")

    assert newest_checkpoint(tmp_path, NET, check)[0] == ep(tmp_path, 3)
    assert "last.pth.damaged" in names(tmp_path)
    before = names(tmp_path)

    def other_run(path, state):
        raise OtherRunError(f"{path}: was trained with --batch-size 4, not 8")

    with pytest.raises(OtherRunError, match="--batch-size 4, not 8"):
        newest_checkpoint(tmp_path, NET, other_run)
    assert names(tmp_path) == before


@pytest.mark.fault
def test_without_last_pth_the_newest_epoch_is_taken(tmp_path, caplog):
    save_epochs(tmp_path, 3)
    (tmp_path / "last.pth").unlink()
    (tmp_path / "last.pth").symlink_to(tmp_path / "gone.pth")  # dangling
    assert found(tmp_path) == (f"{NET}_ep-0003.pth", 3)
    assert f"{tmp_path / 'last.pth'} is missing" in caplog.text
    save_checkpoint(tmp_path / "last.pth", state_of(4))  # takes the link's place
    assert found(tmp_path) == ("last.pth", 4) and not (tmp_path / "gone.pth").exists()


def test_an_older_one_with_the_optimiser_goes_before_a_slim_one(tmp_path):
    save_epochs(tmp_path, 2)
    save_checkpoint(tmp_path / "last.pth", slimmed(state_of(3)))
    assert found(tmp_path) == (f"{NET}_ep-0002.pth", 2)
    for epoch in (1, 2):
        ep(tmp_path, epoch).unlink()
    assert found(tmp_path) == ("last.pth", 3)  # there is no other


@pytest.mark.fault
def test_a_run_without_a_usable_checkpoint_is_not_started_over(tmp_path):
    save_epochs(tmp_path, 1)
    for path in tmp_path.iterdir():
        flip(path)
    before = names(tmp_path)
    for _ in range(2):
        with pytest.raises(TrainError, match=r"damaged.*--overwrite True"):
            newest(tmp_path)
        assert names(tmp_path) == before
    for path in tmp_path.iterdir():
        path.unlink()
    (tmp_path / "train_results.csv").write_text("Epoch\n1\n")
    with pytest.raises(TrainError, match=r"its checkpoints are gone.*--overwrite True"):
        newest(tmp_path)


def test_a_checkpoint_that_may_not_be_read_is_not_taken_for_a_damaged_one(tmp_path, monkeypatch):
    save_epochs(tmp_path, 2)
    path, usual = tmp_path / "last.pth", Path.open

    def denied(self, *words, **how):  # root may read everything
        if self == path:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return usual(self, *words, **how)

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(PermissionError, match=r"last\.pth"):
        newest(tmp_path)
    assert path.exists()


LEFT = ["last.pth", "best.pth", f"{NET}_ep-0007.pth", "train_results.csv", "last.pth.damaged"]


@pytest.mark.parametrize("name", LEFT)
def test_a_new_run_is_refused_where_there_is_one(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(TrainError, match="holds a run") as refused:
        refuse_second_start(tmp_path, NET)
    for part in (str(tmp_path), "--resume auto", "--task-name", "--overwrite True"):
        assert part in str(refused.value)


def test_overwrite_deletes_the_run_and_nothing_else(tmp_path):
    save_epochs(tmp_path, 3)
    flip(tmp_path / "last.pth")
    newest(tmp_path)
    history = History()
    scores = {"top1": 1, "top5": 2, "loss": 3, "clips": 4}
    history.add_epoch(1, {"train": scores, "val": scores}, lr=0.1, gates={"a": 1})
    history.write(tmp_path)
    (tmp_path / "tensorboard").mkdir()
    for name in ("curves.png", "tensorboard/events", "train.log", "notes.txt", "other_ep-0001.pth"):
        (tmp_path / name).touch()
    delete_run(tmp_path, NET)
    assert names(tmp_path) == ["notes.txt", "other_ep-0001.pth", "train.log"]


def test_epochs_that_are_trained_again_are_kept_under_another_name(tmp_path):
    save_epochs(tmp_path, 4)
    set_later_epochs_aside(tmp_path, NET, 3)
    assert [ep(tmp_path, epoch).exists() for epoch in (1, 2, 3, 4)] == [True, True, False, False]
    aside = tmp_path / f"{NET}_ep-0004.pth.replaced"
    assert torch.load(aside, weights_only=True)["epoch"] == 4


# saving, attacked


class Watched:
    """Counts the system calls of a save, says which they were, and lets the one asked for fail."""

    def __init__(self, monkeypatch, failing: int = -1, number: int = errno.EIO):
        self.calls: list[tuple[str, str, int]] = []
        self.failing, self.errno = failing, number
        opened, replaced, synced = Path.open, Path.replace, os.fsync
        self._real_open = os.open

        def fsync(descriptor):
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            self._call("fsync", path, os.fstat(descriptor).st_size)
            return synced(descriptor)

        def open_path(path, mode="r", *words, **how):
            if "x" not in mode:
                return opened(path, mode, *words, **how)
            self._call("open", path)
            return Faulty(self, opened(path, mode), path)

        def replace_path(path, target):
            self._call("rename", target, path.stat().st_size)
            return replaced(path, target)

        def open_folder(path, flags, *words, **how):
            if Path(path).is_dir():
                self._call("open", path)
            return self._real_open(path, flags, *words, **how)

        monkeypatch.setattr(files.os, "fsync", fsync)
        monkeypatch.setattr(Path, "open", open_path)
        monkeypatch.setattr(Path, "replace", replace_path)
        monkeypatch.setattr(files.os, "open", open_folder)

    def _call(self, what: str, path, size: int = 0) -> None:
        self.calls.append((what, Path(path).name, size))
        if len(self.calls) - 1 == self.failing:
            raise OSError(self.errno, os.strerror(self.errno))


class Faulty:
    """A file whose writes and closing are system calls that a `Watched` can let fail."""

    def __init__(self, watched: Watched, file, path):
        self.watched, self.file, self.path = watched, file, path

    def write(self, content):
        self.watched._call("write", self.path)
        return self.file.write(content)

    def flush(self):
        self.watched._call("flush", self.path)
        self.file.flush()

    def fileno(self):
        return self.file.fileno()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        if _ == (None, None, None):
            self.watched._call("close", self.path)


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("last.pth", lambda path: save_checkpoint(path, state_of(1))),
        ("config.json", lambda path: files.write_text(path, "{}" * 1000)),
    ],
)
def test_the_content_is_on_the_disk_before_its_name_and_then_the_name(
    tmp_path, monkeypatch, name, save
):
    with monkeypatch.context() as patched:
        calls = Watched(patched).calls
        save(tmp_path / name)
    size = (tmp_path / name).stat().st_size
    order = [call for call in calls if call[0] in ("write", "fsync", "rename")]
    synced, renamed, folder = order[-3:]
    assert [what for what, _, _ in order[:-3]] == ["write"] * (len(order) - 3)
    assert synced[0] == "fsync" and synced[1].startswith(f".{name}.")
    assert synced[2] == size  # nothing was still in Python's own buffer
    assert renamed == ("rename", name, size)
    assert folder[:2] == ("fsync", tmp_path.name)


@pytest.mark.fault
def test_a_fault_at_each_system_call_of_an_epoch_s_save(tmp_path, monkeypatch, trials):
    trial = trials(
        "a save that fails says so, names the file and leaves whole checkpoints",
        "an error of the disk at each system call of an epoch's save",
    )
    made = tmp_path / "made"
    made.mkdir()
    save_epochs(made, 3)
    with monkeypatch.context() as patched:
        calls = Watched(patched).calls
        copy = shutil.copytree(made, tmp_path / "copy")
        save_epoch(copy, CONFIG, state_of(4), improved=True, last=False)
    writes = [at for at, call in enumerate(calls) if call[0] == "write"]
    places = [at for at in range(len(calls)) if at not in writes]
    numbers = [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.ENOENT]
    attacks = [(at, number) for number in numbers for at in (*places, *writes)]
    for at, number in attacks[:: trial.number(len(attacks) // 24, 1)]:
        folder = shutil.copytree(made, tmp_path / f"{at}_{number}")
        said = None
        with monkeypatch.context() as patched:
            Watched(patched, at, number)
            try:
                save_epoch(folder, CONFIG, state_of(4), improved=True, last=False)
            except OSError as error:
                said = error
        named = said and said.errno == number and Path(said.filename).parent == folder
        path, state = newest(folder)
        trial.add(
            bool(named)
            and (path, state["epoch"])
            in [(folder / "last.pth", 3), (folder / "last.pth", 4), (ep(folder, 4), 4)]
            and "optimizer" in state
            and not list(folder.glob(".*"))
            and not list(folder.glob("*.damaged")),
            (calls[at], errno.errorcode[number], said),
        )
        shutil.rmtree(folder)


@pytest.fixture
def file_size_limit():
    """Limit the size of files that this process may write; writes past it fail with EFBIG."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, usual[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    signal.signal(signal.SIGXFSZ, signal_handler)


@pytest.mark.fault
def test_a_disk_that_is_full_at_any_byte(tmp_path, file_size_limit, trials):
    trial = trials(
        "a save that fails says so, names the file and leaves whole checkpoints",
        "a file that cannot grow beyond some byte (the system's own limit)",
    )
    path, usual = tmp_path / "last.pth", resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    save_checkpoint(path, state_of(1))
    size, number = path.stat().st_size, trial.number(12, 384)
    for attack in range(number):
        limit, said = size * attack // number, None
        file_size_limit(limit)
        try:
            save_checkpoint(path, state_of(2))
        except OSError as error:
            said = error
        finally:
            file_size_limit(usual)
        held = said and (said.errno, said.filename) == (errno.EFBIG, str(path))
        whole = load_checkpoint(path)["epoch"] == 1 and names(tmp_path) == ["last.pth"]
        trial.add(bool(held and whole), (limit, said))


def save_forever(folder):
    for epoch in count(4):
        save_epoch(folder, CONFIG, state_of(epoch), improved=epoch % 2 == 0, last=False)


@pytest.mark.fault
def test_a_kill_while_saving_leaves_a_whole_checkpoint(tmp_path, trials):
    trial = trials("after a kill while saving, last.pth is whole", "SIGKILL at a random moment")
    save_epochs(tmp_path, 3)
    for attack in range(trial.number(4, 200)):
        process = multiprocessing.get_context("fork").Process(target=save_forever, args=(tmp_path,))
        process.start()
        time.sleep(0.02 + 0.00137 * (attack * 37 % 101))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        path, state = newest(tmp_path)
        weights = state["state_dict"]["w"]
        held = path.name in ("last.pth", ep(tmp_path, state["epoch"]).name) and torch.equal(
            weights, torch.full((2000,), weights[0])
        )
        trial.add(held and "optimizer" in state, state["epoch"])
        files.delete_temporary_files(tmp_path)
        assert not list(tmp_path.glob(".*"))
        for old in tmp_path.glob("*_ep-*"):  # or the folder grows with every attack
            old.unlink()


@pytest.mark.fault
@pytest.mark.parametrize(
    ("break_it", "number"),
    [
        (lambda folder: shutil.rmtree(folder), errno.ENOENT),
        (lambda folder: (shutil.rmtree(folder), folder.write_text("")), errno.ENOTDIR),
        (lambda folder: (folder / "last.pth").mkdir(), errno.EISDIR),
        (lambda folder: (shutil.rmtree(folder), folder.symlink_to(folder)), errno.ELOOP),
    ],
    ids=["deleted", "a file", "last.pth a folder", "a circle of links"],
)
def test_a_results_folder_that_is_gone_is_named(tmp_path, break_it, number):
    folder = tmp_path / "run"
    folder.mkdir()
    break_it(folder)
    with pytest.raises(OSError) as failed:
        save_checkpoint(folder / "last.pth", state_of(1))
    assert (failed.value.errno, failed.value.filename) == (number, str(folder / "last.pth"))


def test_a_name_that_is_too_long_and_too_few_descriptors_are_named(tmp_path):
    long = tmp_path / ("x" * 250 + ".pth")
    with pytest.raises(OSError, match="too long") as failed:
        save_checkpoint(long, state_of(1))
    assert failed.value.filename == str(long)
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, usual[1]))
    try:
        with pytest.raises(OSError, match="Too many open files") as failed:
            save_checkpoint(tmp_path / "last.pth", state_of(1))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)
    assert failed.value.filename == str(tmp_path / "last.pth")


def test_leftovers_of_killed_runs_are_swept(tmp_path):
    save_epochs(tmp_path, 1)
    before = names(tmp_path)
    for name in (".last.pth.0123abcd.tmp", ".last.pth.4711", ".train_results.csv.77.tmp"):
        (tmp_path / name).touch()
    files.delete_temporary_files(tmp_path)
    assert names(tmp_path) == before


# what a run will write


def test_the_space_is_said_before_the_first_step_and_what_is_there_is_counted(tmp_path):
    sizes = Sizes(full=300, slim=100)

    def total(config: Config, *, first: int = 1) -> str:
        said = check_space(tmp_path, config, sizes, first_epoch=first, last_epoch=10)
        assert f"free in {tmp_path}" in said
        return said

    some = Sizes(full=30_000_000, slim=10_000_000)
    line = check_space(tmp_path, CONFIG, some, first_epoch=1, last_epoch=10)
    # last, two whole epochs and eight slim ones, best, and room to save in
    assert "will take 0.24 GB: last.pth 0.03 GB, 10 of epochs 0.14 GB, best.pth 0.01 GB" in line
    assert "2 of epochs 0.06 GB" in check_space(
        tmp_path, replace(CONFIG, keep=2), some, first_epoch=1, last_epoch=10
    )
    assert "10 of epochs 0.30 GB, best.pth 0.03 GB" in check_space(
        tmp_path, replace(CONFIG, keep_optimiser="all"), some, first_epoch=1, last_epoch=10
    )
    assert "4 of epochs" in total(replace(CONFIG, save_frequency=3))  # 3, 6, 9 and the last
    assert "2 of epochs" in total(CONFIG, first=9)
    for epoch in (1, 2):
        ep(tmp_path, epoch).touch()
    assert "4 of epochs" in total(CONFIG, first=9)


def test_too_little_space_is_an_error_that_says_what_to_do(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(TrainError, match="--keep N") as refused:
        check_space(tmp_path, CONFIG, Sizes(free, free // 2), first_epoch=1, last_epoch=5)
    assert f"free in {tmp_path}" in str(refused.value)
    with (tmp_path / "last.pth").open("wb") as file:  # it is replaced: its place is counted
        file.truncate(free)
    check_space(tmp_path, CONFIG, Sizes(free // 5, 0), first_epoch=5, last_epoch=5)
