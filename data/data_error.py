"""The errors of this package: data that cannot be used, and a machine that cannot read it."""


class DataError(ValueError):
    """Bad input data, in one line: what is wrong, where (file and row), how to mend it."""


class Unusable(ValueError):
    """A row of a list that cannot be used. The message is the reason, without file and row."""


class MachineError(RuntimeError):
    """The machine, not the data, is why clips cannot be read, in one line that says what to do.

    A worker that stopped or was killed, too little memory, too few file descriptors. No DataError:
    `--skip-bad` must not take it for a bad video.
    """
