"""An analysis as tables for a terminal."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from octorec.numerics.analyze import Analysis, folded
from octorec.numerics.report import cell


def render(analysis: Analysis) -> RenderableType:
    """Weights, activations where they were measured, notes. Names are folded where room is short, never cut."""
    parts: list[RenderableType] = [_table("weights", folded(analysis.weights))]
    if analysis.activations:
        parts.append(_table("activations", [_activation(stats.row()) for stats in analysis.activations]))
    return Group(*parts, *analysis.notes)


def _activation(row: dict[str, Any]) -> dict[str, Any]:
    """Of an activation's row what a terminal has room for."""
    errors = {f"error {name}": row[f"error_{name}_both"] for name in ("channel/token", "block/group")}
    sqnr = {f"SQNR {name}": row[f"sqnr_{name}"] for name in ("token", "group", "tensor")}
    basics = {"absmax": row["absmax"], "mean |x|": row["mean_abs"], "variance": row["variance"], "p99.9": row["p999"]}
    return {"input of": row["name"], "rows": row["rows"], "width": row["width"], **basics, **sqnr, **errors}


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(rows[0]):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(cell(value) for value in row.values()))
    return table
