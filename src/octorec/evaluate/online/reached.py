"""Compute the power that numbers of units reach: the inverse of `size`."""

import math
from collections.abc import Sequence

from octorec.evaluate.online.bounds import crossing, drift_needed, planned
from octorec.evaluate.online.experiment import Experiment
from octorec.evaluate.online.size import Size

MOST_DRIFT = 40.0  # standard errors with which any plan is sure to show what it looks for


def reached(experiment: Experiment, size: Size, units: Sequence[float]) -> list[float]:
    """Return the chance that a guardrail is shown to be not inferior with so many units in all, if nothing differs.

    size: of the guardrail, with a number of units. With them the estimate is as many standard errors away from the
    margin as its power asks for: the plan's or, of several guardrails and treatments, so much that all together
    have the plan's. With N units it is sqrt(N / size.units) times as many.
    """
    assert size.units is not None
    plan, level = experiment.plan, experiment.plan.alpha / 2
    together = len(experiment.treatments) * sum(one.role == "guardrail" for one in experiment.metrics.values())
    drift = drift_needed(plan.looks, level, 1 - (1 - plan.power) / together)
    limits = planned(plan.looks, level)
    drifts = [min(drift * math.sqrt(one / size.units), MOST_DRIFT) for one in units]
    return [math.fsum(crossing(plan.looks, limits, one)) for one in drifts]
