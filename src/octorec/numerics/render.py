"""An analysis as tables for a terminal."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from octorec.numerics.analysis import Analysis, folded, folded_verdict
from octorec.numerics.report import cell
from octorec.numerics.sections import speed_rows


def render(analysis: Analysis) -> RenderableType:
    """Weights, activations where they were measured, verdict, speed, notes. Names are folded, never cut."""
    parts: list[RenderableType] = [_table("weights", folded(analysis.weights))]
    if analysis.activations:
        parts.append(_table("activations", [_activation(stats.row()) for stats in analysis.activations]))
    if analysis.verdict.layers:
        parts.append(_table("verdict", folded_verdict(analysis.verdict.layers)))
    if analysis.speed.parts:
        parts.append(_table("does speed follow?", speed_rows(analysis.speed)))
    verdict = f"{analysis.checkpoint} ({analysis.family}): {analysis.verdict.outcome}. {analysis.verdict.reason}"
    return Group(*parts, verdict, analysis.speed.reason, *analysis.speed.notes, *analysis.notes)


def _activation(row: dict[str, Any]) -> dict[str, Any]:
    """Of an activation's row what a terminal has room for."""
    errors = {f"error {name}": row[f"error_{name}_both"] for name in ("channel/token", "block/group")}
    sqnr = {f"SQNR {name}": row[f"sqnr_{name}"] for name in ("token", "group", "tensor")}
    basics = {"absmax": row["absmax"], "mean |x|": row["mean_abs"], "variance": row["variance"], "p99.9": row["p999"]}
    spread = {
        "10x channels": row["outlier_channels"],
        "octaves": row["range_p99_token"],
        "flushed": row["flushed_token"],
    }
    return {"input of": row["name"], "rows": row["rows"], "width": row["width"], **basics, **spread, **sqnr, **errors}


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    for column, value in rows[0].items():
        table.add_column(column, justify="left" if isinstance(value, str) else "right", overflow="fold")
    for row in rows:
        table.add_row(*(cell(value) for value in row.values()))
    return table
