"""Compute the chance that what is left of the plan shows a guardrail to be not inferior, if nothing differs.

With n units the difference is v with standard error s. With N of them, the others showing none, it becomes a normal
with mean v n / N, of which the new units give the standard error s sqrt(n / N) sqrt(1 - n / N), and it is judged with
the standard error s sqrt(n / N) and the last look's bound (conditional power; Jennison & Turnbull 2000, chapter 10).
"""

import math
from collections.abc import Sequence

from scipy.special import ndtr

from octorec.evaluate.online.bounds import bounds, spent
from octorec.evaluate.online.design import Experiment, Metric
from octorec.evaluate.online.results import Effect, Look

DAY = 86400


def power_left(experiment: Experiment, looks: Sequence[Look]) -> dict[str, float]:
    """Return the chance by `metric, variant`, from the last look; without a look, and for an effect without ends, none.

    What came after the last look is left out, for it would be looked at without having been planned.
    """
    if not looks or looks[-1].final:
        return {}
    last = looks[-1]
    share = _of_units(experiment, min(last.information, 1.0))
    if not share > 0:
        return {}
    end = last.units / share  # units at the end, which go on coming as they came
    limit = _last_bound(experiment, looks, end)
    return {
        f"{one.metric}, {one.variant}": _chance(metric, one, last.bound, share, limit)
        for one in last.effects
        if (metric := experiment.metrics[one.metric]).role == "guardrail" and math.isfinite(one.low)
    }


def _of_units(experiment: Experiment, share: float) -> float:
    """Return the share of its units that a plan has at a share of it: days begin with a window in which
    none has passed.
    """
    plan, window = experiment.plan, experiment.longest_window_s / DAY
    if plan.units is not None or plan.days is None:
        return share
    return (share * plan.days - window) / (plan.days - window)


def _last_bound(experiment: Experiment, looks: Sequence[Look], end: float) -> float:
    plan = experiment.plan
    left = [share for share in plan.looks if share > looks[-1].information]
    shares = [*(look.information for look in looks), *left]
    units = [*(look.units for look in looks), *(_of_units(experiment, share) * end for share in left)]
    return bounds(units, [spent(share, plan.alpha / 2) for share in shares])[-1]


def _chance(metric: Metric, one: Effect, bound: float, share: float, limit: float) -> float:
    value, reach = (one.value, one.value - one.low) if metric.direction == "up" else (-one.value, one.high - one.value)
    error = reach / bound * math.sqrt(share)
    return float(ndtr((value * share + metric.margin - limit * error) / (error * math.sqrt(1 - share))))
