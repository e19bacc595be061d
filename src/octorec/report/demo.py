"""Write what the demo found as report.html and as demo.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from octorec.engine.request import Answer
from octorec.evaluate.compare import Comparison
from octorec.evaluate.paired import estimate, mean
from octorec.evaluate.predictions import Predictions
from octorec.numerics.analysis import Analysis
from octorec.quant.convert import QuantizationReport
from octorec.quant.recipe import load_recipe
from octorec.report import plots
from octorec.report.analysis_page import sections
from octorec.report.dataflow import TITLE, dataflow_section
from octorec.report.page import Figure, Section, SideBySide, Table, Text, write_report
from octorec.report.verdict import FLOORS, said_ends, said_lead, said_value

METRICS = ("recall@10", "ndcg@10")
NAMES = {"bf16": "OneRec-V2, BF16", "fp8": "OneRec-V2, FP8", **FLOORS}


@dataclass(frozen=True)
class Findings:
    """Findings are what the demo found. training: as training.json. predictions: of NAMES.

    watched: titles of the person's newest films. answers: of bf16 and fp8. seconds: a stage.
    """

    training: dict[str, Any]
    analysis: Analysis
    quantized: QuantizationReport
    predictions: Mapping[str, Predictions]
    comparison: Comparison
    watched: Sequence[str]
    answers: Mapping[str, Answer]
    seconds: Mapping[str, float]


def summary(findings: Findings) -> dict[str, Any]:
    """Return what demo.json holds."""
    comparison = findings.comparison
    means = {name: predictions.values() for name, predictions in findings.predictions.items()}
    return {
        **{name: {metric: _rounded(values[metric].mean()) for metric in METRICS} for name, values in means.items()},
        "difference": {metric: comparison.differences[metric].to_dict() for metric in METRICS},
        "nll_difference": comparison.nll.to_dict(),
        "beats": {name: floor.lead.low > 0 for name, floor in comparison.floors.items()},
        "margin": comparison.verdict.margin,
        "verdict": comparison.verdict.outcome,
        "users_needed": comparison.verdict.users_needed,
        "bytes": {"bf16": findings.quantized.total_bytes_before, "fp8": findings.quantized.total_bytes_after},
        "quantized_ratio": _rounded(findings.quantized.quantized_ratio),
        "seconds": dict(findings.seconds),
    }


def write_demo_report(path: Path, findings: Findings) -> None:
    """Write the story as one self-contained page."""
    lead = (
        "A OneRec-V2 MoE trained on MovieLens-100K, quantized to FP8, and judged against its BF16 parent on each "
        "user's last 10 interactions, one at a time, films already seen excluded."
    )
    numbers = [section for section in sections(findings.analysis) if section.title != TITLE]  # the recipe in force is:
    flow = dataflow_section(load_recipe(findings.quantized.recipe), _modules(findings))
    parts = [_verdict(findings), _lists(findings), _training(findings), _bytes(findings), flow, *numbers]
    write_report(path, "OctoRec on MovieLens-100K", lead, parts)


def _verdict(findings: Findings) -> Section:
    comparison, verdict = findings.comparison, findings.comparison.verdict
    said = {
        "not_inferior": f"FP8 is not inferior: with 95 % confidence it loses less than {verdict.margin:.0%}.",
        "inferior": f"FP8 is inferior: with 95 % confidence it loses more than {verdict.margin:.0%}.",
        "inconclusive": f"Inconclusive at a margin of {verdict.margin:.0%}: {_users(verdict.users_needed)}.",
    }
    rows = []
    for name, difference in comparison.differences.items():
        sides = comparison.baseline[name], comparison.candidate[name]
        rows.append([name, *sides, said_value(difference, "{:+.2%}"), said_ends(difference, "{:+.2%}")])
    nll = comparison.nll
    rows.append(["nll", comparison.baseline["nll"], comparison.candidate["nll"],
                 said_value(nll, "{:+.4f}"), said_ends(nll, "{:+.4f}")])  # fmt: skip
    columns = ["metric", "BF16", "FP8", "difference", "95 % interval"]
    caption = "Paired and clustered by user; recall and NDCG relative, NLL absolute (nats)."
    systems = {NAMES[name]: predictions for name, predictions in findings.predictions.items()}
    means = {metric: {name: _mean(p, metric) for name, p in systems.items()} for metric in METRICS}
    overlap = comparison.agreement
    leads = {name: floor.lead for name, floor in comparison.floors.items()}
    agreement = (
        f"The two precisions share {overlap.overlap:.1%} of the top 10; the log-probabilities of the targets' codes "
        f"differ by {overlap.mean_drift:.4f} on average and {overlap.max_drift:.3f} at most."
    )
    parts: list[Text | Table | Figure | SideBySide] = [
        Text(said[verdict.outcome]),
        Text(" ".join(f"{said_lead('BF16', name, METRICS[0], lead)}." for name, lead in leads.items())),
        Table(columns, rows, caption),
        Figure(plots.intervals(means), "Means with 95 % intervals, clustered by user, beside two floors."),
        Text(agreement),
    ]
    return Section("The verdict", parts)


def _lists(findings: Findings) -> Section:
    lists = [(NAMES[name], answer.titles) for name, answer in findings.answers.items()]
    watched = Text(f"Seen last, newest first: {'; '.join(findings.watched)}.")
    return Section("One person", [watched, SideBySide(lists, "A film in bold stands in both lists.")])


def _training(findings: Findings) -> Section:
    records = findings.training["records"]
    rows = [[record["step"], record["loss"], record.get("recall@10")] for record in records]
    shares = [" ".join(f"{share:.0%}" for share in block) for block in records[-1]["expert_load"]]
    load = "; ".join(f"MoE block {number}: {text}" for number, text in enumerate(shares, 1))
    table = Table(["step", "loss", "validation recall@10"], rows, f"{findings.training['examples']:,} examples.")
    return Section("Training", [table, Text(f"Load of the routed experts at the end: {load}.")])


def _modules(findings: Findings) -> list[str]:
    """Return products by name: those that were quantized, then the heads, which were not."""
    heads = [stats.name for stats in findings.analysis.weights if stats.role == "head"]
    return [name.removesuffix(".weight") for name in [*(report.name for report in findings.quantized.tensors), *heads]]


def _bytes(findings: Findings) -> Section:
    q = findings.quantized
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


def _users(needed: int | None) -> str:
    return f"about {needed:,} users would decide it" if needed else "no number of users would decide it"


def _rounded(value: float) -> float:
    return round(float(value), 5)
