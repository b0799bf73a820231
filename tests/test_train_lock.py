"""Two trainings never write into one folder; a lock whose owner is gone stops nobody."""

import json
import multiprocessing
import os
import signal
import socket

import pytest

from train.results import folder_lock as lock
from train.results.folder_lock import locked
from train.train_errors import TrainError

FORK = multiprocessing.get_context("fork")


def hold(folder, ready, *, child=False):
    with locked(folder):
        if child:  # as a data loader's worker, which outlives a killed owner
            FORK.Process(target=signal.pause).start()
        ready.set()
        signal.pause()


@pytest.fixture
def holder(tmp_path):
    """Start another process that holds a folder's lock; returns it once it does."""
    started = []

    def start(folder, **how):
        ready = FORK.Event()
        process = FORK.Process(target=hold, args=(folder, ready), kwargs=how)
        process.start()
        started.append(process)
        assert ready.wait(60)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


def write_owner(folder, **changes):
    owner = {**lock._myself(), **changes}
    (folder / lock.NAME).write_text(json.dumps(owner))


def test_a_second_training_is_refused_with_the_first_ones_host_and_process(tmp_path, holder):
    first = holder(tmp_path / "run")
    with pytest.raises(TrainError) as refused, locked(tmp_path / "run"):
        pytest.fail("two hold it")
    for part in (str(tmp_path / "run"), f"process {first.pid} on {socket.gethostname()}"):
        assert part in str(refused.value)
    assert (tmp_path / "run" / lock.NAME).exists()  # still the first one's


def test_a_killed_owner_s_lock_is_taken_over_though_its_workers_live(tmp_path, holder):
    first = holder(tmp_path / "run", child=True)
    children = lock.psutil.Process(first.pid).children()
    assert children
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    try:
        assert (tmp_path / "run" / lock.NAME).exists()
        with locked(tmp_path / "run"):
            assert json.loads((tmp_path / "run" / lock.NAME).read_text())["pid"] == os.getpid()
    finally:
        for child in children:
            child.kill()


def test_it_is_released_at_the_end_however_that_comes(tmp_path):
    for error in (None, KeyboardInterrupt, ZeroDivisionError):
        try:
            with locked(tmp_path / "run"):
                (tmp_path / "run" / "x").touch()
                if error:
                    raise error
        except (KeyboardInterrupt, ZeroDivisionError):
            pass
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["x"]


def test_a_folder_in_which_nothing_was_written_is_gone_again(tmp_path):
    with locked(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b" / lock.NAME).exists()
    assert not list(tmp_path.iterdir())


def test_a_folder_deleted_meanwhile_is_no_trouble(tmp_path):
    with locked(tmp_path / "run"):
        (tmp_path / "run" / lock.NAME).unlink()
        (tmp_path / "run").rmdir()


ENDED = {
    "a process that is gone": {"pid": 2**22 + 1},
    "a process id in use again": {"pid": 1, "started": 0.0},
    "this machine before it was started again": {"boot": "another", "pid": 1},
}


@pytest.mark.parametrize("changes", ENDED.values(), ids=ENDED)
def test_an_owner_that_has_ended_is_no_owner(tmp_path, changes):
    write_owner(tmp_path, **changes)
    with locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": "x"}', '{"pid": NaN}', "\0" * 99])
def test_a_lock_file_without_an_owner_is_taken(tmp_path, text):
    (tmp_path / lock.NAME).write_text(text)
    with locked(tmp_path):
        pass


def test_another_machine_s_lock_is_refused_and_the_file_to_delete_named(tmp_path):
    write_owner(tmp_path, host="node7", pid=123, boot="another")
    with pytest.raises(TrainError, match="process 123 on node7") as refused, locked(tmp_path):
        pytest.fail("two hold it")
    assert f"delete {tmp_path / lock.NAME}" in str(refused.value)
    assert (tmp_path / lock.NAME).exists()


@pytest.mark.parametrize("changes", ENDED.values(), ids=ENDED)
def test_where_the_file_system_has_no_locks_the_text_decides(tmp_path, changes, monkeypatch):
    def no_locks(*_):
        raise OSError(lock.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "lockf", no_locks)
    write_owner(tmp_path)  # of a process that runs
    with pytest.raises(TrainError, match=f"process {os.getpid()} on"), locked(tmp_path):
        pytest.fail("two hold it")
    write_owner(tmp_path, **changes)
    with locked(tmp_path), pytest.raises(TrainError), locked(tmp_path):
        pytest.fail("two hold it")
    (tmp_path / lock.NAME).touch()  # no owner yet: it may be about to write its name
    with pytest.raises(TrainError, match="delete "), locked(tmp_path):
        pytest.fail("two hold it")


@pytest.mark.parametrize("name", ["run", "run/below"])
def test_a_file_in_the_way_is_one_sentence(tmp_path, name):
    (tmp_path / "run").write_text("something else")
    said = "a file has the name of the results folder"
    with pytest.raises(TrainError, match=said), locked(tmp_path / name):
        pytest.fail("there is no such folder")
    assert (tmp_path / "run").read_text() == "something else"


def race(folder, log, go):
    go.wait()
    for _ in range(30):
        try:
            with locked(folder):
                with log.open("a") as file:
                    file.write("in\n")
                os.sched_yield()
                with log.open("a") as file:
                    file.write("out\n")
        except TrainError:
            os.sched_yield()


@pytest.mark.fault
def test_many_that_start_at_once_take_turns(tmp_path, trials):
    trial = trials("one training a results folder", "four processes that lock it over and over")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "x").touch()  # the folder stays
    for number in range(trial.number(1, 25)):
        log, go = tmp_path / f"log{number}", FORK.Event()
        processes = [FORK.Process(target=race, args=(tmp_path / "run", log, go)) for _ in range(4)]
        for process in processes:
            process.start()
        go.set()
        for process in processes:
            process.join()
            assert process.exitcode == 0
        words = log.read_text().split()
        trial.add(words == ["in", "out"] * (len(words) // 2), words)
