"""The result card as a page to read, card.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from run.evaluation.class_scores import Share
from run.tables import markdown_table


def card_page(card: Mapping[str, Any]) -> str:
    """Return card.md for the content of a card.json."""
    checkpoint, data, scores = card["checkpoint"], card["data"], card["scores"]
    lines = [
        f"# {checkpoint['network']} on {data['name']}",
        "",
        *markdown_table(
            ["score", "value", "95 % interval"],
            [_score_row(name, value) for name, value in scores.items()],
        ),
        "",
        *_table("By number of views", card["by_views"]),
        *_table("Time probe", card["time_probe"]),
        "## Protocol",
        "",
        *_list(card["protocol"]),
        "",
        "## Data",
        "",
        *_list(data),
        "",
        "## Checkpoint",
        "",
        *_list(checkpoint),
        "",
        "## Command",
        "",
        "```",
        card["command"],
        "```",
        "",
        f"{card['date']}; {card['device']}, {card['precision']}; {_said(card['versions'])}",
        "",
        "Intervals of top-1, top-5 and of shares of videos are Wilson's; those of means over "
        "classes are percentiles of a bootstrap over the videos. They say how much other videos of "
        "the same kind would change a score, not how much another training would.",
    ]
    return "\n".join(lines) + "\n"


def _list(values: Mapping[str, Any]) -> list[str]:
    return [f"- {name.replace('_', ' ')}: {_said(value)}" for name, value in values.items()]


def _score_row(name: str, value: Any) -> list[str]:
    label = name.replace("_", " ")
    if isinstance(value, Mapping):
        return [label, f"{value['value']:.2f} %", f"{value['low']:.2f} to {value['high']:.2f}"]
    return [label, "not finite" if value is None else f"{value:.4f}", ""]


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a table of rows that have equal keys; no lines if there are no rows."""
    if not rows:
        return []
    cells = [[_said(value) for value in row.values()] for row in rows]
    return [f"## {title}", "", *markdown_table(list(rows[0]), cells), ""]


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        if value.keys() == set(Share._fields):
            return f"{value['value']:.2f} % ({value['low']:.2f} to {value['high']:.2f})"
        return ", ".join(f"{name} {_said(item)}" for name, item in value.items())
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value is None else str(value)
