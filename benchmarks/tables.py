"""Rows into Markdown tables."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

R = TypeVar("R")


def newest(rows: Iterable[R], key: Callable[[R], Any]) -> list[R]:
    """The last row of each key, in the order the keys first came."""
    return list({key(row): row for row in rows}.values())


def table(columns: list[str], rows: Iterable[list[Any]]) -> str:
    """A Markdown table of `columns`, a line a row."""
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines)
