"""Rows into Markdown tables."""

from collections.abc import Callable, Iterable
from typing import Any

Row = dict[str, Any]


def newest(rows: Iterable[Row], key: Callable[[Row], Any]) -> list[Row]:
    """The last row of each key, in the order the keys first came."""
    out: dict[Any, Row] = {}
    for row in rows:
        out[key(row)] = row
    return list(out.values())


def table(columns: list[str], rows: Iterable[list[Any]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines)
