"""Small experiments and looks for tests that write records."""

import copy
import dataclasses
import math
from typing import Any

from octorec.evaluate.online.experiment import Experiment, parse_experiment
from octorec.evaluate.online.results import Effect, Look

DAY = 86400.0
NOON = 1_800_000_000.0
VERSIONS = {"control": ("m1", "c1"), "fp8": ("m2", "c1")}
SMALL = {  # an experiment's file with what it must have
    "name": "one",
    "salt": "s1",
    "unit": "user_id",
    "variants": {"control": {"share": 0.5}, "b": {"share": 0.5}},
    "metrics": {"buyers": {"kind": "proportion", "event": "buy", "window": "12h", "role": "goal"}},
    "plan": {"units": 1000},
}


def values(**changes: Any) -> dict[str, Any]:
    raw = {
        "name": "fp8-spring",
        "salt": "spring-2026",
        "unit": "user_id",
        "variants": {"control": {"share": 0.5}, "fp8": {"share": 0.5, "checkpoint": "models/fp8", "beam_width": 64}},
        "metrics": {
            "clicks": {"kind": "mean", "event": "click", "window": "1d", "role": "guardrail", "margin": 0.02},
            "buyers": {"kind": "proportion", "event": "buy", "window": "12h", "role": "goal"},
        },
        "plan": {"units": 10_000, "days": 14, "looks": [0.5, 1.0]},
        "ramp": 0.1,
        "hold_out": 0.05,
        "overrides": {"tester": "fp8"},
        "guard": {"window": "1m", "latency_ms": 80},
    }
    return {**raw, **changes}


def experiment(**changes: Any) -> Experiment:
    return parse_experiment(values(**changes))


def with_one(place: str, value: Any) -> Experiment:
    """The experiment with one value changed, at a place such as `plan.units`; None takes it out."""
    raw = copy.deepcopy(values())
    *above, last = place.split(".")
    node: Any = raw
    for key in above:
        node = node[key]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return parse_experiment(raw)


def look(number: int = 1, final: bool = False, **changes: Any) -> Look:
    effect = Effect(
        "clicks", "fp8", 1.5, math.nan, 0.1, -math.inf, math.inf, -0.5, 0.5, (10, 12), "inconclusive", "few units"
    )
    made = Look(number, NOON + number, 22, 0.5, 0.003, math.inf, final, (effect,))
    return dataclasses.replace(made, **changes)
