"""The power that numbers of units reach: what `size` asks for, seen from the other side."""

import math
from collections.abc import Sequence

from octorec.evaluate.online.bounds import crossing, planned
from octorec.evaluate.online.experiment import Experiment
from octorec.evaluate.online.size import Size, _drift


def reached(experiment: Experiment, size: Size, units: Sequence[float]) -> list[float]:
    """The chance that a guardrail is shown to be not inferior with so many units in all, if nothing differs.

    size: of the guardrail, with a number of units, at which the estimate is `_drift` standard errors away from the
    margin; with N units it is sqrt(N / size.units) times as many.
    """
    assert size.units is not None
    plan = experiment.plan
    drift, _ = _drift(experiment, experiment.metrics[size.metric])
    limits = planned(plan.looks, plan.alpha / 2)
    return [math.fsum(crossing(plan.looks, limits, drift * math.sqrt(one / size.units))) for one in units]
