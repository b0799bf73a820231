"""Class names: spellings that mean the same class, the classes' numbers, `dictionary.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from data.data_error import DataError, Unusable

DICTIONARY = "dictionary.json"
LONGEST_NAME = 255  # bytes of a folder's name


def class_key(name: str) -> str:
    """Return a key that is equal for all spellings of a class: `Brush_Hair` and `brush hair`."""
    return " ".join(name.replace("_", " ").split()).casefold()


class ClassNumbers(dict):
    """A dictionary from class names, in any spelling, to their numbers.

    If no `classes` are given, each new name gets the next number.

    Raises (when looked up):
        Unusable: the name is empty, not among the given classes, or cannot be that of a folder.
    """

    def __init__(self, classes: Sequence[str] | None):
        self.names = list(classes or ())
        self.closed = classes is not None
        self.by_key = {class_key(name): number for number, name in enumerate(self.names)}

    def __missing__(self, label: str) -> int:
        key = class_key(label)
        if not key:
            raise Unusable("has no label")
        if key not in self.by_key:
            if self.closed:
                raise Unusable(f"has the unknown class {label[:60]!r}")
            name = label.strip()
            size = len(name.encode(errors="surrogateescape"))
            if name.startswith(".") or "\0" in name or size > LONGEST_NAME:
                raise Unusable(f"has the label {name[:40]!r}, which no folder can be named")
            self.by_key[key] = len(self.names)
            self.names.append(name)
        self[label] = self.by_key[key]
        return self[label]


def class_dictionary(path: Path) -> list[str] | None:
    """Return the class names from the `<prefix>dictionary.json` of a csv, or None without one.

    The file is beside the csv, and the name of the csv begins with <prefix>. If several such files
    exist, the one with the longest prefix is used. It contains {class: number} or {number: class}.

    Raises:
        DataError: the file is not such a json, or its numbers are not 0, 1, 2, ..., each once.
    """
    beside = path.parent.glob(f"*{DICTIONARY}") if path.parent.is_dir() else ()
    own = [file for file in beside if path.name.startswith(file.name.removesuffix(DICTIONARY))]
    if not own:
        return None
    file = max(own, key=lambda file: len(file.name))
    content = read_json(file)
    if not isinstance(content, dict):
        raise DataError(f"{file}: is not a json of {{class: number}}")
    pairs = list(content.items())
    if all(isinstance(value, str) for _, value in pairs):
        pairs = [(name, number) for number, name in pairs]
    names: dict[int, str] = {}
    for name, number in pairs:
        try:
            names[_whole(number)] = name
        except ValueError:
            shown = repr(number)[:40]
            raise DataError(
                f"{file}: gives the class {name[:60]!r} {shown}, which is not a whole number"
            ) from None
    if sorted(names) != list(range(len(pairs))) or not pairs:
        raise DataError(f"{file}: its numbers are not 0..{len(pairs) - 1}, each once")
    return [names[number] for number in range(len(pairs))]


def read_json(path: Path) -> object:
    """Return the content of a json file. Raises DataError if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not a json that can be read ({error})") from error


def _whole(number: object) -> int:
    """Return a whole number of a json, also if it is written as text. Raises ValueError."""
    if isinstance(number, str):
        return int(number)  # raises ValueError for thousands of digits too
    if isinstance(number, int | float) and not isinstance(number, bool) and number % 1 == 0:
        return int(number)
    raise ValueError
