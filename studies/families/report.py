"""The comparison of families as sections of a report, from what was measured and from the rows that are kept of it."""

from collections.abc import Sequence
from typing import Any

from benchmarks.rows import FamilyRow
from benchmarks.rows.families import Summary
from octorec.numerics.activations import SCHEMES
from octorec.report.page import Figure, Section, Table, Text
from studies.families.figure import draw_families
from studies.families.weights import MEASURES, Family, claims, paper

TITLES = {"absmax": "absmax", "mean_abs": "mean |x|", "variance": "variance"}
ANSWERS = {True: "yes", False: "no", None: "open"}


def sections(families: Sequence[Family], rows: Sequence[FamilyRow]) -> list[Section]:
    """rows: `Family.row` of each of `families`."""
    return [
        Section("What the paper says, and what these models show", _claims(rows)),
        Section("Side by side", _side_by_side(families)),
        Section("What FP8 does to the answers", _effects(rows)),
        Section("What FP8 does to single products", _errors(rows)),
        Section("Does speed follow?", _speed(rows)),
        Section("About the models", [Text(f"{f.label}, from {f.source}. {' '.join(f.notes)}") for f in families]),
    ]


def _claims(rows: Sequence[FamilyRow]) -> list[Text | Table]:
    found = claims(rows)
    borne_out = sum(claim.reproduced is True for claim in found)
    stated = paper()
    said = (
        f"{borne_out} of {len(found)} comparisons bear out the paper ({stated['source']}); each is computed from this "
        "run's numbers. Ours are small models of public data: where the paper's rankers are wilder, that is said below."
    )
    columns = ["claim", "paper", "model", "borne out", "found"]
    table = [
        [f"{c.id.partition('-')[0]}: {c.quantity}", c.states, c.family, ANSWERS[c.reproduced], c.found] for c in found
    ]
    return [Text(said), Table(columns, table, "Weights: matrices that are operands of products.")]


def _side_by_side(families: Sequence[Family]) -> list[Text | Figure | Table]:
    columns = {_short(family): _panels(family) for family in families}
    marks = {
        "absmax": {"paper:\nranker\nover 1000": 1000.0},
        "variance": {"paper:\nranker\nabout 1e7": 1e7, "paper: LLM,\nOneRec-V2\nbelow 0.1": 0.1},
    }
    caption = (
        "Every matrix that is an operand of a product, and the input it is multiplied by, on log axes; a model a "
        "column. Dotted: what the paper states of weights. Inputs were recorded while the models answered real "
        "requests."
    )
    figure = draw_families(columns, {TITLES[measure]: lines for measure, lines in marks.items()})
    head = [
        "model",
        "matrices",
        *(f"{TITLES[m]} of {what}, largest" for what in ("weights", "inputs") for m in MEASURES),
    ]
    table = []
    for row in (family.row() for family in families):
        table.append([row.family, row.matrices, *_largest(row.weights), *_largest(row.inputs)])
    apart = [_apart(family) for family in families if family.kind == "ranker"]
    return [Figure(figure, caption), Table(head, table), *map(Text, apart)]


def _largest(summary: Summary | None) -> list[float | None]:
    return [None if summary is None else getattr(summary, f"{measure}_max") for measure in MEASURES]


def _panels(family: Family) -> dict[str, dict[str, list[float]]]:
    panels = {}
    for measure in MEASURES:
        series: dict[str, Sequence[Any]] = {"weights": family.matrices, "inputs": family.inputs}
        panels[TITLES[measure]] = {
            name: [getattr(stats.distribution, measure) for stats in found if stats.distribution is not None]
            for name, found in series.items()
            if found
        }
    return panels


def _short(family: Family) -> str:
    return family.label.replace(", ", ",\n").replace(" (", "\n(")


def _apart(family: Family) -> str:
    other = family.row().other_tensors
    assert other is not None, "a ranker has tables"
    return (
        f"{family.name}: of its tensors that are no operand of a product (tables, biases, stored means) the largest "
        f"magnitude is {other.absmax_max:.4g} ({other.absmax_of}) and the largest variance "
        f"{other.variance_max:.4g} ({other.variance_of})."
    )


def _effects(rows: Sequence[FamilyRow]) -> list[Text | Table]:
    columns = ["model", "metric", "scales", "kept", "before", "after", "change", "95 % interval"]
    table = []
    for row in rows:
        for e in row.effects:
            low, value, high = (f"{x:+.2%}" if e.relative else f"{x:+.4f}" for x in (e.low, e.change, e.high))
            kept = e.keeps or "–"
            table.append([row.family, e.metric, e.scheme, kept, e.baseline, e.value, value, f"{low} .. {high}"])
    caption = (
        "Scales: weights/activations, or a recipe. AUC and NLL: absolute change; recall: relative. Intervals are "
        "paired, by resampling users (prompts, for a language model)."
    )
    parts: list[Text | Table] = [Table(columns, table, caption)]
    aucs = next((row.aucs for row in rows if row.aucs), None)
    if aucs:
        table = [[name, x.auc, x.low, x.high] for name, x in aucs.items()]
        parts.append(
            Table(["ranker or floor", "AUC", "low", "high"], table, "Newest fifth of the ratings; 4 or 5 is a click.")
        )
    return parts


def _errors(rows: Sequence[FamilyRow]) -> list[Table]:
    columns = [
        "model",
        *(f"output error, {scheme}" for scheme in SCHEMES),
        "SQNR of weights",
        "of inputs, a scale a token",
    ]
    table = [
        [row.family, *row.output_error.values(), row.sqnr_weights["channel"], row.sqnr_inputs["token"]] for row in rows
    ]
    caption = (
        "The worst product of each model: relative error of its output with both operands in FP8, and the lowest "
        "signal-to-quantization-noise ratios in dB. A bell curve gives 31.5 dB, and about 0.037 of output error."
    )
    return [Table(columns, table, caption)]


def _speed(rows: Sequence[FamilyRow]) -> list[Table]:
    table = [[row.family, f"{row.memory_bound:.0%}", f"{row.gain:.2f}x"]
             for row in rows if row.memory_bound is not None]  # fmt: skip
    caption = (
        "On an H100 SXM: share of the least time in 16 bit that waits for memory, and the most that FP8 can gain. The "
        "ranker scores 512 candidates of one request; OneRec-V2 is the published MoE 4B at batch 32, beam 512."
    )
    return [Table(["model", "memory-bound", "FP8 gains at most"], table, caption)]
