"""The interval of a contrast at one look, and the word that it comes to.

The ends are the r at which T(r) is as many standard errors from 0 as the look's bound says (Fieller 1954), so that an
end excludes a margin exactly where the margin is rejected:

    T(r) = g^-1(k) (low end) and g^-1(-k) (high end) standard errors of T(r).

k is the bound, as the quantile of Student's t that leaves the same tail. g(t) = t + s t^2 / 3 + s^2 t^3 / 27 + s / 6 is
taken for normal (Hall 1992, *JRSS B* 54), where s is the skewness of T, which few units with large numbers have. Both
the freedom and s are those of T(r) at the r that is tested: where |s| is too large, r is not rejected.

The high end is finite while the control's mean is k standard errors clear of 0. Below that a low end may still be: a
treatment that has the event a hundred times as often as a control that hardly ever has it. It is then sought above -1
only, as numbers below 0 have no relative difference.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, stdtrit

from octorec.evaluate.online.contrast import Contrast, Untold
from octorec.evaluate.online.design import Metric
from octorec.evaluate.online.results import Effect
from octorec.evaluate.verdict import Outcome

FAR = 1e12  # where only the control's mean is left of a relative T(r)
GRID = np.append(0.0, 2.0 ** np.arange(-3, 21))  # in standard errors
MOST_SKEW = 0.4  # of T, beyond which its distribution is not known well enough
NO_BOUND = "no bound at this look: too little of the plan is reached"
NOTHING_BELOW = "the sum to divide by is not clear of 0 in a variant, so that nothing bounds the ratio"
NOT_CLEAR = "the control's mean is not clear of 0, so that nothing bounds a relative difference"
ROUNDS, SECTIONS = 9, 64  # of the search: each round leaves one section of the last
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
    why = _why(found, bounds.alone if math.inf in map(abs, alone) else bounds.joint)
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
        why if word == "inconclusive" and math.inf in map(abs, alone + joint) else None,
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
    if not found.clear > bound or found.base < 0:
        return UNBOUNDED
    return _end(found, bound, -1), _end(found, bound, 1)


def unskewed(x: np.ndarray | float, skew: np.ndarray | float) -> np.ndarray:
    """The inverse of Hall's g at x."""
    plain = np.abs(skew) < 1e-9
    s = np.where(plain, 1.0, skew)
    return np.where(plain, x, 3 / s * (np.cbrt(1 + s * (x - s / 6)) - 1))


def _end(found: Contrast, bound: float, side: int) -> float:
    """The r below (side -1) or above (1) the estimate past which every r is rejected; infinite where there is none."""
    places = _outward(found, side)
    if found.relative and side < 0 and _accepted(found, bound, side, places[-1:]):
        places = np.maximum(places, min(places[0], -1.0))
    accepted = _accepted(found, bound, side, places)
    if accepted[-1]:
        return side * math.inf
    for _ in range(ROUNDS):
        last = int(np.flatnonzero(accepted[:-1]).max(initial=0))
        places = np.linspace(places[last], places[last + 1], SECTIONS + 1)
        accepted = _accepted(found, bound, side, places)
    return float(places[0])


def _outward(found: Contrast, side: int) -> np.ndarray:
    """Places from the estimate outwards, where an end is first sought."""
    if not found.base > 0:  # the estimate is infinite
        return GRID[::-1] - 1.0 if side < 0 else GRID
    return found.value + side * GRID * found.varies.error(found.value) / found.base


def _accepted(found: Contrast, bound: float, side: int, r: np.ndarray) -> np.ndarray:
    """Whether r may be the difference, or T is too skewed there to tell [...]."""
    skew = found.varies.skew(r)
    reach = stdtrit(found.varies.freedom(r), ndtr(-bound)) * side
    near = side * found.at(r) > side * unskewed(reach, skew) * found.varies.error(r)
    return np.asarray((np.abs(skew) > MOST_SKEW) | near)


def _why(found: Contrast, bound: float) -> str:
    """Why nothing bounds an end that is `bound` standard errors away."""
    if math.isinf(bound):
        return NO_BOUND
    if not found.clear > bound:
        return NOTHING_BELOW
    clear = found.base > 0 and -found.at(FAR) > bound * found.varies.error(FAR)
    return TOO_SKEWED if clear else NOT_CLEAR
