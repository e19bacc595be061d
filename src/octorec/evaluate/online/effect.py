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
from collections.abc import Sequence
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
ROUNDS = 7  # of a search: each leaves one section of the last
SECTIONS = np.linspace(0, 1, 33)
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
    alone, joint = ends(found, (bounds.alone, bounds.joint))
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


def ends(found: Contrast, bounds: Sequence[float]) -> list[Ends]:
    """The low and the high end of the difference for each of `bounds`; infinite where nothing bounds it.

    They lie past the last r that is accepted on their side of the estimate. All are sought at once [E], in ever smaller
    sections of the places [E, R] where they are thought to be.
    """
    sides = np.tile([-1.0, 1.0], len(bounds))
    reach = np.repeat(bounds, 2)
    places = np.tile(_outward(found), (len(bounds), 1))
    accepted = _accepted(found, reach, sides, places)
    if found.relative:
        inside = (sides < 0) & accepted[:, -1]
        places[inside] = np.maximum(places[inside], np.minimum(places[inside, :1], -1.0))
        accepted = _accepted(found, reach, sides, places)
    unbound = accepted[:, -1] | ~(found.clear > reach) | (found.base < 0)
    for _ in range(ROUNDS):
        last = len(places[0]) - 2 - np.argmax(accepted[:, -2::-1], 1)
        last = np.where(accepted[:, :-1].any(1), last, 0)
        near, far = (np.take_along_axis(places, (last + step)[:, None], 1) for step in (0, 1))
        places = near + (far - near) * SECTIONS
        accepted = _accepted(found, reach, sides, places)
    at = np.where(unbound, sides * np.inf, places[:, 0]).tolist()
    return list(zip(at[::2], at[1::2], strict=True))


def unskewed(x: np.ndarray | float, skew: np.ndarray | float) -> np.ndarray:
    """The inverse of Hall's g at x."""
    plain = np.abs(skew) < 1e-9
    s = np.where(plain, 1.0, skew)
    return np.where(plain, x, 3 / s * (np.cbrt(1 + s * (x - s / 6)) - 1))


def _outward(found: Contrast) -> np.ndarray:
    """Places below and above the estimate, from it outwards, where ends are first sought [2, R]."""
    if not found.base > 0:  # the estimate is infinite
        return np.stack([GRID[::-1] - 1.0, GRID])
    steps = GRID * found.varies.error(found.value) / found.base
    return found.value + np.stack([-steps, steps])


def _accepted(found: Contrast, bounds: np.ndarray, sides: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Whether r may be the difference, or T is too skewed there to tell, by bounds [E] and sides [E]; r [E, R]."""
    there = found.varies.at(r.ravel())
    error, freedom, skew = (one.reshape(r.shape) for one in (there.error, there.freedom, there.skew))
    reach = stdtrit(freedom, ndtr(-bounds)[:, None]) * sides[:, None]
    near = sides[:, None] * (found.at(r) - unskewed(reach, skew) * error) > 0
    return np.asarray((np.abs(skew) > MOST_SKEW) | near)


def _why(found: Contrast, bound: float) -> str:
    """Why nothing bounds an end that is `bound` standard errors away."""
    if math.isinf(bound):
        return NO_BOUND
    if not found.clear > bound:
        return NOTHING_BELOW
    clear = found.base > 0 and -found.at(FAR) > bound * found.varies.error(FAR)
    return TOO_SKEWED if clear else NOT_CLEAR
