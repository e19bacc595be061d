"""Render what the evaluation of one checkpoint found, for the terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from octorec.evaluate.single import Evaluation
from octorec.report.verdict import (
    beside_floors,
    in_history,
    missing,
    said_ends,
    said_metric,
    said_names,
    said_origin,
    said_targets,
    said_value,
)


def render_evaluation(found: Evaluation) -> RenderableType:
    """Render metrics with their intervals, what was counted as a miss, and the floors."""
    table = Table(box=SIMPLE_HEAD, padding=0)
    table.add_column("metric", no_wrap=True)
    for name in ("value", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, value in found.metrics.items():
        table.add_row(said_metric(name), said_value(value, "{:.4f}"), said_ends(value, "{:.4f}"))
    notes = [*said_names(found.metrics, found.answers is not None), *said_origin(found.origin)]
    if found.not_in_catalog:
        notes.append(f"{missing(found)}: {found.not_in_catalog:,}")
    notes += [*in_history(found), *map(Text, found.unknown.lines())]
    if found.caps is not None:
        notes += map(Text, found.caps.lines())
    if found.floors:
        sides = {"checkpoint": {name: value.value for name, value in found.metrics.items()}}
        notes += beside_floors("The checkpoint", sides, found.floors, f"recall@{found.k}")
    return Group(said_targets(found), table, *notes)
