"""Render an analysis for a terminal: the advice and what is not plainly safe, or all of its tables."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from octorec.numerics.advice import MAX_OUTPUT_ERROR
from octorec.numerics.analysis import Analysis, folded, folded_advice
from octorec.numerics.doubts import doubts
from octorec.numerics.roles import MATRIX_ROLES
from octorec.report.analysis_page import speed_rows
from octorec.report.page import cell

MOST_DOUBTS = 12  # doubts that a screen holds, two or three lines each


def render(analysis: Analysis, out: Path) -> list[RenderableType]:
    """Render the advice, the products that are not plainly safe, speed, notes, and where the rest lies.

    Texts are wrapped.

    A name is one line that only a narrower terminal breaks, never cut. out: the folder that `analyze` wrote.
    """
    advice = analysis.advice
    about: list[RenderableType] = [f"{analysis.checkpoint} ({analysis.family}): {advice.outcome}.", Text(advice.reason)]
    rest: list[RenderableType] = [Text(_activations(analysis))] if analysis.activations else []
    rest += [Text(said) for said in (analysis.speed.reason, *analysis.speed.notes, *analysis.notes)]
    return [*about, "", *_doubts(analysis), "", *rest, "", *_where(analysis, out)]


def render_all(analysis: Analysis) -> RenderableType:
    """Render weights, activations where they were measured, advice and speed as tables.

    Names are folded, never cut.
    """
    parts: list[RenderableType] = [_table("weights", folded(analysis.weights))]
    if analysis.activations:
        parts.append(_table("activations", [_activation(stats.row()) for stats in analysis.activations]))
    if analysis.advice.layers:
        parts.append(_table("verdict", folded_advice(analysis.advice.layers)))
    if analysis.speed.parts:
        parts.append(_table("does speed follow?", speed_rows(analysis.speed)))
    return Group(*parts)


def _doubts(analysis: Analysis) -> Iterator[RenderableType]:
    products = [layer for layer in analysis.advice.layers if layer.role in MATRIX_ROLES]
    found = doubts(products)
    count = sum(doubt.matrices for doubt in found)
    if not products:
        yield Text("There is no matrix product that FP8 could compute.")
    elif not found:
        yield Text(f"All {len(products):,} products are plainly safe: a scale a channel is enough.")
    else:
        yield Text(f"Not plainly safe, {count:,} of {len(products):,} products:")
    for doubt in found[:MOST_DOUBTS]:
        many = f" ({doubt.matrices:,} matrices)" if doubt.matrices > 1 else ""
        yield f"  {doubt.name}{many}"
        yield Padding(Text(f"{doubt.decision}: {doubt.reason}"), (0, 0, 0, 6), expand=False)
    if len(found) > MOST_DOUBTS:
        left = sum(doubt.matrices for doubt in found[MOST_DOUBTS:])
        yield Text(f"  and {left:,} more products, which the report lists.")
    kept = Counter(layer.role for layer in analysis.advice.layers if layer.role not in MATRIX_ROLES)
    if kept:
        kinds = ", ".join(f"{role} ({number:,})" for role, number in kept.items())
        yield Text(f"In 16 bit for what they are: {kinds}.")


def _activations(analysis: Analysis) -> str:
    """Say in one sentence what was measured of activations."""
    measured = [layer for layer in analysis.advice.layers if layer.output_error is not None]
    said = f"Activations were measured before {len(analysis.activations):,} products"
    if not measured:
        return f"{said}."
    worst = max(measured, key=lambda layer: layer.output_error or 0.0)
    return f"{said}: an output loses at most {worst.output_error:.1%} (limit {MAX_OUTPUT_ERROR:.1%}), {worst.module}."


def _where(analysis: Analysis, out: Path) -> Iterator[RenderableType]:
    yield f"The rest lies in {out} (--all prints the tables here):"
    yield "  report.html    every tensor, plots, the roofline"
    yield "  stats.parquet  every tensor, for programs"
    if analysis.activations:
        yield "  activations.parquet  every product's input, for programs"
    if analysis.recipe is not None:
        yield "  recipe.yaml    the verdict, for octorec quantize --recipe"


def _activation(row: dict[str, Any]) -> dict[str, Any]:
    """Return those values of an activation's row for which a terminal has room."""
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
