"""A report is one HTML file that needs nothing beside it: a summary, then sections of paragraphs, tables, figures,
links and ranked lists.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from jinja2 import Environment, StrictUndefined

from octorec.output.write import new_file

TEMPLATE = Path(__file__).parent / "report.html"
LONG = 40  # characters of a cell that are kept in one line
Tone = Literal["good", "bad", "unsure"]


@dataclass(frozen=True)
class Text:
    """A Text is a paragraph."""

    text: str
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Table:
    """A Table has rows of texts and numbers; numbers are set to four digits, None as a dash."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    kind: ClassVar[str] = "table"

    @property
    def long(self) -> set[int]:
        """Return the places of columns whose texts wrap, as some of them are long."""
        return {at for row in self.rows for at, value in enumerate(row) if len(cell(value)) > LONG}


@dataclass(frozen=True)
class Figure:
    """A Figure is a plot from `plots` with what it shows."""

    svg: str
    caption: str
    kind: ClassVar[str] = "figure"


@dataclass(frozen=True)
class SideBySide:
    """A SideBySide shows ranked lists beside each other: (title, entries).

    An entry that stands in every list is set in bold.
    """

    lists: Sequence[tuple[str, Sequence[str]]]
    caption: str = ""
    title: str = ""
    kind: ClassVar[str] = "lists"

    @property
    def shared(self) -> set[str]:
        return set.intersection(*(set(entries) for _, entries in self.lists)) if self.lists else set()


@dataclass(frozen=True)
class Links:
    """Links lead to files beside the page: (path relative to it, what lies there)."""

    links: Sequence[tuple[str, str]]
    kind: ClassVar[str] = "links"


@dataclass(frozen=True)
class Section:
    title: str
    parts: Sequence[Text | Table | Figure | SideBySide | Links]


@dataclass(frozen=True)
class Summary:
    """A Summary is what the first screen shows: the outcome in words for everybody, and what it rests on.

    said: sentences below the badge. facts: (what, value), the most important first. made: (what, value) of how the page
    came about.
    """

    badge: str
    tone: Tone
    said: Sequence[str]
    facts: Sequence[tuple[str, str]]
    made: Sequence[tuple[str, str]]
    figure: Figure | None = None


def render(title: str, lead: str, sections: Sequence[Section], summary: Summary | None = None) -> str:
    """Render the whole page. Every text is escaped; figures are SVG from `plots`."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["cell"] = cell
    environment.filters["is_number"] = is_number
    template = environment.from_string(TEMPLATE.read_text())
    return template.render(title=title, lead=lead, sections=sections, summary=summary)


def write_report(
    path: str | Path, title: str, lead: str, sections: Sequence[Section], summary: Summary | None = None
) -> None:
    """Write the page to `path`, or nothing at all."""
    with new_file(path) as scratch:
        scratch.write_text(render(title, lead, sections, summary))


def cell(value: Any) -> str:
    """Return a table's cell as text."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
