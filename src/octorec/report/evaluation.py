"""Render what the evaluation of one checkpoint found, for the terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from octorec.evaluate.margin import percent
from octorec.evaluate.single import Evaluation
from octorec.prove.plan import MOVED, Plan
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
    if found.floors:
        sides = {"checkpoint": {name: value.value for name, value in found.metrics.items()}}
        notes += beside_floors("The checkpoint", sides, found.floors, f"recall@{found.k}")
    return Group(said_targets(found), table, *notes)


def render_plan(plan: Plan) -> RenderableType:
    """Render what 16 bit is, and how many users a verdict on FP8 at the margin needs."""
    hits = f"{plan.hits_needed:,} hits of 16 bit by {plan.metric}, where FP8 moves {percent(MOVED)} of them"
    users = "no number of users like these: 16 bit has no hit"
    if plan.users_needed is not None:
        users = f"about {plan.users_needed:,} users like these; there are {plan.evaluation.users:,}"
    said = f"Plan: a margin of {percent(plan.margin)} needs {hits}: {users}"
    return Group(render_evaluation(plan.evaluation), Text(said))
