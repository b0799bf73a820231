"""The one error of this room: a network or a checkpoint that cannot be used."""


class NetworkError(ValueError):
    """A bad network name, option or weights file, in one line: what is wrong, how to mend it."""
