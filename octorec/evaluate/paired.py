"""Paired statistics: how much a candidate differs from its baseline on the same targets, with a confidence interval.

Users are the independent units: a user's targets share a history and a taste, so they are added up a user first and
users are what is resampled. Both quantities are ratios of sums over users u,

    value = sum_u d_u / sum_u w_u,

the relative difference (ratio of means - 1) with d = candidate - baseline and w = baseline, and the mean difference
with w = number of targets.

With EXACT_BELOW or more discordant users (d_u != 0) the interval is the percentile bootstrap over users. With fewer the
bootstrap sees little or nothing of what could differ (nothing at all gives [0, 0]), and `exact_interval` bounds it.

Letters: U users, C columns of sums, R resamples.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import beta

from octorec.errors import InputError

EXACT_BELOW = 10  # discordant users
RESAMPLES = 2000
CHUNK_ENTRIES = 4_000_000  # weights held at a time: resamples x users
ROUNDING = 1e-12  # a user's sum of differences below this is rounding


@dataclass(frozen=True)
class Paired:
    """One metric of two systems on the same targets. difference, weight: [targets] float64, as in the module's text.

    kind `relative`: weight is the baseline's metric. kind `mean`: weight is 1, or 0 for a target that does not count.
    bounded: the metric lies in 0..1 for each target. least: its smallest value above 0. step: the smallest difference
    above 0 between two users' sums of it, 0 where that can be anything.
    """

    difference: np.ndarray
    weight: np.ndarray
    kind: Literal["relative", "mean"]
    bounded: bool = False
    least: float = 0.0
    step: float = 0.0


@dataclass(frozen=True)
class Estimate:
    """value with its two-sided interval low..high. An end that nothing bounds is infinite, an undefined value NaN.

    users: independent units. discordant: those whose metric differs between the two systems.
    """

    value: float
    low: float
    high: float
    method: Literal["bootstrap", "exact"]
    users: int
    discordant: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON: what is not finite becomes None."""
        ends = {name: finite(getattr(self, name)) for name in ("value", "low", "high")}
        return {**ends, "method": self.method, "users": self.users, "discordant_users": self.discordant}


def estimate(
    user_ids: np.ndarray,
    metrics: Mapping[str, Paired],
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Estimate]:
    """The value and interval of each of `metrics`, whose targets belong to `user_ids` [targets].

    All metrics see the same resamples. Memory: CHUNK_ENTRIES weights and C sums a user.
    """
    if not 0 < confidence < 1:
        raise InputError("confidence", confidence, "must be between 0 and 1")
    if resamples < 100:
        raise InputError("resamples", resamples, "must be 100 or more")
    alpha = 1 - confidence
    users, targets = _clusters(user_ids)
    sums = {name: _user_sums(users, len(targets), metric) for name, metric in metrics.items()}
    many = [name for name, (difference, _) in sums.items() if np.count_nonzero(difference) >= EXACT_BELOW]
    out = {name: _exact(*sums[name], targets, metric, alpha) for name, metric in metrics.items() if name not in many}
    if many:
        columns = np.stack([column for name in many for column in sums[name]], 1)  # [U, 2 * metrics]
        totals = resample(columns, resamples, seed)
        for number, name in enumerate(many):
            out[name] = _percentile(*sums[name], totals[:, 2 * number], totals[:, 2 * number + 1], alpha)
    return {name: out[name] for name in metrics}


def resample(columns: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Sums of `columns` [U, C] over U users drawn with replacement, `resamples` times: [R, C] float64."""
    users = len(columns)
    rng = np.random.default_rng(seed)
    out = np.empty((resamples, columns.shape[1]))
    rows = max(1, CHUNK_ENTRIES // users)
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = rng.integers(users, size=(count, users))
        drawn += np.arange(count)[:, None] * users
        weights = np.bincount(drawn.ravel(), minlength=count * users).reshape(count, users)
        out[start : start + count] = weights.astype(np.float64) @ columns
    return out


def exact_interval(
    difference: np.ndarray, weight: np.ndarray, most: float, least: float, step: float, fixed: bool, alpha: float
) -> tuple[float, float]:
    """An interval for E[d] / E[w] that holds with probability 1 - alpha or more, whatever the distribution.

    difference, weight: [U], one draw of (d, w) a user. For every user 0 <= w <= most, |d| <= most, d >= -w; w is 0 or
    at least `least`; |d| is 0 or at least `step`. fixed: w is known beforehand (a number of targets), not drawn.

    Write N for the users with w > 0 or d != 0 (the others add nothing to either mean), H for those with w > 0, and
    m-, m+ for the numbers of users with d < 0 and d > 0. Given N or H these are binomial, so Clopper-Pearson bounds
    U(m of N) and L(m of N) hold for their shares at any size; with m = 0, U is about ln(1/alpha') / N: the rule of
    three. What a user who differs loses or gains is not estimated but taken as the most that one user can.

    Low end. Only users with w > 0 can lose (d >= -w), so E[-d; d<0] <= P(w>0) * U(m- of H) * most, and
    E[w] = P(w>0) * E[w | w>0]. P(w>0) cancels:       low = -U(m- of H) * most / c,
    with c a lower bound of E[w | w>0]: Hoeffding's over H users for values in least..most, which costs nothing when
    least = most (recall of one target a user: there `low` is the exact bound of the share of hits that are lost).

    High end. Given the N users, E[d] <= U(m+ of N) * most - L(m- of N) * step, and E[w] lies between
    L(H of N) * c and most: divide by whichever makes the end larger. With w fixed its mean stands in place of both.

    Each end gets alpha / 2, shared equally among the bounds it needs (Bonferroni). Low is never under -1, for d >= -w.
    """
    used = (weight > 0) | (difference != 0)
    active, hits = int(used.sum()), int((weight > 0).sum())
    losses, gains = int((difference < 0).sum()), int((difference > 0).sum())
    if hits == 0 or not math.isfinite(most):
        return -math.inf, math.inf
    if fixed:
        mean = weight[weight > 0].mean()
        low = -_upper(losses, hits, alpha / 2) * most / mean
        most_gain = _upper(gains, hits, alpha / 4) * most - _lower(losses, hits, alpha / 4) * step
        return max(-1.0, low), most_gain / mean
    drawn = weight[weight > 0]
    free = least == most
    share = alpha / 2 if free else alpha / 4
    low = -_upper(losses, hits, share) * most / _mean_at_least(drawn, least, most, share)
    share = alpha / (6 if free else 8)
    gain = _upper(gains, active, share) * most - _lower(losses, active, share) * step
    per_user = _lower(hits, active, share) * _mean_at_least(drawn, least, most, share)
    return max(-1.0, low), gain / (per_user if gain > 0 else most)


def relative(baseline: np.ndarray, candidate: np.ndarray, least: float, step: float = 0.0) -> Paired:
    """Ratio of means - 1 of a metric in 0..1, [targets] each."""
    return Paired(candidate - baseline, baseline, "relative", True, least, step)


def mean(baseline: np.ndarray, candidate: np.ndarray, bounded: bool = False, step: float = 0.0) -> Paired:
    """Mean of candidate - baseline, [targets] each, over the targets where neither is NaN."""
    counts = ~np.isnan(candidate - baseline)
    return Paired(np.where(counts, candidate - baseline, 0.0), counts.astype(float), "mean", bounded, 1.0, step)


def finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _clusters(user_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each target's user as a number [targets], and each user's number of targets [U]."""
    number: dict[Any, int] = {}
    users = np.array([number.setdefault(user, len(number)) for user in user_ids], dtype=np.int64)
    return users, np.bincount(users)


def _user_sums(users: np.ndarray, count: int, metric: Paired) -> tuple[np.ndarray, np.ndarray]:
    difference = np.bincount(users, metric.difference, count)
    return np.where(np.abs(difference) < ROUNDING, 0.0, difference), np.bincount(users, metric.weight, count)


def _exact(difference: np.ndarray, weight: np.ndarray, targets: np.ndarray, metric: Paired, alpha: float) -> Estimate:
    most = float(targets.max()) if metric.bounded else math.inf  # 1 for each target of the user who has the most
    fixed = metric.kind == "mean"
    low, high = exact_interval(difference, weight, most, metric.least, metric.step, fixed, alpha)
    return Estimate(_ratio(difference, weight), low, high, "exact", len(weight), int(np.count_nonzero(difference)))


def _percentile(
    difference: np.ndarray, weight: np.ndarray, differences: np.ndarray, weights: np.ndarray, alpha: float
) -> Estimate:
    """The bootstrap's percentiles; a resample without weight says nothing, and so counts as -1 below and inf above."""
    ratios = np.divide(differences, weights, out=np.full(len(weights), np.nan), where=weights > 0)
    low = np.quantile(np.where(np.isnan(ratios), -1.0, ratios), alpha / 2, method="lower")
    high = np.quantile(np.where(np.isnan(ratios), np.inf, ratios), 1 - alpha / 2, method="higher")
    discordant = int(np.count_nonzero(difference))
    return Estimate(_ratio(difference, weight), float(low), float(high), "bootstrap", len(weight), discordant)


def _ratio(difference: np.ndarray, weight: np.ndarray) -> float:
    return float(difference.sum() / weight.sum()) if weight.sum() > 0 else math.nan


def _upper(count: int, draws: int, alpha: float) -> float:
    """Clopper-Pearson: the share above which `count` or fewer of `draws` have probability under alpha."""
    return 1.0 if count == draws else float(beta.ppf(1 - alpha, count + 1, draws - count))


def _lower(count: int, draws: int, alpha: float) -> float:
    return 0.0 if count == 0 else float(beta.ppf(alpha, count, draws - count + 1))


def _mean_at_least(values: np.ndarray, least: float, most: float, alpha: float) -> float:
    """Hoeffding's lower bound of the mean of draws from least..most, never under `least`."""
    return max(least, float(values.mean()) - (most - least) * math.sqrt(math.log(1 / alpha) / (2 * len(values))))
