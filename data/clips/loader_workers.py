"""The processes that read clips: what they do at their start, and how the run waits for them.

A worker that is killed or stops, and a signal that arrives while a batch is waited for, must be
noticed: PyTorch's own loader waits for ever, or raises an error in the middle of something else.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import multiprocessing
import multiprocessing.queues
import multiprocessing.util
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import cv2
import torch
from torch.utils.data import DataLoader

from data.data_error import DataError, MachineError
from data.resource_shortage import FILES, MEMORY, shortage, too_little

BATCH_TIMEOUT = 600.0  # seconds to wait for a batch, where nothing else is asked for
LOOK = 0.2  # seconds between two looks at signals and workers while a batch is waited for
NAMED = 4  # videos that an error names
NO_FILES, NO_MEMORY = 65, 66  # exit codes of workers that could not send a batch

Item = TypeVar("Item")


class Batches(Generic[Item]):
    """The batches of a loader, in their order. Can be iterated over again, by the same workers.

    Args:
        loader: its dataset gives whole batches; an error that it gives instead is raised here.
        name: the name of the video that is asked for by a request of the loader's batch sampler.
        timeout: seconds to wait for one batch; 0 for ever.
        look: called several times a second while a batch is waited for, to raise an error if a
            signal has arrived.

    Raises (while iterating):
        DataError: a video cannot be read.
        MachineError: a worker has died or gives no batch in time, or the machine is short of
            something. The workers are killed then.
    """

    def __init__(
        self,
        loader: DataLoader,
        *,
        name: Callable[[Any], str],
        timeout: float,
        look: Callable[[], None] | None = None,
    ):
        self.loader, self._name = loader, name
        self._timeout, self._look = timeout, look
        self._workers: list[multiprocessing.Process] = []
        self._received: int | None = None  # batches of this iteration; None before it has begun

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Item]:
        if not self.loader.num_workers:
            yield from map(_checked, self.loader)
            return
        self._received = None
        iterator = self._wait(lambda: iter(self.loader)) if self._workers else self._start()
        self._received = 0
        while (batch := self._wait(lambda: next(iterator, None))) is not None:
            self._received += 1
            yield _checked(batch)

    def _start(self) -> Iterator:
        """The loader's first iterator, which starts the workers."""
        in_main = threading.current_thread() is threading.main_thread()
        usual = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
        try:
            iterator = iter(self.loader)
        except OSError as error:
            found = too_little("processes") if isinstance(error, BlockingIOError) else None
            raise found or shortage(error) or error from error
        finally:
            if in_main and hasattr(signal, "SIGCHLD"):
                # PyTorch's handler raises an error wherever the main thread is when a worker dies,
                # in the middle of an update of the weights too. `_wait` notices it instead.
                signal.signal(signal.SIGCHLD, usual or signal.SIG_DFL)
        self._workers = iterator._workers
        _all_workers.update(self._workers)
        _kill_at_exit(os.getpid())
        return iterator

    def _wait(self, function: Callable[[], Any]) -> Any:
        """The result of a function that waits for workers, called in another thread."""
        results, errors = [], []

        def call() -> None:
            try:
                results.append(function())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        waited = 0.0  # counted, so that the time for which this process is stopped does not count
        try:
            while thread.join(LOOK) or thread.is_alive():
                if self._look:
                    self._look()
                self._check_alive()
                waited += LOOK
                if 0 < self._timeout <= waited:
                    raise self._too_late()
        except BaseException:
            kill(self._workers)
            raise
        if errors:
            self._check_alive()
            raise shortage(errors[0]) or errors[0]
        return results[0]

    def _check_alive(self) -> None:
        for number, worker in enumerate(self._workers):
            if not worker.is_alive():
                raise self._died(number, worker)

    def _died(self, number: int, worker: multiprocessing.Process) -> MachineError:
        code = worker.exitcode
        if code in (NO_FILES, NO_MEMORY):
            return too_little(FILES if code == NO_FILES else MEMORY)
        if code == -signal.SIGBUS:
            return too_little("shared memory")
        how, advice = f"exit code {code}", "see what it has written above"
        if code is not None and code < 0:
            how = f"signal {-code}, {signal.strsignal(-code)}"
        if code == -signal.SIGKILL:
            advice = "the machine may have run out of memory: use fewer --workers"
        at = self._clips_of(number)
        return MachineError(f"worker {number} (process {worker.pid}) died{at} ({how}); {advice}")

    def _too_late(self) -> MachineError:
        number = (self._received or 0) % len(self._workers)
        return MachineError(
            f"worker {number} (process {self._workers[number].pid}) has given no batch for "
            f"{self._timeout:g} seconds{self._clips_of(number)}: was it stopped, or does the disk "
            "not answer? Start again, or wait longer (--batch-timeout)"
        )

    def _clips_of(self, number: int) -> str:
        """Which videos a worker was asked for. Workers take the batches in turn."""
        if self._received is None:
            return ""
        batch = self._received + (number - self._received) % len(self._workers)
        requests = next(itertools.islice(iter(self.loader.batch_sampler), batch, None), [])
        names = list(dict.fromkeys(map(self._name, requests)))
        rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return f" while reading {', '.join(names[:NAMED])}{rest}" if names else ""


def _checked(batch: Item | Exception) -> Item:
    if isinstance(batch, Exception):
        raise batch
    return batch


def errors_as_values(read: Callable[..., Item]) -> Callable[..., Item | Exception]:
    """`read`, whose errors that the user must see are returned, not raised.

    PyTorch would add a worker's traceback to the message, and lose the number of an OSError.
    """

    @functools.wraps(read)
    def reading(*args: Any) -> Item | Exception:
        try:
            return read(*args)
        except (DataError, MachineError) as error:
            return error
        except Exception as error:
            found = shortage(error)
            if found is None:
                raise
            return found

    return reading


def start_worker(_number: int) -> None:
    """Prepare a process that reads clips.

    One OpenCV and one torch thread: the workers themselves are the parallelism. A signal to the
    whole group of processes, as of Ctrl-C or a scheduler, is left to the process that they read
    for: it goes on to the end of its step. SIGTERM from that process ends them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS and Windows
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_told, daemon=True).start()
    # A batch that cannot be sent would be dropped, and waited for in vain.
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end_unsent)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _end_when_told() -> None:
    reader_for = multiprocessing.parent_process()  # not getppid(), which may be a fork server
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != reader_for.pid:
        pass
    os._exit(0)


def _end_unsent(error: Exception, _batch: object) -> None:
    found = shortage(error)
    if found is None:
        threading.excepthook(threading.ExceptHookArgs((type(error), error, None, None)))
        os._exit(1)
    os._exit(NO_FILES if FILES in str(found) else NO_MEMORY)


_all_workers: weakref.WeakSet[multiprocessing.Process] = weakref.WeakSet()


def kill(workers: list[multiprocessing.Process]) -> None:
    """End workers at once. They have nothing to save, and a stopped one obeys no other signal."""
    for worker in workers:
        with contextlib.suppress(ValueError):  # it has ended and was cleared away
            worker.kill()


@functools.cache
def _kill_at_exit(_process: int) -> None:
    """Once in a process: have it end its workers before it waits for them at its own end.

    Python itself sends them SIGTERM, which a stopped one never sees.
    """
    multiprocessing.util.Finalize(None, lambda: kill(list(_all_workers)), exitpriority=100)
