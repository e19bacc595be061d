"""A report is one HTML file that needs nothing beside it: sections of paragraphs, tables, figures and ranked lists."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from jinja2 import Environment, StrictUndefined

from octorec.output.write import new_file

TEMPLATE = Path(__file__).parent / "report.html"


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
    kind: ClassVar[str] = "lists"

    @property
    def shared(self) -> set[str]:
        return set.intersection(*(set(entries) for _, entries in self.lists)) if self.lists else set()


@dataclass(frozen=True)
class Section:
    title: str
    parts: Sequence[Text | Table | Figure | SideBySide]


def render(title: str, lead: str, sections: Sequence[Section]) -> str:
    """Render the whole page. Every text is escaped; figures are SVG from `plots`."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["cell"] = cell
    environment.filters["is_number"] = is_number
    return environment.from_string(TEMPLATE.read_text()).render(title=title, lead=lead, sections=sections)


def write_report(path: str | Path, title: str, lead: str, sections: Sequence[Section]) -> None:
    """Write the page to `path`, or nothing at all."""
    with new_file(path) as scratch:
        scratch.write_text(render(title, lead, sections))


def cell(value: Any) -> str:
    """Return a table's cell as text."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
