"""The interval of a contrast at one look, and the word that it comes to.

The ends are the r at which T(r) is as many standard errors from 0 as the look's bound says,

    (difference - r base)^2 = k^2 (variance of T(r)),

so that an end excludes a margin exactly where the margin is rejected. They are finite while the control's mean is k
standard errors clear of 0; else nothing bounds a relative difference (Fieller 1954). k is the bound, as the quantile of
Student's t that leaves the same tail, and without the skewness of T, which few units with large numbers have
(Hall 1992, *JRSS B* 54): g(t) = t + s t^2 / 3 + s^2 t^3 / 27 + s / 6 is taken for normal, so that the low end is where
t is g's inverse at k, and the high end where it is that at -k.
"""

import math
from dataclasses import dataclass

from scipy.special import ndtr, stdtrit

from octorec.evaluate.online.contrast import Contrast, Untold
from octorec.evaluate.online.design import Metric
from octorec.evaluate.online.results import Effect
from octorec.evaluate.verdict import Outcome

MOST_SKEW = 0.4  # of T, beyond which its distribution is not known well enough
NO_BOUND = "no bound at this look: too little of the plan is reached"
NOTHING_BELOW = "the sum to divide by is not clear of 0 in a variant, so that nothing bounds the ratio"
NOT_CLEAR = "the control's mean is not clear of 0, so that nothing bounds a relative difference"
TOO_SKEWED = "a few units carry most of the sum: more units are needed"
Ends = tuple[float, float]
UNBOUNDED: Ends = (-math.inf, math.inf)


@dataclass(frozen=True)
class Bounds:
    """How many standard errors an end is away at a look: alone, and where the error is shared (joint)."""

    alone: float
    joint: float


def effect(metric: Metric, variant: str, found: Contrast | Untold, bounds: Bounds) -> Effect:
    """The effect of `variant` on a metric, and its outcome."""
    if isinstance(found, Untold):
        means = (found.control, found.treatment, math.nan)
        return Effect(metric.name, variant, *means, *UNBOUNDED, *UNBOUNDED, found.units, "inconclusive", found.why)
    alone, joint = ends(found, bounds.alone), ends(found, bounds.joint)
    word = outcome(metric, alone, joint)
    why = _why(found, bounds.alone if math.isinf(alone[1]) else bounds.joint)
    return Effect(
        metric.name,
        variant,
        found.control,
        found.treatment,
        found.value,
        *alone,
        *joint,
        found.units,
        word,
        why if word == "inconclusive" and math.inf in (alone[1], joint[1]) else None,
    )


def outcome(metric: Metric, alone: Ends, joint: Ends) -> Outcome:
    """not_inferior: the loss is below the margin (a goal has margin 0: it became better); inferior: it is above."""
    up = metric.direction == "up"
    (low, _), (joint_low, joint_high) = ((a, b) if up else (-b, -a) for a, b in (alone, joint))
    if (joint_low if metric.role == "goal" else low) > -metric.margin:
        return "not_inferior"
    return "inferior" if joint_high < -metric.margin else "inconclusive"


def ends(found: Contrast, bound: float) -> Ends:
    """The low and the high end of the difference, `bound` standard errors away; infinite where nothing bounds it."""
    if not found.clear > bound or abs(found.skew) > MOST_SKEW:
        return UNBOUNDED
    reach = -float(stdtrit(found.freedom, ndtr(-bound)))
    low, high = _end(found, unskewed(reach, found.skew)), _end(found, unskewed(-reach, found.skew))
    return UNBOUNDED if low is None or high is None else (low, high)


def unskewed(x: float, skew: float) -> float:
    """The inverse of Hall's g at x."""
    if abs(skew) < 1e-9:
        return x
    return 3 / skew * (math.cbrt(1 + skew * (x - skew / 6)) - 1)


def _end(found: Contrast, reach: float) -> float | None:
    """The r where T(r) is `reach` standard errors above 0; None where there is none."""
    ((v0, v1), (_, v2)), square = found.variance, reach**2
    a = found.base**2 - square * v2
    if not (found.base > 0 and a > 0):
        return None
    b, c = found.difference * found.base + square * v1, found.difference**2 - square * v0
    root = math.sqrt(max(b**2 - a * c, 0.0))
    return float((b - math.copysign(root, reach)) / a)


def _why(found: Contrast, bound: float) -> str:
    """Why nothing bounds an end that is `bound` standard errors away."""
    if math.isinf(bound):
        return NO_BOUND
    if not found.clear > bound:
        return NOTHING_BELOW
    return TOO_SKEWED if abs(found.skew) > MOST_SKEW else NOT_CLEAR
