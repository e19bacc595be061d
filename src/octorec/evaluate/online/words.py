"""Write an experiment's numbers for people: shares, durations, times, margins."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from fractions import Fraction

from octorec.evaluate.margin import percent
from octorec.evaluate.online.experiment import Metric

UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def share(value: Fraction) -> str:
    """Return a share as `50 %`, or as a fraction where no short decimal is it: `1/3`."""
    exact = value.denominator == 1 or Fraction(f"{float(100 * value):.4g}") == 100 * value
    return percent(float(value)) if exact else str(value)


def duration(seconds: float) -> str:
    """Return a length of time in its largest unit that keeps it short: `7 days`, `90 seconds`."""
    for length, unit in UNITS:
        count = seconds / length
        if count >= 1 and (count == int(count) or (unit == "day" and count >= 10)):
            return counted(round(count), unit)
    return f"{seconds:.4g} seconds"


def counted(count: int, thing: str) -> str:
    """Return a text such as `1 unit` or `1,200 units`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def moment(time: float) -> str:
    """Return seconds since 1970 as `2026-11-30 02:05 UTC`; a time that no calendar has as its number."""
    try:
        return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):
        return f"{time:g} s"


def listed(parts: Sequence[str]) -> str:
    """Return a text such as `a, b and c`."""
    return " and ".join([*([", ".join(parts[:-1])] if parts[1:] else []), *parts[-1:]])


def margin(metric: Metric) -> str:
    """Return the loss that is allowed, without its sign: `1 %` of the control's mean, or `0.01` in the
    metric's own unit.
    """
    return percent(metric.margin) if metric.margin_kind == "relative" else f"{metric.margin:.6g}"


def signed_margin(metric: Metric) -> str:
    """Return the margin on the metric's own scale: below 0 where more is better."""
    if metric.role == "goal":
        return "0"
    return f"{'-' if metric.direction == 'up' else '+'}{margin(metric)}"


def difference(value: float, metric: Metric) -> str:
    """Return a difference, relative to the control's mean or in the metric's own unit, as its margin is."""
    if not math.isfinite(value):
        return "undefined" if math.isnan(value) else "no bound"
    return f"{value:+.2%}" if metric.margin_kind == "relative" else f"{value:+.4g}"


def size_of_difference(value: float, metric: Metric) -> str:
    """Return a difference without its sign, relative or in the metric's own unit as its margin is."""
    return f"{value:.2%}" if metric.margin_kind == "relative" else f"{value:.4g}"


def interval(low: float, high: float, metric: Metric) -> str:
    """Return both ends of an interval as `difference` has them."""
    if not (math.isfinite(low) or math.isfinite(high)):
        return "not bounded"
    return f"{difference(low, metric)} .. {difference(high, metric)}"


def number(value: float, form: str = ".4g") -> str:
    """Return a number as `form` writes it, and a dash where there is none."""
    return format(value, form) if math.isfinite(value) else "-"


def chance(p: float) -> str:
    """Return a p-value or a power with as many digits as help."""
    return f"{p:.2g}" if p < 0.01 else f"{p:.2f}"
