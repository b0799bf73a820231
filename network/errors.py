"""The one error of this room: a network or a checkpoint that cannot be used."""


class NetworkError(ValueError):
    """Bad network name, option or weights. The message is one line: what is wrong and how to mend it."""
