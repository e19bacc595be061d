"""Write what the demo found as sections of its report."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from octorec.evaluate.compare import Comparison
from octorec.evaluate.paired import Estimate, estimate, mean
from octorec.evaluate.predictions import Predictions
from octorec.numerics.analysis import Analysis
from octorec.quant.convert import QuantizationReport
from octorec.quant.recipe import load_recipe
from octorec.report import judged_plots, plots
from octorec.report.analysis_page import sections
from octorec.report.dataflow import TITLE, dataflow_section
from octorec.report.demo_summary import floor_words, reason, shortfall
from octorec.report.page import Figure, Links, Section, SideBySide, Table, Text
from octorec.report.people import Person
from octorec.report.verdict import FLOORS, said_ends, said_metric, said_value

METRICS = ("recall@10", "ndcg@10")
NAMES = {"bf16": "OneRec-V2, BF16", "fp8": "OneRec-V2, FP8", **FLOORS}
FILES = (
    ("bf16", "the trained checkpoint, 16 bit"),
    ("fp8", "the same in FP8, to be served"),
    ("analysis/report.html", "the numbers of every tensor, as octorec analyze writes them"),
    ("analysis/recipe.yaml", "the recipe that the analysis advises, for octorec quantize --recipe"),
    ("bf16/training.json", "the training's settings and records"),
    ("demo.json", "the numbers of this page, for programs"),
    ("interactions.csv", "the interactions; items.csv and users.csv lie beside them"),
)
WHICH = {
    "least": "Where the two lists share least",
    "typical": "A typical person (the median overlap)",
    "most": "Where they share most",
}


def quality(
    comparison: Comparison,
    leads: Mapping[str, Mapping[str, Estimate]],
    predictions: Mapping[str, Predictions],
    examples: int,
) -> list[Section]:
    """Return the verdict with its numbers, and the model beside its floors. examples: that it learned from."""
    rows = []
    for name, difference in comparison.differences.items():
        sides = comparison.baseline[name], comparison.candidate[name]
        rows.append([said_metric(name), *sides, said_value(difference, "{:+.2%}"), said_ends(difference, "{:+.2%}")])
    nll = comparison.nll
    rows.append(["nll", comparison.baseline["nll"], comparison.candidate["nll"],
                 said_value(nll, "{:+.4f}"), said_ends(nll, "{:+.4f}")])  # fmt: skip
    columns = ["metric", "BF16", "FP8", "difference", "95 % interval"]
    caption = (
        "recall@10: how often the film that came next stands among the ten; ndcg@10: the same, where first ranks count "
        "more; nll: how unlikely the model found it. Paired and clustered by user; recall and NDCG relative, NLL "
        "absolute (nats)."
    )
    systems = {NAMES[name]: of for name, of in predictions.items()}
    means = {metric: {name: _mean(of, metric) for name, of in systems.items()} for metric in METRICS}
    overlap = comparison.agreement
    agreement = (
        f"The two precisions share {overlap.overlap:.1%} of the top 10; the log-probabilities of the targets' codes "
        f"differ by {overlap.mean_drift:.4f} on average and {overlap.max_drift:.3f} at most."
    )
    verdict = Section("The verdict", [Text(reason(comparison)), Table(columns, rows, caption), Text(agreement)])
    floors = Section(
        "Beside two floors",
        [
            Figure(plots.intervals(means), "Means with 95 % intervals, clustered by user."),
            Text("Popularity shows everybody the most rated films; the Markov chain counts which films came next."),
            *map(Text, [*floor_words(leads), *shortfall(leads, examples)]),
            Text("Two intervals that overlap may still belong to a difference that is clear: the sentences compare "
                 "the same people with themselves, the picture does not."),
        ],
    )  # fmt: skip
    return [verdict, floors]


def lists_of(people: Sequence[Person], comparison: Comparison) -> Section:
    """Return people with the lists of both precisions."""
    alike = comparison.agreement.identical
    said = Text(f"The ten films are the same in both precisions for {alike:.0%} of all predictions, order aside.")
    parts: list[Text | SideBySide] = [said]
    for person in people:
        title = f"{WHICH[person.which]}: {person.shared} of {person.k}"
        about = f"User {person.user_id} ({person.about}) rated last, newest first: {'; '.join(person.seen)}."
        rated = f" What came next: {person.target}."
        lists = [(NAMES[name], entries) for name, entries in person.lists.items()]
        parts += [SideBySide(lists, f"{about}{rated} A film in bold stands in both lists.", title)]
    return Section("Best, worst and typical lists", parts)


def training(about: Mapping[str, Any]) -> Section:
    """Return the training as curves and as a table."""
    records = about["records"]
    rows = [[record["step"], record["loss"], record.get("recall@10")] for record in records]
    shares = [" ".join(f"{share:.0%}" for share in block) for block in records[-1]["expert_load"]]
    load = "; ".join(f"MoE block {number}: {text}" for number, text in enumerate(shares, 1))
    curve = Figure(judged_plots.training(records, "recall@10"), "The training, at each step where it was validated.")
    table = Table(["step", "loss", "validation recall@10"], rows, f"{about['examples']:,} examples.")
    return Section("Training", [curve, table, Text(f"Load of the routed experts at the end: {load}.")])


def measures(analysis: Analysis, quantized: QuantizationReport) -> list[Section]:
    """Return bytes, the flow of a product under the recipe in force, the analysis, and files beside the page."""
    numbers = [section for section in sections(analysis) if section.title != TITLE]  # the recipe in force is:
    flow = dataflow_section(load_recipe(quantized.recipe), _modules(analysis, quantized))
    return [_bytes(quantized), flow, *numbers]


def files() -> Section:
    return Section("Files beside this page", [Links(FILES)])


def _modules(analysis: Analysis, quantized: QuantizationReport) -> list[str]:
    """Return products by name: those that were quantized, then the heads, which were not."""
    heads = [stats.name for stats in analysis.weights if stats.role == "head"]
    return [name.removesuffix(".weight") for name in [*(report.name for report in quantized.tensors), *heads]]


def _bytes(q: QuantizationReport) -> Section:
    sizes = {
        "quantized parts": (q.quantized_bytes_before, q.quantized_bytes_after),
        "whole checkpoint": (q.total_bytes_before, q.total_bytes_after),
    }
    rows = [[name, before, after, f"{after / before:.3f}"] for name, (before, after) in sizes.items()]
    caption = "FP8 values with their float32 scales; embeddings, norms, routers and heads stay in 16 bit."
    return Section("Bytes", [Table(["", "BF16", "FP8", "ratio"], rows, caption)])


def _mean(predictions: Predictions, metric: str) -> tuple[float, float, float]:
    """Return (low, mean, high) of a metric, clustered by user."""
    values = predictions.values()[metric]
    found = estimate(predictions.user_ids, {metric: mean(np.zeros_like(values), values, bounded=True)})[metric]
    return found.low, found.value, found.high
