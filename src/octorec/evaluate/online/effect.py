"""The interval of a contrast at one look, and the word that it comes to.

The ends are the r at which T(r) is as many standard errors from 0 as the look's bound says (Fieller 1954), so that an
end excludes a margin exactly where the margin is rejected:

    T(r) = g^-1(k) (low end) and g^-1(-k) (high end) standard errors of T(r).

k is the bound, as the quantile of Student's t that leaves the same tail. g(t) = t + s t^2 / 3 + s^2 t^3 / 27 + s / 6 is
taken for normal (Hall 1992, *JRSS B* 54), where s is the skewness of T, which few units with large numbers have. Both
the freedom and s are those of T(r) at the r that is tested: where |s| is too large, r is not rejected.

The high end is finite while the control's mean is k standard errors clear of 0. Below that a low end may still be: a
treatment that has the event a hundred times as often as a control that hardly ever has it. (r far below -1 is not
thought of: numbers below 0 have no relative difference.)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, stdtrit

from octorec.evaluate.online.contrast import Contrast, Incomparable
from octorec.evaluate.online.design import Metric
from octorec.evaluate.online.results import Effect
from octorec.evaluate.verdict import Outcome

CLOSE = 1e-10  # relative: an end that moves by less is found
GRID = np.append(0.0, 2.0 ** np.arange(-3, 21))  # distances from the estimate, in standard errors
MOST_SKEW = 0.4  # skewness of T beyond which its distribution is not known well enough
NO_BOUND = "no bound at this look: too little of the plan is reached"
NOTHING_BELOW = "the sum to divide by is not clear of 0 in a variant, so that nothing bounds the ratio"
NOT_CLEAR = "the control's mean is not clear of 0, so that nothing bounds a relative difference"
ROUNDS = 7  # rounds of a search: each leaves one section of the last
SECTIONS = np.linspace(0, 1, 33)
STEPS = 30  # most steps to an end; most ends take five
TOO_SKEWED = "a few units carry most of the sum: more units are needed"
Ends = tuple[float, float]
UNBOUNDED: Ends = (-math.inf, math.inf)


@dataclass(frozen=True)
class Bounds:
    """Bounds say how many standard errors an end is away at a look: alone, and where the error is shared (joint)."""

    alone: float
    joint: float


def effect(metric: Metric, variant: str, contrast: Contrast | Incomparable, bounds: Bounds) -> Effect:
    """Return the effect of `variant` on a metric, and its outcome."""
    if isinstance(contrast, Incomparable):
        means = (contrast.control, contrast.treatment, math.nan)
        return Effect(
            metric.name, variant, *means, *UNBOUNDED, *UNBOUNDED, contrast.units, "inconclusive", contrast.why
        )
    alone, joint = ends(contrast, (bounds.alone, bounds.joint))
    word = outcome(metric, alone, joint)
    why = _why(contrast, bounds.alone if math.inf in map(abs, alone) else bounds.joint)
    return Effect(
        metric.name,
        variant,
        contrast.control,
        contrast.treatment,
        contrast.value,
        *alone,
        *joint,
        contrast.units,
        word,
        why if word == "inconclusive" and math.inf in map(abs, alone + joint) else None,
    )


def outcome(metric: Metric, alone: Ends, joint: Ends) -> Outcome:
    """Return the outcome that two ends show.

    not_inferior: the loss is below the margin (a goal has margin 0: it became better); inferior: it is above.
    """
    up = metric.direction == "up"
    (low, _), (joint_low, joint_high) = ((a, b) if up else (-b, -a) for a, b in (alone, joint))
    if (joint_low if metric.role == "goal" else low) > -metric.margin:
        return "not_inferior"
    return "inferior" if joint_high < -metric.margin else "inconclusive"


def ends(contrast: Contrast, bounds: Sequence[float]) -> list[Ends]:
    """Return the low and the high end of the difference for each of `bounds`; infinite where nothing bounds it.

    They are the first r on their side of the estimate that is rejected: all at once [E], the few by a search where T is
    too skewed at the r that solves the equation of the first, or where none does.
    """
    sides, reach = np.tile([-1.0, 1.0], len(bounds)), np.repeat(bounds, 2)
    at = sides * np.inf
    bound = (contrast.clear > reach) & (contrast.base >= 0)
    at[bound] = _solved(contrast, reach[bound], sides[bound])
    solved = np.isfinite(at)
    solved[solved] = np.abs(contrast.varies.at(at[solved]).seen) <= MOST_SKEW
    hard = bound & ~solved
    if hard.any():
        at[hard] = searched(contrast, reach[hard], sides[hard])
    low_high = at.tolist()
    return list(zip(low_high[::2], low_high[1::2], strict=True))


def _solved(contrast: Contrast, bounds: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Return the r [E] where T(r) is as far from 0 as the bounds [E] say: NaN where there is none, or
    where it is not unique.

    The equation is quadratic in r but for freedom and skewness, which hardly change and are taken from the r before.
    """
    r, none = np.full(len(sides), contrast.value), np.full(len(sides), np.nan)
    if not contrast.base > 0:
        return none
    (v0, v1), (_, v2) = contrast.varies.parts.sum((0, 1))
    for _ in range(STEPS):
        there, before = contrast.varies.at(r), r
        square = unskewed(stdtrit(there.freedom, ndtr(-bounds)) * sides, there.skew) ** 2
        a, b = contrast.base**2 - square * v2, contrast.difference * contrast.base + square * v1
        root = np.sqrt(np.maximum(b**2 - a * (contrast.difference**2 - square * v0), 0.0))
        r = np.where(a > 0, (b + sides * root) / np.where(a > 0, a, 1.0), before)
        if not (np.abs(r - before) > CLOSE * np.abs(r)).any():
            return np.where(a > 0, r, np.nan)
    return none


def searched(contrast: Contrast, bounds: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Return the first r [E] on a side of the estimate that is rejected, sought in ever smaller
    sections; or infinity.
    """
    places = _outward(contrast)[(sides > 0).astype(int)]
    rejected = _rejected(contrast, bounds, sides, places)
    unbound = ~rejected.any(1) | ((sides > 0) & ~_clear(contrast, bounds))
    for _ in range(ROUNDS):
        first = np.maximum(np.argmax(rejected, 1), 1)[:, None]
        near, far = (np.take_along_axis(places, first - step, 1) for step in (1, 0))
        places = near + (far - near) * SECTIONS
        rejected = _rejected(contrast, bounds, sides, places)
    return np.where(unbound, sides * np.inf, places[:, 0])


def _clear(contrast: Contrast, bounds: np.ndarray) -> np.ndarray:
    """Tell whether the control's mean is clear of 0, as what is left of T(r) when r is large."""
    error = math.sqrt(contrast.varies.parts.sum((0, 1))[1, 1])
    return bounds < (contrast.base / error if error else np.inf)


def unskewed(x: np.ndarray | float, skew: np.ndarray | float) -> np.ndarray:
    """Return the inverse of Hall's g at x."""
    plain = np.abs(skew) < 1e-9
    s = np.where(plain, 1.0, skew)
    return np.where(plain, x, 3 / s * (np.cbrt(1 + s * (x - s / 6)) - 1))


def _outward(contrast: Contrast) -> np.ndarray:
    """Return places below and above the estimate, from it outwards, where ends are first sought [2, R]."""
    if not contrast.base > 0:  # the estimate is infinite
        return np.stack([GRID[::-1] - 1.0, GRID])
    value = contrast.value
    steps = GRID * contrast.varies.error(value) / contrast.base
    towards = GRID / GRID[-1] * (1 + abs(value))  # to -1, which may be less than a standard error away
    return value + np.sort(np.hstack([steps, towards])) * np.array([[-1.0], [1.0]])


def _rejected(contrast: Contrast, bounds: np.ndarray, sides: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Tell whether r [E, R] cannot be the difference, by bounds [E] and sides [E]; not where T is too
    skewed to tell.
    """
    there = contrast.varies.at(r.ravel())
    reach = stdtrit(there.freedom.reshape(r.shape), ndtr(-bounds)[:, None]) * sides[:, None]
    steps = contrast.at(r) / there.error.reshape(r.shape)
    away = sides[:, None] * (steps - unskewed(reach, there.skew.reshape(r.shape))) <= 0
    return np.asarray((np.abs(there.seen).reshape(r.shape) <= MOST_SKEW) & away)


def _why(contrast: Contrast, bound: float) -> str:
    """Return the reason why nothing bounds an end that is `bound` standard errors away."""
    if math.isinf(bound):
        return NO_BOUND
    if not contrast.clear > bound:
        return NOTHING_BELOW
    return TOO_SKEWED if contrast.base > 0 and _clear(contrast, np.array(bound)) else NOT_CLEAR
