"""Work on many tasks in processes of their own, and tell which task ended its process.

A pool of `concurrent.futures` is broken by the first process that crashes and does not tell which
task it was working on. Here it is named, and another process does the rest.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, TypeVar

Task = TypeVar("Task")
POLL = 0.2  # seconds between two checks whether to stop
READY = "ready"  # the first message of a process
NONE = object()  # there is no further task


class Crash(NamedTuple):
    """What is known of a task whose process ended before it gave a result."""

    reason: str


class _Worker:
    """A process and the pipe to it; `task` is what it is working on."""

    def __init__(self, work: Callable):
        context = multiprocessing.get_context("spawn")  # fork would copy locks of other threads
        self.pipe, child = context.Pipe()
        self.process = context.Process(target=_serve, args=(child, work), daemon=True)
        self.process.start()
        child.close()
        self.task: Any = None
        self.ready = False
        self.since = 0.0

    def give(self, task: Any) -> None:
        """Send a task."""
        self.pipe.send(task)
        self.task, self.since = task, time.monotonic()

    def took(self) -> float:
        """Return how many seconds it has worked on its task; 0 while it is still starting."""
        return time.monotonic() - self.since if self.ready else 0.0

    def result(self) -> Any:
        """Return (result,), a `Crash` if the process has ended, or None if it has just started.

        An exception that `work` raised is raised here.
        """
        try:
            answer = self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            return Crash(_how_it_ended(self.process.exitcode))
        if answer == READY:
            self.ready, self.since = True, time.monotonic()
            return None
        value, error = answer
        if error is not None:
            raise error
        return (value,)

    def end(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _how_it_ended(code: int | None) -> str:
    if code is None or code >= 0:
        return f"ended the process that read it (exit code {code})"
    advice = ", perhaps for lack of memory" if code == -signal.SIGKILL else ""
    return f"ended the process that read it (signal {-code}, {signal.strsignal(-code)}{advice})"


def _serve(pipe: Connection, work: Callable) -> None:
    """Answer each task of the pipe, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process decides
    with contextlib.suppress(EOFError, ConnectionError):
        pipe.send(READY)
        while True:
            task = pipe.recv()
            try:
                answer = (work(task), None)
            except Exception as error:
                answer = (None, error)
            pipe.send(answer)


def results_of(
    tasks: Sequence[Task],
    work: Callable[[Task], Any],
    workers: int,
    *,
    patience: float,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[Task, Any]]:
    """Yield (task, result of `work`) in the order in which they are ready.

    Args:
        tasks: what to work on; each must be picklable.
        work: a function of a module, called in the processes.
        workers: number of processes.
        patience: seconds after which a process that gives no result is killed.
        stopped: asked several times a second; once it returns True, no more results come.

    The result is a `Crash` if the process was ended by a signal, has exited, or was killed because
    it took too long. An exception that `work` raises is raised here.
    """
    waiting = iter(tasks)
    pool: list[_Worker] = []
    try:
        pool += [_Worker(work) for _ in range(min(workers, len(tasks)))]
        for worker in pool:
            worker.give(next(waiting))
        while pool and not stopped():
            ready = wait([worker.pipe for worker in pool], POLL)
            for worker in list(pool):
                result = worker.result() if worker.pipe in ready else None
                if result is None and worker.took() > patience:
                    result = Crash(f"took longer than {patience:g} seconds")
                if result is None:
                    continue
                task, following = worker.task, next(waiting, NONE)
                crashed = isinstance(result, Crash)
                if crashed or following is NONE:
                    worker.end()
                    pool.remove(worker)
                if following is not NONE:
                    if crashed:
                        pool.append(_Worker(work))
                    (pool[-1] if crashed else worker).give(following)
                yield task, (result if crashed else result[0])
    finally:
        for worker in pool:
            worker.end()
