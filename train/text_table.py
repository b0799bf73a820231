"""Lines of cells as text with aligned columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def text_table(lines: Sequence[Sequence[str]], align: Callable[[str, int], str] = str.rjust) -> str:
    """Return `lines`, each a cell for every column, as text with aligned columns.

    Args:
        lines: the header and the rows.
        align: `str.rjust` or `str.ljust`.
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(align, line, widths)).rstrip() for line in lines)
