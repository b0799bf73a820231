"""The one error of this room: input that cannot be used."""


class DataError(ValueError):
    """Bad input data, in one line: what is wrong, where (file and row), how to mend it."""


class Unusable(ValueError):
    """A row of a list that cannot be used. The message is the reason, without file and row."""
