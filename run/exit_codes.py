"""Run a command: set up its log, print its errors in one line, return its exit code."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import coloredlogs
from tqdm.contrib.logging import logging_redirect_tqdm

from data.data_error import DataError, MachineError
from network.network_error import NetworkError
from train.results.log_file import PlainFormatter
from train.train_errors import DivergedError, Interrupted, TrainError

log = logging.getLogger(__name__)

BAD_INPUT = 2  # exit codes, as the README lists them
DIVERGED = 3
#: Errors of a full or write-protected disk, or of a limit of the system: never bugs.
SYSTEM_LIMITS = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE,
    errno.ENFILE, errno.ENAMETOOLONG,
}  # fmt: skip
#: Folders of Python and of installed packages, which hold no files of the user.
INSTALLED = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib"))


def set_up_logging(*, debug: bool = False) -> None:
    """Send the log to stderr, with colours if that is a terminal."""
    lines = {"fmt": "%(asctime)s %(levelname)s %(message)s", "datefmt": "%H:%M:%S"}
    level = "DEBUG" if debug else "INFO"
    coloredlogs.install(level=level, stream=sys.stderr, reconfigure=True, **lines)
    if not sys.stderr.isatty():
        for handler in logging.getLogger().handlers:
            handler.setFormatter(PlainFormatter(lines["fmt"], lines["datefmt"]))
    for chatty in ("matplotlib", "PIL", "tensorboard", "fsspec"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def is_about_a_users_file(error: OSError) -> bool:
    """Return whether an OSError is about a file of the user, rather than a bug of this project.

    This is so if the error names a file that does not belong to Python or an installed package, or
    if the disk or a limit of the system has caused it.
    """
    if error.errno is None:
        return False
    if not isinstance(error.filename, str | bytes | os.PathLike) or not error.filename:
        return error.errno in SYSTEM_LIMITS
    path = Path(os.fsdecode(error.filename)).absolute()
    return not any(path.is_relative_to(folder) for folder in INSTALLED)


def command(main: Callable[[], object]) -> int:
    """Run a command's `main`, print one line for an error of the user's, return the exit code.

    The code is 0 if all went well, 2 for bad input, 3 if training diverged, 128 + signal after an
    interruption. Other exceptions are bugs: they are not caught (Python's exit code is 1).
    """
    set_up_logging()
    try:
        with logging_redirect_tqdm():
            main()
    except (DataError, MachineError, NetworkError, TrainError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        if not is_about_a_users_file(error):
            raise
        log.debug("the error came from here:", exc_info=True)
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        print(f"error: {' '.join(f'{where}{error.strerror}'.split())}", file=sys.stderr)
        return BAD_INPUT
    except DivergedError as error:
        print(f"error: {error}", file=sys.stderr)
        return DIVERGED
    except Interrupted as stop:
        print(f"interrupted: {stop}", file=sys.stderr)
        return 128 + stop.signum
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0
