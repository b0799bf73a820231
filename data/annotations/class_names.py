"""Names of classes and their numbers: spellings that are one class, and `dictionary.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from data.data_error import DataError, Unusable

DICTIONARY = "dictionary.json"
LONGEST_NAME = 255  # bytes of a folder's name


def class_key(name: str) -> str:
    """What spellings of a class have in common: `Brush_Hair` and `brush hair` are one."""
    return " ".join(name.replace("_", " ").split()).casefold()


class ClassNumbers(dict):
    """Label as spelled in a row -> number. With no `classes` given, new labels get the next."""

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
    """Class names in order from the `<prefix>dictionary.json` that belongs to a csv, if any.

    The longest prefix that the csv's name begins with wins. The json is an object of
    {class: number} or of {number: class}, as a json's keys are text.

    Raises:
        DataError: it is no such json, or its numbers are not 0, 1, 2, ... each once.
    """
    beside = path.parent.glob(f"*{DICTIONARY}") if path.parent.is_dir() else ()
    own = [file for file in beside if path.name.startswith(file.name.removesuffix(DICTIONARY))]
    if not own:
        return None
    file = max(own, key=lambda file: len(file.name))
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError, OSError) as error:
        raise DataError(f"{file}: is not a json that can be read ({error})") from error
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
                f"{file}: gives the class {name[:60]!r} {shown}, which is no whole number"
            ) from None
    if sorted(names) != list(range(len(pairs))) or not pairs:
        raise DataError(f"{file}: its numbers are not 0..{len(pairs) - 1}, each once")
    return [names[number] for number in range(len(pairs))]


def _whole(number: object) -> int:
    """A whole number of a json, which may be written as text. Raises ValueError for others."""
    if isinstance(number, str):
        return int(number)  # thousands of digits are a ValueError too
    if isinstance(number, int | float) and not isinstance(number, bool) and number % 1 == 0:
        return int(number)
    raise ValueError
