"""Render a table of activations beside those that another program saved."""

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from octorec.numerics.parity import Parity


def render_parity(parity: Parity) -> RenderableType:
    """Return one row for each that was compared, in the order of computing, and where the difference begins."""
    table = Table("computed in this order", "SQNR, dB", "largest difference", box=SIMPLE_HEAD, padding=0)
    for each in parity.compared:
        style = "" if each.sqnr_db >= parity.least_db else "red"
        table.add_row(each.name, f"{each.sqnr_db:.1f}", f"{each.largest:.3g}", style=style)
    limit, first = f"{parity.least_db:g} dB", parity.first
    if first is None:
        return Group(table, Text.assemble(("parity", "green"), f": all {len(parity.compared)} have at least {limit}"))
    said = f": {first.name} is the first below {limit}, with {first.sqnr_db:.1f}: the difference begins there"
    return Group(table, Text.assemble(("no parity", "red"), said))
