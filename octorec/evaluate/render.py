"""Comparisons as tables for a terminal."""

import math

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from octorec.evaluate.compare import Agreement, Comparison
from octorec.evaluate.paired import Estimate
from octorec.evaluate.shadow import Shadow

COLORS = {"not_inferior": "green", "inferior": "red", "inconclusive": "yellow"}


def render(comparison: Comparison) -> RenderableType:
    """Both sides' metrics with their differences, what was counted as a miss, and the verdict."""
    return Group(render_metrics(comparison), _agreement(comparison.agreement), _verdict(comparison))


def render_metrics(comparison: Comparison) -> RenderableType:
    """Both sides' metrics with their differences, and what was counted as a miss."""
    return Group(_metrics(comparison), *_notes(comparison))


def render_shadow(result: Shadow) -> RenderableType:
    """Agreement on requests without labels."""
    line = f"{result.requests:,} requests, {result.answers:,} answers of the baseline scored by both"
    left_out = [Text(note) for note in result.unknown.lines("requests")]
    return Group(line, *left_out, _agreement(result.agreement))


def _metrics(comparison: Comparison) -> Table:
    title = f"{comparison.targets:,} targets of {comparison.users:,} users, seen items masked"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    table.add_column("metric", no_wrap=True)
    for name in ("baseline", "candidate", "difference", "95 % interval", "differ"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, difference in comparison.differences.items():
        _row(table, name, comparison, difference, "{:+.2%}")
    _row(table, "nll", comparison, comparison.nll, "{:+.4f}")
    return table


def _row(table: Table, name: str, comparison: Comparison, difference: Estimate, form: str) -> None:
    ends = f"{form.format(difference.low)} .. {form.format(difference.high)}"
    if math.isinf(difference.low):
        ends = "not bounded"
    differ = f"{difference.discordant:,}" + (" (exact)" if difference.method == "exact" else "")
    sides = [f"{side[name]:.4f}" for side in (comparison.baseline, comparison.candidate)]
    table.add_row(name, *sides, form.format(difference.value), ends, differ)


def _notes(comparison: Comparison) -> list[RenderableType]:
    notes: list[RenderableType] = []
    if any(comparison.not_in_catalog):
        of_baseline, of_candidate = comparison.not_in_catalog
        notes.append(f"Targets not in the catalog, counted as misses: baseline {of_baseline}, candidate {of_candidate}")
    if comparison.in_history:
        notes.append(f"Targets in their own history, masked and so missed by both: {comparison.in_history}")
    baseline, candidate = comparison.unknown
    sides = {"": baseline} if baseline == candidate else {"Baseline: ": baseline, "Candidate: ": candidate}
    notes += [Text(f"{side}{line}") for side, unknown in sides.items() for line in unknown.lines()]
    return notes


def _agreement(agreement: Agreement) -> str:
    return (
        f"Top-k overlap {agreement.overlap:.2%}, identical lists {agreement.identical:.2%}; "
        f"log-probabilities differ by {agreement.mean_drift:.2e} on average, {agreement.max_drift:.2e} at most"
    )


def _verdict(comparison: Comparison) -> str:
    verdict = comparison.verdict
    line = f"[bold {COLORS[verdict.outcome]}]{verdict.outcome}[/] at a margin of {100 * verdict.margin:.4g} %"
    if verdict.outcome != "inconclusive":
        return line
    if verdict.users_needed is None:
        return f"{line}: the baseline has no hit in its top {comparison.k} to lose"
    return f"{line}: about {verdict.users_needed:,} users like these would decide it"
