"""Workers that meet damage, stop, die or run out of something: one line each, and no hanging."""

import itertools
import os
import resource
import signal
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from noise_videos import plan, stored_videos

from data.clips.clip_dataset import ClipDataset, ClipOptions
from data.clips.loader import training_loader, validation_loader
from data.data_error import DataError, MachineError

OPTIONS = ClipOptions(intervals=(1,), short_side=40, clip_size=32)
VIDEOS = 10


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return stored_videos(tmp_path_factory.mktemp("videos"), [(12, 40, 48)] * VIDEOS)


def clips_of(videos, kind=ClipDataset, **options):
    return kind(videos, replace(OPTIONS, **options), training=True, seed=5)


def batches(clips, workers, steps=40, context=None, **options):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        made = training_loader(clips, plan, range(steps), seed=9, workers=workers, **options)
    if context:
        made.loader.multiprocessing_context = context
    return made


def one_line(caught) -> str:
    message = str(caught.value)
    assert "\n" not in message and "Traceback" not in message
    return message


@pytest.mark.parametrize("pin_memory", [False, True])
def test_a_damaged_video_is_the_same_line_with_and_without_workers(videos, pin_memory):
    folders = videos.folders.astype("U20")
    folders[3] = "missing"
    clips = clips_of(replace(videos, folders=folders))
    said = set()
    for workers in (0, 1, 2):
        with pytest.raises(DataError) as caught:
            list(batches(clips, workers, pin_memory=pin_memory))
        said.add(one_line(caught))
    assert said == {
        f"{videos.root / 'missing' / 'frames.db'}: no such file; `python -m run.convert` makes it"
    }


def test_a_bug_in_a_worker_keeps_its_traceback(videos):
    class Broken(ClipDataset):
        def __getitem__(self, request):
            return 1 // 0

    with pytest.raises(ZeroDivisionError, match=r"in __getitem__\n    return 1 // 0"):
        list(batches(clips_of(videos, Broken), 1))


class Witness(ClipDataset):
    """Says in the label which process made the clip."""

    def __getitem__(self, request):
        return super().__getitem__(request)._replace(label=os.getpid())


def begun(loader) -> tuple:
    """The iterator of a loader of two workers, the process of the first, and that of the second."""
    iterator = iter(loader)
    first, second = next(iterator), next(iterator)
    return iterator, int(first.labels[0]), int(second.labels[0])


def exhaust(iterator) -> None:
    for _ in iterator:
        pass


def test_a_stopped_worker_is_named_with_its_clips(videos):
    loader = batches(clips_of(videos, Witness), 2, timeout=6)
    iterator, _, pid = begun(loader)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(MachineError, match=f"process {pid}") as caught:
        exhaust(iterator)
    message = one_line(caught)
    assert "worker 1" in message and "--batch-timeout" in message
    # at an odd step, which is the second worker's
    late = next(
        requests
        for requests in itertools.islice(loader.loader.batch_sampler, 3, None, 2)
        if str(videos.folder(requests[0].index)) in message
    )
    for request in late[:4]:
        assert str(videos.folder(request.index)) in message
    assert "and 2 more" in message
    assert psutil.wait_procs([psutil.Process(p) for p in [pid] if psutil.pid_exists(p)], 30)


class SlowFirstWorker(Witness):
    """In the first worker, waits for ever after its first batch, of four clips."""

    seen = 0

    def __getitem__(self, request):
        self.seen += 1
        if self.seen == 5 and torch.utils.data.get_worker_info().id == 0:
            threading.Event().wait()
        return super().__getitem__(request)


def test_a_stopped_worker_is_named_though_the_batch_of_another_comes_next(videos):
    """As when it was stopped while it held the lock with which workers send their batches."""
    iterator, _, pid = begun(batches(clips_of(videos, SlowFirstWorker), 2, timeout=3))
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(MachineError, match=f"worker 1 .process {pid}. has given no batch"):
        exhaust(iterator)


def test_idle_workers_that_stop_are_noticed_when_they_are_needed_again(videos):
    loader = validation_loader(clips_of(videos, Witness), 4, 4, 24, workers=2, timeout=1)
    pids = {pid for batch in loader for pid in batch.labels.tolist()}
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    with pytest.raises(MachineError, match="has given no batch for 1 seconds"):
        list(loader)


def test_a_signal_is_seen_while_a_batch_is_waited_for(videos):
    class Stop(Exception):
        pass

    stopped = []

    def check_signals():
        if stopped:
            raise Stop

    iterator, pid, _ = begun(
        batches(clips_of(videos, Witness), 2, timeout=0, check_signals=check_signals)
    )
    os.kill(pid, signal.SIGSTOP)
    stopped.append(True)
    with pytest.raises(Stop):
        exhaust(iterator)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, "run out of memory"),
        (signal.SIGSEGV, "Segmentation fault"),
        (signal.SIGBUS, "/dev/shm"),
    ],
)
def test_a_dead_worker_is_named(videos, number, words):
    usual = signal.getsignal(signal.SIGCHLD)
    iterator, pid, _ = begun(batches(clips_of(videos, Witness), 2))
    assert signal.getsignal(signal.SIGCHLD) == usual
    os.kill(pid, number)
    deadline = time.monotonic() + 60
    while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.01)  # nothing is raised here, wherever "here" is
    with pytest.raises(MachineError, match=words) as caught:
        exhaust(iterator)
    if number != signal.SIGBUS:
        assert f"worker 0 (process {pid}) died while reading {videos.root}" in one_line(caught)


class WithoutFiles(ClipDataset):
    """In a worker, may open no file from the third clip on."""

    seen = 0

    def __getitem__(self, request):
        self.seen += 1
        if self.seen == 3:
            self.impoverish()
        return super().__getitem__(request)

    @staticmethod
    def hard(limit: int) -> int:
        return resource.getrlimit(limit)[1]

    def impoverish(self):
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, self.hard(resource.RLIMIT_NOFILE)))


class WithoutMemory(WithoutFiles):
    """In a worker, gets no memory for the large clips that it is asked for then."""

    def __getitem__(self, request):
        return super().__getitem__(request._replace(frames=12, size=640))

    def impoverish(self):
        enough = psutil.Process().memory_info().vms + 2**22
        resource.setrlimit(resource.RLIMIT_AS, (enough, self.hard(resource.RLIMIT_AS)))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("kind", "words"),
    [(WithoutFiles, "file descriptors; raise"), (WithoutMemory, "memory; use fewer")],
)
def test_a_short_machine_is_no_bad_video(videos, kind, words, workers):
    with pytest.raises(MachineError, match=words) as caught:
        list(batches(clips_of(videos, kind, skip_bad=True), workers))
    one_line(caught)


def test_too_few_file_descriptors_to_start_workers(videos):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = {int(file.name) for file in Path("/proc/self/fd").iterdir()}
    free = itertools.islice((n for n in itertools.count() if n not in used), 10)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(free) + 1, hard))
    try:
        with pytest.raises(MachineError, match="file descriptors") as caught:
            list(batches(clips_of(videos), 8))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    one_line(caught)


@pytest.mark.fault
def test_the_same_bytes_whatever_the_workers(videos, trials):
    trial = trials("a clip depends on nothing but its request", "other workers, start methods")
    expected = list(batches(clips_of(videos), 0, 6))
    settings = [(workers, "fork") for workers in (1, 2, 3, 4)]
    settings += [(n, how) for how in ("spawn", "forkserver") for n in (1, 2, 3, 4)]
    settings = [(0, None), *settings][: trial.number(3, 13)]
    for workers, context in settings:
        result = list(batches(clips_of(videos), workers, 6, context))
        same = len(result) == 6 and all(
            torch.equal(a, b)
            for ours, theirs in zip(result, expected, strict=True)
            for a, b in zip(ours, theirs, strict=True)
        )
        trial.add(same, (workers, context))
