"""Render a proof as lines and tables for a terminal; the verdict is the last line."""

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from octorec.evaluate.compare import Agreement
from octorec.evaluate.margin import percent
from octorec.numerics.fidelity import EXPERTS_DB, HALF_STEPS, OUTPUT_DB, WEIGHT_DB
from octorec.prove.run import Proof
from octorec.report.verdict import headline, render_metrics, said_ends, said_value

WORST = 5  # layers that are shown


def render_proof(proof: Proof) -> RenderableType:
    parts = [
        *_layers(proof),
        render_metrics(proof.comparison),
        f"FP8 against 16 bit: {_alike(proof.comparison.agreement)}",
        f"noise floor, 16 bit against itself in other batches: {_alike(proof.noise)}",
        *([_speed(proof)] if proof.speed else []),
    ]
    return Group(*parts, *(Text.assemble(("fault", "red"), f": {fault}") for fault in proof.faults), _last(proof))


def _layers(proof: Proof) -> list[RenderableType]:
    safe = sum(layer.safe for layer in proof.layers)
    said = f"{safe} of {len(proof.layers)} FP8 layers are safe by recipe {proof.recipe}: output of at least "
    said += f"{OUTPUT_DB:g} dB (experts: {EXPERTS_DB:g}), every row of a weight at least {WEIGHT_DB:g} dB and at most "
    said += f"{HALF_STEPS:g} half steps"
    table = Table("lowest", "output, dB", "worst row, dB", box=SIMPLE_HEAD, padding=0)
    for layer in sorted(proof.layers, key=lambda layer: layer.output)[:WORST]:
        table.add_row(layer.name, f"{layer.output:.1f}", f"{layer.worst_row:.1f}")
    return [said, table]


def _alike(agreement: Agreement) -> str:
    return f"{agreement.overlap:.2%} of the list shared, log-probabilities {agreement.mean_drift:.2e} apart on average"


def _speed(proof: Proof) -> Table:
    table = Table("", "requests/s", "p99 of a batch, ms", "dollars a million requests", box=SIMPLE_HEAD, padding=0)
    for name, speed in proof.speed.items():
        table.add_row(name, f"{speed.requests_per_s:.0f}", f"{speed.p99_ms:.1f}", f"{speed.dollars_per_million:.3f}")
    return table


def _last(proof: Proof) -> Text:
    metric = proof.comparison.verdict.metrics[0]
    recall = proof.comparison.differences[metric]
    said = {
        "not_inferior": f"FP8 recommends as well as 16 bit, within {percent(proof.comparison.verdict.margin)}",
        "inferior": "do not serve this in FP8",
        "inconclusive": f"these {recall.users:,} users cannot tell",
    }[proof.outcome]
    ends = f"{metric} {said_value(recall, '{:+.2%}')}, 95 % interval {said_ends(recall, '{:+.2%}')}"
    return headline(proof.outcome, f": {said} ({ends})")
