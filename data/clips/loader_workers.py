"""The worker processes that read clips: how they start, and how the run waits for their batches.

PyTorch's own loader waits for ever for a worker that has stopped, and raises an error at a random
moment if one is killed. Here both are noticed while waiting for a batch, and so are signals.
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
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import cv2
import psutil
import torch
from torch.utils.data import DataLoader

from data.data_error import DataError, MachineError
from data.resource_shortage import FILES, MEMORY, shortage, shortage_of

BATCH_TIMEOUT = 600.0  # default number of seconds to wait for a batch
POLL_INTERVAL = 0.2  # seconds between two checks of signals and workers while waiting
NAMED = 4  # videos that an error names
NO_FILES, NO_MEMORY = 65, 66  # exit codes of workers that could not send a batch

Item = TypeVar("Item")


class Batches(Generic[Item]):
    """The batches of a loader, in order. May be iterated over several times, by the same workers.

    Args:
        loader: its dataset returns whole batches, or errors, which are raised here; see
            `errors_as_values`.
        name: request of the loader's batch sampler -> name of the video, for error messages.
        timeout: seconds to wait for one batch; 0: no limit.
        check_signals: called several times a second while waiting for a batch. It may raise an
            error to end the wait, for example because a signal has arrived.

    Raises (while iterating):
        DataError: a video cannot be read.
        MachineError: a worker has died or gives no batch in time, or the machine has run out of
            something. The workers have been killed then.
    """

    def __init__(
        self,
        loader: DataLoader,
        *,
        name: Callable[[Any], str],
        timeout: float,
        check_signals: Callable[[], None] | None = None,
    ):
        self.loader, self._name = loader, name
        self._timeout, self._check_signals = timeout, check_signals
        self._workers: list[multiprocessing.Process] = []
        self._received: int | None = None  # batches in this iteration; None before it begins

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
        """Start the workers and return the loader's first iterator."""
        in_main = threading.current_thread() is threading.main_thread()
        usual = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
        try:
            iterator = iter(self.loader)
        except OSError as error:
            found = shortage_of("processes") if isinstance(error, BlockingIOError) else None
            raise found or shortage(error) or error from error
        finally:
            if in_main and hasattr(signal, "SIGCHLD"):
                # Remove PyTorch's handler: when a worker dies, it raises an error wherever the main
                # thread is, even in the middle of an update of the weights. `_wait` notices a dead
                # worker too.
                signal.signal(signal.SIGCHLD, usual or signal.SIG_DFL)
        self._workers = iterator._workers
        _all_workers.update(self._workers)
        _kill_at_exit(os.getpid())
        return iterator

    def _wait(self, function: Callable[[], Any]) -> Any:
        """Call, in another thread, a function that waits for workers; return its result."""
        results, errors = [], []

        def call() -> None:
            try:
                results.append(function())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        waited = 0.0  # added up, so that time in which this process is stopped is left out
        try:
            while thread.join(POLL_INTERVAL) or thread.is_alive():
                if self._check_signals:
                    self._check_signals()
                self._check_alive()
                waited += POLL_INTERVAL
                if 0 < self._timeout <= waited:
                    raise self._too_late()
        except BaseException:
            kill(self._workers)
            raise
        if errors:
            self._check_alive()
            if isinstance(errors[0], EOFError | ConnectionError):
                # A worker has just died. While PyTorch collects it, it can still count as alive.
                time.sleep(POLL_INTERVAL)
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
            return shortage_of(FILES if code == NO_FILES else MEMORY)
        if code == -signal.SIGBUS:
            return shortage_of("shared memory")
        how, advice = f"exit code {code}", "see what it has written above"
        if code is not None and code < 0:
            how = f"signal {-code}, {signal.strsignal(-code)}"
        if code == -signal.SIGKILL:
            advice = "the machine may have run out of memory: use fewer --workers"
        at = self._clips_of(number)
        return MachineError(f"worker {number} (process {worker.pid}) died{at} ({how}); {advice}")

    def _too_late(self) -> MachineError:
        # Normally it is the worker whose batch comes next. But a worker that was stopped while it
        # was sending a batch holds a lock that the others wait for.
        stopped = [n for n, worker in enumerate(self._workers) if _is_stopped(worker)]
        number = stopped[0] if stopped else (self._received or 0) % len(self._workers)
        return MachineError(
            f"worker {number} (process {self._workers[number].pid}) has given no batch for "
            f"{self._timeout:g} seconds{self._clips_of(number)}: was it stopped, or does the disk "
            "not answer? Start again, or wait longer (--batch-timeout)"
        )

    def _clips_of(self, number: int) -> str:
        """Name the videos that a worker is reading; each worker gets every n-th batch."""
        if self._received is None:
            return ""
        batch = self._received + (number - self._received) % len(self._workers)
        requests = next(itertools.islice(iter(self.loader.batch_sampler), batch, None), [])
        names = list(dict.fromkeys(map(self._name, requests)))
        rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return f" while reading {', '.join(names[:NAMED])}{rest}" if names else ""


def _is_stopped(worker: multiprocessing.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED
    return False


def _checked(batch: Item | Exception) -> Item:
    if isinstance(batch, Exception):
        raise batch
    return batch


def errors_as_values(read: Callable[..., Item]) -> Callable[..., Item | Exception]:
    """Make a function return errors that are meant for the user instead of raising them.

    If they were raised, PyTorch would add the worker's traceback to the message and lose the number
    of an OSError.
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
    """Prepare a worker process.

    OpenCV and torch get one thread each, since there are several workers. Signals that Ctrl-C or a
    scheduler sends to all processes are ignored, because the training process must finish its step
    and needs its workers for it. Only a SIGTERM from that process ends a worker.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS and Windows
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_told, daemon=True).start()
    # Otherwise a batch that cannot be sent would be dropped, and the run would wait for it.
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end_unsent)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _end_when_told() -> None:
    trainer = multiprocessing.parent_process()  # not getppid(), which may be a fork server
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != trainer.pid:
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
    """Kill workers. They have nothing to save, and a stopped process reacts to no other signal."""
    for worker in workers:
        with contextlib.suppress(ValueError):  # it has ended, and its Process object is closed
            worker.kill()


@functools.cache
def _kill_at_exit(_process: int) -> None:
    """Make this process kill its workers when it exits; repeated calls change nothing.

    Python itself sends SIGTERM, which a stopped worker does not react to, and then waits for it.
    """
    multiprocessing.util.Finalize(None, lambda: kill(list(_all_workers)), exitpriority=100)
