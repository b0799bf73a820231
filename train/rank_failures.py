"""The ranks of a distributed run join and leave; where one fails, the others end with its line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import torch.distributed as dist

from data.data_error import DataError, MachineError
from network.network_error import NetworkError
from train.train_errors import Interrupted, TrainError

#: Errors that are the user's to mend. Others are failures of ours and keep their traceback.
USER_ERRORS = (DataError, MachineError, NetworkError, TrainError, OSError)


class Failure(NamedTuple):
    """What a rank tells the others about the exception that ends it."""

    message: str
    is_user_error: bool


def described(error: Exception) -> Failure:
    """An exception as one line; that of an error of ours also names its type."""
    message = " ".join(str(error).split())
    if isinstance(error, USER_ERRORS):
        return Failure(message, is_user_error=True)
    return Failure(f"{type(error).__name__}: {message}", is_user_error=False)


@contextlib.contextmanager
def joined(backend: str, rank: int, world: int) -> Iterator[None]:
    """Join this process to the others of the run, for the time of the context.

    A rank that leaves by an exception writes it down for the others before its connections close,
    which ends what they wait for (with gloo; under NCCL the launcher has to end them). It writes
    into the launcher's store. Without a launcher rank 0 keeps the store, and where rank 0 itself
    fails, the others cannot read its message.

    Raises:
        TrainError: another rank has failed; the message says which one and why.
        MachineError: another rank is gone and has left no message.
    """
    store, _, _ = next(dist.rendezvous("env://"))
    dist.init_process_group(backend, store=store, rank=rank, world_size=world)
    notes = dist.PrefixStore("failures", store)
    try:
        yield
    except Interrupted:  # all ranks have agreed on it
        raise
    except Exception as error:
        if _is_lost_connection(error):
            raise _reason(notes) from error
        with contextlib.suppress(RuntimeError):  # rank 0 is gone, and its store with it
            notes.compare_set("first", "", f"rank {rank} failed: {described(error).message}")
        raise
    finally:
        dist.destroy_process_group()


def _is_lost_connection(error: Exception) -> bool:
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error)
    )


def _reason(notes: dist.Store) -> Exception:
    """Why another rank is gone: it has written that down before, if it could."""
    with contextlib.suppress(RuntimeError):  # the store, too, is gone
        if notes.check(["first"]):
            return TrainError(notes.get("first").decode())
    return MachineError(
        "another process of this run has ended; see its own last line (none: it was killed, or was "
        "out of memory); --resume auto goes on from the last checkpoint"
    )
