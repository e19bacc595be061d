"""Write an experiment as plain values, which `parse_experiment` reads back as the same experiment."""

from decimal import Decimal
from typing import Any

from octorec.evaluate.online.design import Experiment, Metric, Variant
from octorec.evaluate.online.fields import SECONDS
from octorec.settings import given


def experiment_values(experiment: Experiment) -> dict[str, Any]:
    """Return the values of a file that describes this experiment: text, numbers, lists and mappings;
    shares as fractions.
    """
    plan, guard = experiment.plan, experiment.guard
    return {
        "name": experiment.name,
        "salt": experiment.salt,
        "unit": experiment.unit,
        "variants": {name: _variant(variant) for name, variant in experiment.variants.items()},
        "metrics": {name: _metric(metric) for name, metric in experiment.metrics.items()},
        "plan": given(
            {
                "units": plan.units,
                "days": plan.days,
                "looks": list(plan.looks),
                "alpha": plan.alpha,
                "power": plan.power,
            }
        ),
        "ramp": str(experiment.ramp),
        "hold_out": str(experiment.hold_out),
        "overrides": dict(experiment.overrides),
        "guard": given(
            {
                "window": duration(guard.window_s),
                "requests": guard.requests,
                "latency_ms": guard.latency_ms,
                "error_rate": guard.error_rate,
                "outcomes": None if guard.outcomes else False,
            }
        ),
    }


def duration(seconds: float) -> str:
    """Return a number of seconds as a duration, in the largest unit of which it is a whole number."""
    for letter in ("d", "h", "m"):
        if seconds % SECONDS[letter] == 0:
            return f"{int(seconds) // SECONDS[letter]}{letter}"
    return f"{Decimal(repr(seconds)):f}s".replace(".0s", "s")


def _variant(variant: Variant) -> dict[str, Any]:
    return given(
        {
            "share": str(variant.share),
            "checkpoint": variant.checkpoint,
            "catalog": variant.catalog,
            "beam_width": variant.beam_width,
        }
    )


def _metric(metric: Metric) -> dict[str, Any]:
    absolute = metric.margin_kind == "absolute"
    margin = None if metric.role == "goal" else {"absolute": metric.margin} if absolute else metric.margin
    return given(
        {
            "kind": metric.kind,
            "event": metric.event,
            "window": duration(metric.window_s),
            "role": metric.role,
            "per": metric.per,
            "direction": metric.direction,
            "margin": margin,
            "covariate": None if metric.covariate_s is None else duration(metric.covariate_s),
        }
    )
