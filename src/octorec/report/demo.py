"""Write what the demo found as report.html and as demo.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octorec.evaluate.compare import Comparison
from octorec.evaluate.paired import Estimate
from octorec.evaluate.predictions import Predictions
from octorec.numerics.analysis import Analysis
from octorec.quant.convert import QuantizationReport
from octorec.report.demo_sections import METRICS, files, lists_of, measures, quality, training
from octorec.report.demo_summary import lead, summed_up, what_it_says
from octorec.report.made import made
from octorec.report.page import write_report
from octorec.report.people import Person


@dataclass(frozen=True)
class Findings:
    """Findings are what the demo found. training: as training.json. predictions: of demo_sections.NAMES.

    leads: how far BF16 leads each floor, by floor and metric. people: see `report.people`. seconds: a stage.
    """

    training: dict[str, Any]
    analysis: Analysis
    quantized: QuantizationReport
    predictions: Mapping[str, Predictions]
    comparison: Comparison
    leads: Mapping[str, Mapping[str, Estimate]]
    people: Sequence[Person]
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
        "leads": {
            name: {metric: lead.to_dict() for metric, lead in leads.items()} for name, leads in findings.leads.items()
        },
        "margin": comparison.verdict.margin,
        "verdict": comparison.verdict.outcome,
        "users_needed": comparison.verdict.users_needed,
        "bytes": {"bf16": findings.quantized.total_bytes_before, "fp8": findings.quantized.total_bytes_after},
        "quantized_ratio": _rounded(findings.quantized.quantized_ratio),
        "seconds": dict(findings.seconds),
    }


def write_demo_report(path: Path, findings: Findings) -> None:
    """Write the story as one self-contained page."""
    sections = [
        *quality(findings.comparison, findings.leads, findings.predictions, findings.training["examples"]),
        lists_of(findings.people, findings.comparison),
        what_it_says(findings.analysis, findings.comparison),
        files(),
        training(findings.training),
        *measures(findings.analysis, findings.quantized),
    ]
    summed = summed_up(findings.comparison, findings.leads, findings.quantized, findings.analysis, made())
    write_report(path, "OctoRec on MovieLens-100K", lead(findings.analysis, findings.comparison), sections, summed)


def _rounded(value: float) -> float:
    return round(float(value), 5)
