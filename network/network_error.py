"""The error for a network or a checkpoint that cannot be used."""


class NetworkError(ValueError):
    """A wrong network name, option or weights file. The message is one line."""
