"""Compute how many units each metric needs, from data of the past.

A guardrail is shown not to be inferior, if nothing differs, where T(-margin) = mean_t - (1 - margin) mean_c is D
standard errors above 0, with

    N = D^2 (V / share_t + (1 - margin)^2 V / share_c) / (margin mean)^2        units in all,

V the variance of a unit, what the covariate explains taken off. For an absolute margin (1 - margin)^2 is 1 and the
margin stands below; where less is better it is (1 + margin)^2. D is what the planned looks need in order that one of
them shows it with the wanted power: z(alpha / 2) + z(1 - power) for one look, and a little more for several (Jennison &
Turnbull 2000, chapter 2). This is the formula for a margin; that for equal means would ask for another number. Where
several guardrails and treatments have to be shown together, each gets the power that leaves all of them the plan's.
Goals share the plan's error. Where a small variant has a skewed metric, D is
moved by the skewness of T as `effect` moves the bound.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri

from octorec.errors import InputError
from octorec.evaluate.online.bounds import drift_needed
from octorec.evaluate.online.design import CONTROL, Experiment, Metric
from octorec.evaluate.online.effect import MOST_SKEW, unskewed
from octorec.evaluate.online.past import Past
from octorec.evaluate.verdict import MIN_USERS

DAY = 86400
LEAST_PER_ARM = 2 * MIN_USERS  # expected units of an arm, so that the MIN_USERS without which nothing is said do come
SAFE_SKEW = 0.75 * MOST_SKEW  # skewness of T, so that what is estimated stays below MOST_SKEW
STEPS = 40  # steps of the search for units with this skewness
MOST = 1e3  # standard deviations of a unit


@dataclass(frozen=True)
class Size:
    """A Size says how many units a metric needs.

    units: counted, of all variants together, that a guardrail needs; None for a goal, and where no number is enough.

    found: the smallest margin, or a goal's smallest difference, that the plan's units show with its power, relative or
    absolute as the metric's margin is; None for a plan of no known units. days: until so many units have passed all
    windows, None where the units a day are not known. why: how it was counted, in words.
    """

    metric: str
    units: int | None
    found: float | None
    days: float | None
    why: str


def sizes(experiment: Experiment, past: Mapping[str, Past], units_a_day: float | None = None) -> tuple[Size, ...]:
    """Return the size that each metric asks for, in the file's order.

    past: by metric, as `past_of` gives it. units_a_day: that are seen for the first time, in the ramp, of all variants.
    """
    if units_a_day is not None and not 0 < units_a_day < math.inf:
        raise InputError("units_a_day", units_a_day, "must be above 0")
    return tuple(_size(experiment, metric, past[name], units_a_day) for name, metric in experiment.metrics.items())


def plan_units(experiment: Experiment, units_a_day: float | None) -> int | None:
    """Return the units of a plan; days end it with as many as came so early that their windows passed."""
    plan = experiment.plan
    if plan.days is None or units_a_day is None:
        return plan.units
    in_time = int((plan.days - experiment.longest_window_s / DAY) * units_a_day)
    return in_time if plan.units is None else min(plan.units, in_time)


def _size(experiment: Experiment, metric: Metric, past: Past, units_a_day: float | None) -> Size:
    level, power, drift, words = _drift(experiment, metric)
    if past.variance <= 0:
        return Size(metric.name, None, None, None, "all units of the past have the same number")
    if metric.margin_kind == "relative" and past.mean <= 0:
        return Size(metric.name, None, None, None, "the mean of the past is not above 0: give an absolute margin")
    shares = {name: float(variant.share) for name, variant in experiment.variants.items()}
    smallest = min(experiment.treatments, key=lambda name: shares[name])
    if not min(shares[smallest], shares[CONTROL]) > 0:
        return Size(metric.name, None, None, None, "a variant has no share")
    one = _Formula(metric, past, shares[smallest], shares[CONTROL], level, power, drift)
    units = one.units(metric.margin) if metric.role == "guardrail" else None
    planned = plan_units(experiment, units_a_day)
    found = None if planned is None else one.found(planned)
    wanted = units or planned
    days = None if units_a_day is None or wanted is None else wanted / units_a_day + experiment.longest_window_s / DAY
    return Size(metric.name, units, found, days, f"{words}{_explained(past)}")


@dataclass(frozen=True)
class _Formula:
    metric: Metric
    past: Past
    treatment: float  # shares
    control: float
    level: float
    power: float
    drift: float

    def needed(self, margin: float) -> float:
        """Return the units in all for a margin, not rounded.

        A goal is compared with no difference, and stands beyond it.
        """
        relative, up = self.metric.margin_kind == "relative", self.metric.direction == "up"
        times = 1 - (margin if up else -margin) if relative and self.metric.role == "guardrail" else 1.0
        variance = self.past.variance * (1 - self.past.correlation**2)
        apart = margin * (self.past.mean if relative else 1.0)
        inverse = np.array([1 / self.treatment, times**2 / self.control])
        plain = self.drift**2 * variance * inverse.sum() / apart**2
        thirds = np.array([1 / self.treatment**2, -(times**3) / self.control**2])
        skew = self.past.skew * thirds.sum() / inverse.sum() ** 1.5 * (1 if up else -1)  # of T, times the root of units
        units = plain
        for _ in range(STEPS):
            units = math.sqrt(units * plain) * self._skewed(skew / math.sqrt(units))
        return max(units, (skew / SAFE_SKEW) ** 2)

    def _skewed(self, skew: float) -> float:
        """Return how many times D is needed where T has this skewness, which moves the bound and the standard error."""
        skew = max(-MOST_SKEW, min(skew, MOST_SKEW))
        bound, above = -float(ndtri(self.level)), float(ndtri(self.power))
        moved = float(unskewed(bound, skew))
        return (moved + (1 - moved * skew / 2) * (above - skew * (above**2 - 1) / 6)) / (bound + above)

    def units(self, margin: float) -> int:
        """Return the units in all, whole in the smallest treatment and at least LEAST_PER_ARM there."""
        share = min(self.treatment, self.control)
        smaller = max(LEAST_PER_ARM, math.ceil(self.needed(margin) * share - 1e-9))
        return math.ceil(smaller / share - 1e-9)

    def found(self, units: int) -> float | None:
        """Return the margin that needs so many units; None where no margin is wide enough."""
        relative = self.metric.margin_kind == "relative"
        most = 1.0 if relative and self.metric.role == "guardrail" else MOST * math.sqrt(self.past.variance)
        if self.needed(most) > units:
            return None
        top = math.log(most)
        return math.exp(brentq(lambda log: self.needed(math.exp(log)) / units - 1, top - 100, top))


def _drift(experiment: Experiment, metric: Metric) -> tuple[float, float, float, str]:
    """Return the one-sided error, the power and D of a metric, and how the error and the power were shared."""
    plan, level = experiment.plan, experiment.plan.alpha / 2
    alike = len(experiment.treatments) * sum(one.role == metric.role for one in experiment.metrics.values())
    power, words = plan.power, f"one-sided error {level:.3g}, power {plan.power:.3g}"
    if metric.role == "goal" and alike > 1:
        level /= alike
        words = f"one-sided error {level:.3g}, shared by {alike} goals and treatments; power {plan.power:.3g}"
    elif alike > 1:
        power = 1 - (1 - plan.power) / alike
        words = f"one-sided error {level:.3g}, power {power:.3g} each, so that {alike} have {plan.power:.3g} together"
    drift, single = drift_needed(plan.looks, level, power), drift_needed((1.0,), level, power)
    if len(plan.looks) > 1:
        words += f"; {len(plan.looks)} looks ask for {(drift / single) ** 2 - 1:.1%} more units than one"
    return level, power, drift, words


def _explained(past: Past) -> str:
    return f"; the covariate takes {past.correlation**2:.0%} off the variance" if past.correlation else ""
