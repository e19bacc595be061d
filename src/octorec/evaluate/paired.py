"""Paired statistics say how much a candidate differs from its baseline on the same targets, with a confidence interval.

Users are the independent units: a user's targets share a history and a taste, so they are added up for each user first.
Both quantities are ratios of sums over users u,

    value = sum_u d_u / sum_u w_u,

the relative difference (ratio of means - 1) with d = candidate - baseline and w = baseline, and the mean difference
with w = number of targets. The intervals are those of `evaluate.likelihood`: they need no resampling and no seed, hold
for few users and for few who differ, and an end never rises when a user loses more.

What one user can lose bounds what the users who were not seen could: of a bounded metric the whole of the baseline, of
an unbounded one (NLL) the most that any user seen did lose.

Letters: U users.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import brentq

from octorec.errors import InputError
from octorec.evaluate.likelihood import evidence, threshold

JOINT = 2  # metrics that decide a verdict together: recall and NDCG
WIDTH = 1e-4  # first step towards an end, where nothing differs
ROUNDING = 1e-12  # a user's sum of differences below this is rounding
PRECISE = 1e-12  # precision of an interval's end
FAR = 1e3  # stands for infinite evidence where a root is looked for
ENDLESS = 1e6  # a bounded metric's ratio beyond this has no high end


@dataclass(frozen=True)
class Paired:
    """A Paired is one metric of two systems on the same targets.

    difference, weight: [targets] float64, as in the module's text.

    lose, gain: [targets] float64, how far the candidate's metric could lie below and above the baseline's; None where
    nothing bounds the metric.
    """

    difference: np.ndarray
    weight: np.ndarray
    lose: np.ndarray | None = None
    gain: np.ndarray | None = None


@dataclass(frozen=True)
class Estimate:
    """An Estimate is a value with its two-sided interval low..high.

    An end that nothing bounds is infinite, an undefined value NaN.

    joint_high: the high end when its error is shared by the JOINT metrics that decide together (Bonferroni): that any
    of them lies below a bound by chance is then no likelier than for one alone. users: independent units, of an
    unbounded metric those with a target that both systems score. discordant: those whose metric differs between the
    two systems.
    """

    value: float
    low: float
    high: float
    joint_high: float
    users: int
    discordant: int

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON: what is not finite becomes None."""
        ends = {name: finite(getattr(self, name)) for name in ("value", "low", "high", "joint_high")}
        return {**ends, "users": self.users, "discordant_users": self.discordant}


def estimate(user_ids: np.ndarray, metrics: Mapping[str, Paired], confidence: float = 0.95) -> dict[str, Estimate]:
    """Return the value and interval of each of `metrics`, whose targets belong to `user_ids` [targets].

    Raises InputError where a metric is NaN or infinite.
    """
    if not 0 < confidence < 1:
        raise InputError("confidence", confidence, "must be between 0 and 1")
    users, count = _numbered(user_ids)
    for name, metric in metrics.items():
        broken = np.flatnonzero(~np.isfinite(metric.difference) | ~np.isfinite(metric.weight))
        if len(broken):
            raise InputError(name, f"NaN or infinity for user {user_ids[broken[0]]}", "must be finite on both sides")
    return {name: _estimate(Sums.of(users, count, metric), count, 1 - confidence) for name, metric in metrics.items()}


def relative(baseline: np.ndarray, candidate: np.ndarray) -> Paired:
    """Return the ratio of means - 1 of a metric in 0..1, [targets] each."""
    return Paired(candidate - baseline, baseline, baseline, 1 - baseline)


def mean(baseline: np.ndarray, candidate: np.ndarray, bounded: bool = False) -> Paired:
    """Return the mean of candidate - baseline, [targets] each, over targets where neither is NaN.

    bounded: both lie in 0..1.
    """
    counts = ~(np.isnan(candidate) | np.isnan(baseline))
    with np.errstate(invalid="ignore"):  # infinity - infinity, which `estimate` refuses
        difference, weight = np.where(counts, candidate - baseline, 0.0), counts.astype(float)
    return Paired(difference, weight, baseline, 1 - baseline) if bounded else Paired(difference, weight)


def finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


@dataclass(frozen=True)
class Sums:
    """Sums are a metric's sums for each user; users with equal sums are one row, which stands for
    `counts` of them: [rows] each.

    rooms: each user's (lose, gain, weight) [U]; None where the metric is unbounded.
    """

    difference: np.ndarray
    weight: np.ndarray
    counts: np.ndarray
    rooms: tuple[np.ndarray, np.ndarray, np.ndarray] | None

    @classmethod
    def of(cls, users: np.ndarray, count: int, metric: Paired) -> "Sums":
        difference, weight = (np.bincount(users, column, count) for column in (metric.difference, metric.weight))
        difference[np.abs(difference) < ROUNDING] = 0.0
        pairs, counts = np.unique(difference + 1j * weight, return_counts=True)
        rooms = None
        if metric.lose is not None and metric.gain is not None:
            rooms = np.bincount(users, metric.lose, count), np.bincount(users, metric.gain, count), weight
        return cls(pairs.real, pairs.imag, counts.astype(float), rooms)

    def above(self, r: float) -> float:
        """Return the evidence that the true ratio is above `r`."""
        z = self.difference - r * self.weight
        worst = -z if self.rooms is None else self.rooms[0] + r * self.rooms[2]
        return evidence(z, self.counts, max(0.0, float(worst.max())))

    def below(self, r: float) -> float:
        """Return the evidence that the true ratio is below `r`."""
        z = r * self.weight - self.difference
        worst = -z if self.rooms is None else self.rooms[1] - r * self.rooms[2]
        return evidence(z, self.counts, max(0.0, float(worst.max())))

    def spread(self, r: float) -> float:
        """Return the approximate standard error of the ratio at `r`."""
        z = self.difference - r * self.weight
        return math.sqrt(float(self.counts @ z**2)) / float(self.counts @ self.weight)


def _estimate(sums: Sums, users: int, alpha: float) -> Estimate:
    total = float(sums.counts @ sums.weight)
    weighing = int(sums.counts[sums.weight > 0].sum())  # no loss changes it: it is of the baseline alone
    users = weighing if sums.rooms is None else users
    discordant = int(sums.counts[sums.difference != 0].sum())
    if total <= 0:
        return Estimate(math.nan, -math.inf, math.inf, math.inf, users, discordant)
    value = float(sums.counts @ sums.difference) / total
    need, joint = threshold(weighing, alpha / 2), threshold(weighing, alpha / 2 / JOINT)
    width = max(sums.spread(value), WIDTH)
    least, most = (-math.inf, math.inf) if sums.rooms is None else (-1.0, ENDLESS)
    low = _end(sums.above, value, -width, least, need)
    high, joint_high = (_end(sums.below, value, width, most, enough) for enough in (need, joint))
    high, joint_high = (math.inf if end == ENDLESS else end for end in (high, joint_high))
    return Estimate(value, low, high, joint_high, users, discordant)


def _end(evidence_at: Callable[[float], float], value: float, step: float, limit: float, need: float) -> float:
    """Return the r nearest to `value`, on the side of `step`, at which the evidence reaches `need`;
    `limit` if none before it.

    The evidence grows with the distance from `value`, so that one root lies between two points around it.
    """
    if not math.isfinite(need):
        return limit

    def missing(r: float) -> float:
        return math.sqrt(min(evidence_at(r), FAR)) - math.sqrt(need)

    near, far = value, value
    while missing(far) < 0:
        if far == limit:
            return limit
        near, far, step = far, far + step, 2 * step
        far = min(far, limit) if step > 0 else max(far, limit)
    return near if near == far else float(brentq(missing, near, far, xtol=PRECISE))


def _numbered(user_ids: np.ndarray) -> tuple[np.ndarray, int]:
    """Return each target's user as a number [targets], and how many users there are."""
    number: dict[Any, int] = {}
    users = np.array([number.setdefault(user, len(number)) for user in user_ids], dtype=np.int64)
    return users, len(number)
