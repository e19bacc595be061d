"""Rows of the proof: one engine's answers beside its BF16 parent's."""

from typing import Any

import numpy as np
import torch

from benchmarks.rows.quality import LogProbDifference
from benchmarks.rows.verdicts import Interval
from octorec.data.interactions import Interactions
from octorec.evaluate.compare import Comparison, compare_predictions, evaluate_baselines
from octorec.evaluate.predictions import Predictions
from octorec.models.model import Inputs
from octorec.models.onerec import OneRecV2
from studies.quality.answers import Answers, Asked, beam_overlap, predictions_of
from studies.quality.settings import K
from studies.quality.simulate import Simulation, simulate

MARGIN = 0.01  # as plan.md says


def judged(asked: Asked, baseline: Answers, candidate: Answers) -> dict[str, Any]:
    """The fields of a recipe's `SetVerdict`: both targets of every user, judged by the plan's margin."""
    before, after = (predictions_of(asked, answers, K) for answers in (baseline, candidate))
    return {
        **columns(compare_predictions(before, after, MARGIN)),
        "test": means(after, slice(1, None, 2)),
        "beam_overlap": beam_overlap(baseline.beams, candidate.beams),
        "invalid": candidate.invalid / candidate.beams.size,
    }


def columns(found: Comparison) -> dict[str, Any]:
    """What a comparison says, as fields of a `SetVerdict`."""
    return {
        "users": found.users,
        "targets": found.targets,
        **{field_of(name): round(value, 6) for name, value in found.candidate.items()},
        "relative_difference": {name: Interval(**value.to_dict()) for name, value in found.differences.items()},
        "nll_difference": Interval(**found.nll.to_dict()),
        "verdict": found.verdict.outcome,
        "users_needed": found.verdict.users_needed,
        "margin": found.verdict.margin,
        "top10_overlap": found.agreement.overlap,
        "log_prob_difference": LogProbDifference(found.agreement.max_drift, found.agreement.mean_drift),
    }


def floors(train: Interactions, asked: Asked) -> dict[str, dict[str, Any]]:
    """The fields of the `FloorRow`s of popularity and the Markov chain on the same targets."""
    found = evaluate_baselines(train, asked.examples, K, exclude_seen=True)
    return {
        name: {
            **{field_of(metric): value for metric, value in means(floor).items()},
            "test": means(floor, slice(1, None, 2)),
        }
        for name, floor in found.items()
    }


def field_of(metric: str) -> str:
    """The field of a row that holds a metric: `recall_10` for `recall@10`."""
    return metric.replace("@", "_")


def means(predictions: Predictions, rows: slice = slice(None)) -> dict[str, float]:
    return {name: round(float(values[rows].mean()), 6) for name, values in predictions.values().items()}


@torch.inference_mode()
def mean_sqnr(model: OneRecV2, inputs: Inputs, codes: torch.Tensor, simulation: Simulation) -> dict[str, Any]:
    """The SQNR fields of a `SetVerdict`, over the products that `simulation` quantizes, each given its exact input.

    `model` in float32; it is left measuring and should be thrown away.
    """
    found: dict[str, list[float]] = {}
    simulate(model, simulation, found)
    model.forced(inputs, codes)
    each = {name: float(np.mean(values)) for name, values in found.items()}
    lowest = min(each, key=lambda name: each[name])
    return {"mean_sqnr_db": float(np.mean(list(each.values()))), "lowest_sqnr_db": each[lowest], "lowest": lowest,
            "products": len(each)}  # fmt: skip
