"""A contrast sets one metric of a treatment beside the control, as T(r) = mean_t - (1 + r) mean_c with all of its
variance.

A relative difference r agrees with the data where T(r) is near 0 (Fieller 1954, *JRSS B* 16), so that the control's
mean is an estimate as much as the treatment's. Every metric is brought to terms of single units,

    T(r) = mean over the treatment of (p + r q) - mean over the control of (p + r q) = difference - r base,

    mean, proportion             p = y                          q = 0 and y
    with a covariate (CUPED)     p = y - theta x                q = -theta f x and y - theta x + theta (1 - f) x
    ratio (delta method)         p = R + (y - R per) / mean_per q = 0 and p

where q is given for treatment and control, f is the treatment's share of the units of both, and R is sum y / sum per of
the arm. CUPED (Deng, Xu, Kohavi & Walker 2013, WSDM) takes theta (x - mean x) off y. That mean is over both arms and is
random too; in relative differences it stays in T, which is where f comes from. theta is pooled within arms and stages.
An absolute difference is T with q = 0 and base 1.

Stages have shares of their own, so units are compared within them: a mean is the sum over stages of (units of the stage
/ all units) x (mean in the stage). A stage where an arm has fewer than two units is left out.

Letters: U units of one arm, S stages that both arms have.
"""

from dataclasses import dataclass, replace

import numpy as np

from octorec.evaluate.online.arms import Arm, arms_of
from octorec.evaluate.online.design import Metric
from octorec.evaluate.online.joined import Column
from octorec.evaluate.online.spread import Spread, Terms, powers
from octorec.evaluate.verdict import MIN_USERS

ROUNDED = 1e-28  # share of the largest square below which a variance is only rounding


@dataclass(frozen=True)
class Contrast:
    """A Contrast is T(r) = difference - r base, and how it varies.

    control, treatment: means, adjusted where there is a covariate. units: of both. clear: how many standard errors the
    smallest denominator of a ratio is above 0.
    """

    control: float
    treatment: float
    units: tuple[int, int]
    difference: float
    base: float
    varies: Spread
    clear: float = np.inf

    @property
    def value(self) -> float:
        """Return the estimate; NaN where the control's mean is not above 0."""
        return self.difference / self.base if self.base > 0 else float("nan")

    def at(self, r: np.ndarray | float) -> np.ndarray:
        """Return T(r)."""
        return np.asarray(self.difference - np.asarray(r) * self.base)


@dataclass(frozen=True)
class Incomparable:
    """An Incomparable says in words why units cannot tell anything; it has their means, NaN where there are
    none, and numbers.
    """

    why: str
    control: float
    treatment: float
    units: tuple[int, int]


def contrast(
    metric: Metric, column: Column, stage: np.ndarray, control: np.ndarray, treatment: np.ndarray
) -> Contrast | Incomparable:
    """Compare the units at the places `control` and `treatment` of `column`, whose stages are `stage`."""
    with np.errstate(over="ignore", invalid="ignore"):
        found = _compared(metric, column, stage, control, treatment)
        if isinstance(found, Contrast):
            return found
        means = [_plain_mean(column, places) for places in (control, treatment)]
        return Incomparable(found, means[0], means[1], (len(control), len(treatment)))


def _plain_mean(column: Column, places: np.ndarray) -> float:
    below = float(len(places) if column.per is None else column.per[places].sum())
    return float(column.y[places].sum()) / below if below > 0 else float("nan")


def _compared(
    metric: Metric, column: Column, stage: np.ndarray, control: np.ndarray, treatment: np.ndarray
) -> Contrast | str:
    """Return the contrast, or why there is none."""
    arms = arms_of(column, stage, control, treatment)
    if min(arm.count.sum() for arm in arms) < MIN_USERS:
        return f"fewer than {MIN_USERS} units of a variant have passed their window"
    total = arms[0].count + arms[1].count
    weights = total / total.sum()
    if metric.kind == "ratio":
        return _ratio(metric, arms, weights)
    theta = 0.0 if column.x is None else _theta(arms)
    share = arms[1].count / total
    terms = (_control_terms(arms[0], theta, 1 - share), _treatment_terms(arms[1], theta, share))
    return _moments(metric, arms, terms, weights, fitted=int(theta != 0))


def _theta(arms: tuple[Arm, Arm]) -> float:
    """Return the slope of y on x within arms and stages; 0 where x does not vary."""
    over, under = 0.0, 0.0
    for arm in arms:
        assert arm.x is not None
        apart = arm.centred(arm.x)
        over += float(apart @ arm.y)
        under += float(apart @ apart)
    return over / under if under > 0 else 0.0


def _control_terms(arm: Arm, theta: float, share: np.ndarray) -> Terms:
    """Return p and q of the control's units. share: the arm's of the units of both, by stage [S]."""
    if not theta or arm.x is None:
        return arm.y, arm.y
    left = arm.y - theta * arm.x
    return left, left + theta * share[arm.stage] * arm.x


def _treatment_terms(arm: Arm, theta: float, share: np.ndarray) -> Terms:
    if not theta or arm.x is None:
        return arm.y, np.zeros_like(arm.y)
    return arm.y - theta * arm.x, -theta * share[arm.stage] * arm.x


def _ratio(metric: Metric, arms: tuple[Arm, Arm], weights: np.ndarray) -> Contrast | str:
    """Return the contrast of two ratios of sums, each brought to a mean by its first derivative."""
    linear, clear = [], np.inf
    for arm in arms:
        assert arm.per is not None
        below = float(weights @ arm.means(arm.per))
        if not below > 0:
            return "there is nothing to divide by in a variant"
        ratio = float(weights @ arm.means(arm.y)) / below
        apart = arm.centred(arm.per)
        spread = float(np.sqrt(weights**2 @ (arm.means(apart**2) / arm.count)))
        clear = min(clear, below / spread if spread > 0 else np.inf)
        linear.append(ratio + (arm.y - ratio * arm.per) / below)
    terms = ((linear[0], linear[0]), (linear[1], np.zeros_like(linear[1])))
    found = _moments(metric, arms, terms, weights)
    return found if isinstance(found, str) else replace(found, clear=clear)


def _moments(
    metric: Metric, arms: tuple[Arm, Arm], terms: tuple[Terms, Terms], weights: np.ndarray, fitted: int = 0
) -> Contrast | str:
    """Return the contrast of means of p and q, or why there is none. fitted: slopes that were fitted to the units."""
    relative = metric.margin_kind == "relative"
    means = [[float(weights @ arm.means(part)) for part in parts] for arm, parts in zip(arms, terms, strict=True)]
    base = means[0][1] - means[1][1]
    difference = means[1][0] - means[0][0]
    if not relative:
        terms = tuple((p, np.zeros_like(p)) for p, _ in terms)  # type: ignore[assignment]
    freedom = sum(int(arm.count.sum()) - len(arm.count) for arm in arms)
    parts = np.stack([_variances(arm, one) for arm, one in zip(arms, terms, strict=True)])  # [2, S, 2, 2] of a unit
    if (parts[:, :, 0, 0] == 0).any():
        parts = _filled(parts, arms, terms, relative)
    counts = np.stack([arm.count for arm in arms])
    parts *= (weights**2 / counts)[:, :, None, None] * freedom / (freedom - fitted)
    variance = parts.sum((0, 1))
    if not np.isfinite(variance).all() or not np.isfinite([base, difference]).all():
        return "the numbers are too large to be told apart"
    if not variance[0, 0] > 0:
        return _alike(metric, means[0][0])
    units = (int(counts[0].sum()), int(counts[1].sum()))
    return Contrast(
        control=base,
        treatment=base + difference,
        units=units,
        difference=difference,
        base=base if relative else 1.0,
        varies=Spread(parts, counts, weights, *powers(arms, terms)),
    )


def _variances(arm: Arm, terms: Terms) -> np.ndarray:
    """Return the variances and covariances of p and q by stage [S, 2, 2], of a unit."""
    p = arm.centred(terms[0])
    square = arm.means(p * p)
    if terms[1] is terms[0]:
        rows = [square, square, square, square]
    else:
        q = arm.centred(terms[1])
        both = arm.means(p * q)
        rows = [square, both, both, arm.means(q * q)]
    rows = [row * arm.count / (arm.count - 1) for row in rows]
    largest = float(np.square(terms[0]).max())
    if np.isfinite(largest):
        rows[0][rows[0] <= ROUNDED * largest] = 0
    return np.stack(rows, 1).reshape(-1, 2, 2)


def _filled(parts: np.ndarray, arms: tuple[Arm, Arm], terms: tuple[Terms, Terms], relative: bool) -> np.ndarray:
    """Give a stage's arm whose units are all alike the variance of both arms' units together.

    An arm where nobody had the event is not known to be without variance, and would make the interval too narrow.
    """
    parts = parts.copy()
    counts = [arm.count for arm in arms]
    means = [arm.means(one[0]) for arm, one in zip(arms, terms, strict=True)]
    middle = (counts[0] * means[0] + counts[1] * means[1]) / (counts[0] + counts[1])
    squares = sum(
        count * (part[:, 0, 0] + (mean - middle) ** 2) for count, part, mean in zip(counts, parts, means, strict=True)
    )
    pooled = squares / (counts[0] + counts[1])
    for number, moves in enumerate((np.array([1, 1 if relative else 0]), np.array([1, 0]))):
        flat = parts[number, :, 0, 0] == 0
        parts[number, flat] = pooled[flat, None, None] * np.outer(moves, moves)
    return parts


def _alike(metric: Metric, mean: float) -> str:
    if metric.kind == "proportion" and mean == 0:
        return f"no unit had the event {metric.event}"
    return "all units have the same number, so that nothing is known of how much they vary"
