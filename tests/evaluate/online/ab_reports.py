"""Experiments and A/B reports made by hand, for tests of what people read."""

import dataclasses
from pathlib import Path
from typing import Any

from octorec.evaluate.online.experiment import Experiment, parse_experiment
from octorec.evaluate.online.record import Note, Record, Stage
from octorec.evaluate.online.results import AbReport, Effect, Look, SampleRatio

STARTED = 1_790_000_000.0
FILE: dict[str, Any] = {
    "name": "fp8-shop",
    "salt": "fp8-shop-2026-11",
    "unit": "user_id",
    "variants": {"control": {"share": 0.5}, "fp8": {"share": "1/2", "checkpoint": "runs/fp8", "beam_width": 64}},
    "metrics": {
        "clicks": {"kind": "mean", "event": "click", "window": "7d", "role": "guardrail", "margin": 0.02},
        "buyers": {
            "kind": "proportion", "event": "order", "window": "7d", "role": "guardrail", "margin": {"absolute": 0.01},
        },
        "spent": {"kind": "mean", "event": "order", "window": "7d", "role": "goal"},
    },
    "plan": {"units": 20000, "looks": [0.5, 1]},
}  # fmt: skip


def experiment(**changes: Any) -> Experiment:
    return parse_experiment(FILE | changes)


def record(**changes: Any) -> Record:
    """The record of an experiment with `changes` of its file, which was started and nothing more."""
    made = experiment(**changes)
    shares = {name: variant.share for name, variant in made.variants.items()}
    stage = Stage(0, STARTED, shares, dict.fromkeys(shares, ("model", "catalog")))
    return Record(Path("fp8-shop"), made, (stage,), notes=(Note(STARTED, "started"),))


def effect(metric: str, outcome: str, value: float = 0.001, reach: float = 0.01, **changes: Any) -> Effect:
    low, high = value - reach, value + reach
    made = Effect(metric, "fp8", 1.25, 1.26, value, low, high, low, high, (4990, 5010), outcome)  # type: ignore[arg-type]
    return dataclasses.replace(made, **changes)


def look(number: int, *effects: Effect, final: bool = False) -> Look:
    time = STARTED + number * 7 * 86400
    return Look(number, time, 10_000 * number, number / 2, 0.003 if number == 1 else 0.05, 2.96, final, effects)


def report(outcome: str = "not_inferior", *looks: Look, **changes: Any) -> AbReport:
    made = AbReport(
        experiment="fp8-shop",
        outcome=outcome,  # type: ignore[arg-type]
        broken=(),
        sample_ratio=SampleRatio({"control": 6012, "fp8": 5988}, {"control": 6000.0, "fp8": 6000.0}, 0.83, False),
        looks=looks,
        units=10_000,
        next_look=20_000,
        counts={"outcomes after their window": 1234, "outcomes of units that were never exposed": 17},
        ended={"control": {"answered": 9990, "refused": 10}, "fp8": {"answered": 9900, "short": 100}},
        power={"clicks, fp8": 0.8123},
    )
    return dataclasses.replace(made, **changes)
