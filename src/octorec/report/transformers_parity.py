"""Render a comparison with transformers as a table for a terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from octorec.parity.compare import ComparedBeams, Parity

MOST_NAMED = 5  # requests that are named where they differ


def render_comparison(parity: Parity) -> RenderableType:
    """Return a row for the teacher-forced scores and one for each search, and in words whether all agree."""
    title = f"beside transformers in float32: {parity.requests:,} requests, beam width {parity.beam_width}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    table.add_column("compared", no_wrap=True)
    for name in ("largest difference", "overlap", "same lists", "missing", "out of order"):
        table.add_column(name, justify="right", no_wrap=True)
    forced = parity.scores
    said = f"{forced.difference:.2e}"
    style = "" if forced.agree(parity.tolerance) else "red"
    table.add_row(f"teacher-forced, {forced.steps} steps", said, "", "", "", "", style=style)
    for one in parity.beams:
        table.add_row(*_cells(one), style="" if one.agree(parity.tolerance) else "red")
    return Group(table, _headline(parity))


def _cells(one: ComparedBeams) -> list[str]:
    counts = f"{one.identical:,} of {one.requests:,}", f"{one.missing:,}", f"{one.out_of_order:,}"
    name = f"{one.search} beams, length penalty {one.length_penalty:g}"
    return [name, f"{one.difference:.2e}", f"{one.overlap:.2%}", *counts]


def _headline(parity: Parity) -> Text:
    limit = f"{parity.tolerance:g} nats"
    if parity.outcome == "parity":
        said = f": no score differs by more than {limit}, and lists are the same but for ties within that"
        return Text.assemble(("parity", "bold green"), said)
    numbers = ", ".join(map(str, parity.differing[:MOST_NAMED]))
    more = f" and {len(parity.differing) - MOST_NAMED:,} more" if len(parity.differing) > MOST_NAMED else ""
    where = f"; beams differ in request {numbers}{more}" if numbers else ""
    return Text.assemble(("no parity", "bold red"), f" within {limit}{where}")
