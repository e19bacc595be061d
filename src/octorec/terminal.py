"""People see what is printed here: consoles print words as they are, and tables fit."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from octorec.errors import clean

ROOM = 20  # columns that a first column leaves for the others, or else it is folded
UNWATCHED_WIDTH = 2000  # columns where nobody watches: a table takes what it needs, and no name is broken


class PlainConsole(Console):
    """A PlainConsole shows texts as they are: no markup, no emoji codes, and control characters as their escapes.

    A text that is printed, alone or as a table's cell, is one line: also its line breaks are shown. What is to stand on
    several lines is printed as several texts.
    """

    def __init__(self, **options: Any):
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:  # type: ignore[override]
        return super().render_str(clean(text), **{**options, "markup": False, "emoji": False})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Yield the segments of `render`, cleaned: texts with a style come here without passing `render_str`."""
        for segment in super().render(renderable, options):
            lines = "\n".join(map(clean, segment.text.split("\n")))
            yield segment if segment.control else Segment(lines, segment.style)


console = PlainConsole(stderr=True)  # progress and remarks; results go to stdout


def say(text: str | Text, style: str | None = None) -> None:
    """Print a remark as one line on stderr."""
    console.print(text, style=style, soft_wrap=True)


def fitting(shown: RenderableType, console: Console) -> RenderableType:
    """Return `shown`, with each table that is wider than `console` divided into several of fewer
    columns; each has the first column.
    """
    if isinstance(shown, Group):
        return Group(*(fitting(part, console) for part in shown.renderables))
    return Group(*_parts(shown, console)) if isinstance(shown, Table) else shown


def _parts(table: Table, console: Console) -> Iterator[Table]:
    if _width(table, console) <= console.width:
        yield table
        return
    first, *rest = table.columns
    whole = _width(_some(table, [first]), console) <= console.width - ROOM
    title = table.title
    while rest:
        taken = 1
        while taken < len(rest) and _width(_some(table, [first, *rest[: taken + 1]]), console) <= console.width:
            taken += 1
        part = _some(table, [first, *rest[:taken]])
        part.title, title, rest = title, None, rest[taken:]
        part.columns[0].no_wrap = first.no_wrap or whole
        yield part


def _some(table: Table, columns: Sequence[Column]) -> Table:
    """Return a table of `columns` of `table`, without its title."""
    part = Table(box=table.box, padding=table.padding, title_justify=table.title_justify)
    for column in columns:
        part.add_column(column.header, justify=column.justify, no_wrap=column.no_wrap, overflow=column.overflow)
    for row, cells in zip(table.rows, zip(*(column.cells for column in columns), strict=True), strict=True):
        part.add_row(*cells, end_section=row.end_section)
    return part


def _width(table: Table, console: Console) -> int:
    """Return the columns of a terminal that `table` takes when nothing in it is wrapped."""
    return Measurement.get(console, console.options.update(max_width=UNWATCHED_WIDTH), table).maximum
