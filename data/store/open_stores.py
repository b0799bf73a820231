"""Keep stores open between reads: opening one takes as long as reading a clip from it."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict

from data.store.reader import FrameStore

try:
    import resource
except ImportError:  # Windows
    resource = None

OPEN_STORES = 64  # stores that `open_store` keeps open in each thread


class _OpenStores(threading.local):
    """The open stores of one thread, the most recently used one last."""

    def __init__(self):
        self.process, self.stores = os.getpid(), OrderedDict()
        self.inherited = []


_open_stores = _OpenStores()


def open_store(folder: str | os.PathLike) -> FrameStore:
    """Return the `FrameStore` of a folder, which stays open for later calls from this thread.

    At most OPEN_STORES stay open; then the one that was used longest ago is closed. The caller must
    neither close the store nor keep it.
    """
    cache = _open_stores
    if cache.process != os.getpid():
        # After a fork the child must neither use nor close the parent's SQLite connections.
        cache.inherited.append(cache.stores)
        cache.process, cache.stores = os.getpid(), OrderedDict()
    key = os.fspath(folder)
    store = cache.stores.pop(key, None) or FrameStore(folder)
    cache.stores[key] = store
    while len(cache.stores) > _most_open():
        cache.stores.popitem(last=False)[1].close()
    return store


def close_store(folder: str | os.PathLike) -> None:
    """Close the store of a folder if this thread has it open, so that a deleted file is freed."""
    store = _open_stores.stores.pop(os.fspath(folder), None)
    if store is not None and _open_stores.process == os.getpid():
        store.close()


def _most_open() -> int:
    """Return how many stores may stay open: at most OPEN_STORES.

    A store has two open files. Together they are at most a quarter of the files that this process
    may open.
    """
    if resource is None:
        return OPEN_STORES
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return OPEN_STORES if limit < 0 else max(1, min(OPEN_STORES, limit // 8))
