"""Measure what a metric was in the past, for the size that an experiment needs."""

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.errors import InputError
from octorec.evaluate.online.design import Experiment, Metric

NEARLY = 0.9  # share of the time asked for that the past has to reach back


@dataclass(frozen=True)
class Past:
    """A Past is what a metric was: units, and the mean and variance of a unit; correlation: with the covariate. skew:
    the skewness of a unit without what the covariate explains. A ratio's mean is the ratio; the others are of a unit's
    (y - ratio per) / mean per (delta method).
    """

    units: int
    mean: float
    variance: float
    correlation: float = 0.0
    skew: float = 0.0


def past_of(experiment: Experiment, outcomes: pa.Table, until: float | None = None) -> dict[str, Past]:
    """Return the past of each metric over the last window before `until`, seconds since 1970; None for the newest row.

    outcomes: rows as `rows.OUTCOMES`. Units are all that have a row before `until`, whatever its event: an experiment
    counts those who were shown something, which are often more, and then a proportion is lower than here. Raises
    InputError where the rows do not reach back far enough, or a metric has none.
    """
    named = outcomes.filter(pc.is_valid(outcomes["unit"]))
    times = named["time"].cast(pa.int64()).to_numpy() / 1e6
    until = float(times.max(initial=0)) + 1e-6 if until is None else until
    before = times < until
    if not before.any():
        raise InputError("outcomes", f"{len(times)} rows with a unit", "must have some before the time asked for")
    rows = named.filter(pa.array(before))
    units = rows["unit"].combine_chunks().dictionary_encode()
    table = _Rows(
        times[before],
        units.indices.to_numpy(),
        len(units.dictionary),
        np.asarray(rows["event"].to_numpy()),
        pc.fill_null(rows["value"], 1.0).to_numpy(),
    )
    return {name: _past(metric, table, until) for name, metric in experiment.metrics.items()}


@dataclass(frozen=True)
class _Rows:
    """_Rows hold time, unit (a number below units), event and value of each row."""

    time: np.ndarray
    unit: np.ndarray
    units: int
    event: np.ndarray
    value: np.ndarray

    def sums(self, event: str, start: float, end: float, once: bool) -> np.ndarray:
        """Return the sum of an event's values by unit [units], or whether one is above 0, as `join` counts them."""
        there = (self.event == event) & (self.time >= start) & (self.time < end)
        if once:
            there &= self.value > 0
        found = np.bincount(self.unit[there], None if once else self.value[there], self.units)
        return np.minimum(found, 1.0) if once else found


def _past(metric: Metric, rows: _Rows, until: float) -> Past:
    before = metric.covariate_s or 0.0
    reach, needed = until - float(rows.time.min()), metric.window_s + before
    if reach < NEARLY * needed:
        allowed = f"metric {metric.name} asks for {needed / 86400:.3g} days before the time asked for"
        raise InputError("outcomes", f"{reach / 86400:.3g} days", allowed)
    start, once = until - metric.window_s, metric.kind == "proportion"
    y = rows.sums(metric.event, start, until, once)
    if not y.any():
        allowed = f"metric {metric.name} has no such row in the last {metric.window_s / 86400:.3g} days"
        raise InputError("outcomes: event", metric.event, allowed)
    if rows.units < 2:
        raise InputError("outcomes", f"{rows.units} unit", "must have at least two units")
    if metric.kind == "ratio":
        assert metric.per is not None
        per = rows.sums(metric.per, start, until, False)
        if not per.sum() > 0:
            raise InputError("outcomes: event", metric.per, f"metric {metric.name} has nothing to divide by")
        ratio = float(y.sum() / per.sum())
        linear = (y - ratio * per) / per.mean()
        return Past(rows.units, ratio, float(linear.var(ddof=1)), 0.0, _skew(linear))
    correlation, left = 0.0, y
    with np.errstate(over="ignore", invalid="ignore"):
        variance = float(y.var(ddof=1))
    if not math.isfinite(variance):
        raise InputError("outcomes: value", metric.event, f"the numbers of metric {metric.name} are too large")
    if metric.covariate_s is not None:
        x = rows.sums(metric.event, start - before, start, once)
        if x.std() > 0 and variance > 0:
            correlation = float(np.corrcoef(x, y)[0, 1])
            left = y - correlation * y.std() / x.std() * x
    return Past(rows.units, float(y.mean()), variance, correlation, _skew(left))


def _skew(values: np.ndarray) -> float:
    apart = values - values.mean()
    variance = float((apart * apart).mean())
    return float((apart**3).mean()) / variance**1.5 if variance > 0 else 0.0
