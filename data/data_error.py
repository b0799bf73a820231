"""The errors of this package: for bad data, and for a machine that lacks resources."""


class DataError(ValueError):
    """Input data is bad. The message is one line: file and row, what is wrong, what to do."""


class Unusable(ValueError):
    """A row of a csv or list cannot be used. The message is the reason, without file and row."""


class MachineError(RuntimeError):
    """Clips cannot be read because of the machine. The message is one line that says what to do.

    Examples: a worker was killed or has stopped, there is too little memory, or there are too few
    file descriptors. This is not a DataError, so that `--skip-bad` does not skip the video.
    """
