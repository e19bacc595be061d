"""Render an A/B report for a terminal: the verdict in one sentence, then what leads to it."""

from collections.abc import Iterable
from textwrap import wrap

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from octorec.evaluate.online.record import Record
from octorec.evaluate.online.results import AbReport
from octorec.evaluate.online.sections import Part, parts_of, verdict

COLORS = {"not inferior": "green", "inferior": "red", "inconclusive": "yellow", "broken": "red"}
WIDTH = 80  # columns of a sentence


def render(report: AbReport, record: Record) -> list[RenderableType]:
    """Render lines and tables, the verdict first."""
    word, said = verdict(report, record.experiment)
    out: list[RenderableType] = [Text.assemble((word, f"bold {COLORS[word]}"), said, overflow="fold")]
    return out + render_parts(parts_of(report, record))


def render_parts(parts: Iterable[Part]) -> list[RenderableType]:
    """Render titles, tables and sentences, the latter wrapped."""
    out: list[RenderableType] = []
    for part in parts:
        space = [] if out and isinstance(out[-1], Table) else [""]  # a table ends with an empty line
        out += [*space, Text(part.title, style="bold"), *_table(part)]
        out += [line for sentence in part.lines for line in wrap(sentence, WIDTH, subsequent_indent="  ")]
    return out


def _table(part: Part) -> list[Table]:
    if not part.columns:
        return []
    table = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False)
    for place, name in enumerate(part.columns):
        table.add_column(name, justify="left" if place < part.left else "right", no_wrap=True)
    for row in part.rows:
        table.add_row(*row)
    return [table]
