"""Join the process group; if one rank fails, the other ranks end with its error message."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import torch.distributed as dist

from data.data_error import DataError, MachineError
from network.network_error import NetworkError
from train.train_errors import Interrupted, TrainError

#: Errors that the user can correct. All others are bugs and keep their traceback.
USER_ERRORS = (DataError, MachineError, NetworkError, TrainError, OSError)


class Failure(NamedTuple):
    """What a rank tells the other ranks about the exception that ends it."""

    message: str
    is_user_error: bool


def described(error: Exception) -> Failure:
    """Return an exception as one line; for a bug, the line also names its type."""
    message = " ".join(str(error).split())
    if isinstance(error, USER_ERRORS):
        return Failure(message, is_user_error=True)
    return Failure(f"{type(error).__name__}: {message}", is_user_error=False)


@contextlib.contextmanager
def joined(backend: str, rank: int, world_size: int) -> Iterator[None]:
    """Join the process group for the time of the block.

    A rank that fails first writes its error message into the launcher's store. Then its connections
    close, which ends the collectives in which the others wait (with gloo; under NCCL the launcher
    must end them), and they read the message. Without a launcher, rank 0 keeps the store: if rank 0
    itself fails, the others cannot read its message.

    Raises:
        TrainError: another rank has failed; the message says which one and why.
        MachineError: another rank has ended without a message.
    """
    store, _, _ = next(dist.rendezvous("env://"))
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size)
    notes = dist.PrefixStore("failures", store)
    try:
        yield
    except Interrupted:  # all ranks stop together
        raise
    except Exception as error:
        if _is_lost_connection(error):
            raise _reason(notes) from error
        with contextlib.suppress(RuntimeError):  # rank 0 has ended, and its store with it
            notes.compare_set("first", "", f"rank {rank} failed: {described(error).message}")
        raise
    finally:
        dist.destroy_process_group()


def _is_lost_connection(error: Exception) -> bool:
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error)
    )


def _reason(notes: dist.Store) -> Exception:
    """Return why another rank has ended: the message that it has written, if it could."""
    with contextlib.suppress(RuntimeError):  # the store has ended too
        if notes.check(["first"]):
            return TrainError(notes.get("first").decode())
    return MachineError(
        "another process of this run has ended; see its own last line (if it has none, it was "
        "killed or ran out of memory); --resume auto continues from the last checkpoint"
    )
