"""The log of a run as a file, without the colours that a terminal shows."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Callable, Iterator
from logging.handlers import MemoryHandler
from pathlib import Path

ANSI = re.compile(r"\033\[[0-9;]*m")


def without_colours(text: str) -> str:
    """Return the text without the codes that colour it on a terminal."""
    return ANSI.sub("", text)


class LogFile(logging.FileHandler):
    """A log file. If it cannot be written, one warning says so, and the run continues."""

    def __init__(self, path: Path):
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(message)s"))
        self._said = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Print one line on what is wrong with the file, instead of logging's traceback."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._said:
            self._said = True
            reason = error.strerror or error
            print(f"warning: {self.baseFilename}: {reason}; lines are missing", file=sys.stderr)

    def close(self) -> None:
        """Close the file. An error of the disk is ignored: `handleError` has reported it."""
        with contextlib.suppress(OSError):
            super().close()


class PlainFormatter(logging.Formatter):
    """A formatter for files: it leaves out the colours of the speeds."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text without colours."""
        return without_colours(super().format(record))


@contextlib.contextmanager
def log_file() -> Iterator[Callable[[Path], None]]:
    """Collect log lines; yield a function that writes them, and all later ones, to a file.

    Lines are appended without colours, including those that were logged before the folder of the
    file was made.
    """
    early = MemoryHandler(capacity=10_000, flushLevel=logging.CRITICAL + 1, flushOnClose=False)

    def write_to(path: Path) -> None:
        early.setTarget(LogFile(path))
        early.flush()
        early.capacity = 1  # from now on every line at once

    logging.getLogger().addHandler(early)
    try:
        yield write_to
    finally:
        logging.getLogger().removeHandler(early)
        if early.target:
            early.target.close()
        early.close()
