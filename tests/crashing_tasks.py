"""Work that ends or holds up its process, for the tests of the pool that survives it.

A module of its own, because each process of the pool imports the module of its work.
"""

import os
import signal
import time


def crash(task: str) -> str:
    """Work that ends its process for some tasks."""
    if task == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if task == "exit":
        os._exit(7)
    if task == "hang":
        time.sleep(10_000)
    if task == "bug":
        raise KeyError("a bug")
    return task.upper()


def facts_or_crash(folder: str):
    """Reads a store; its process is killed at one video."""
    from run.checks.store_facts import read_facts

    if folder.endswith("train3"):
        os.kill(os.getpid(), signal.SIGSEGV)
    return read_facts(folder)


def interrupt(folder: str):
    """Sends SIGTERM to the first process, as a scheduler does."""
    from run.checks.store_facts import read_facts

    os.kill(os.getppid(), signal.SIGTERM)
    return read_facts(folder)
