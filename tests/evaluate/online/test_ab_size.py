"""The size of an experiment is that of its margin, and the past is what the metrics ask for."""

import math
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from octorec.errors import InputError
from octorec.evaluate.online.past import Past, past_of
from octorec.evaluate.online.rows import OUTCOMES
from octorec.evaluate.online.size import sizes
from tests.evaluate.online.ab_numbers import experiment, metric

DAY = 86400.0
THIRTY = Past(1000, 0.3, 0.21)


def size(one: Any, past: Past, shares: Any = None, rate: float | None = None, **plan: Any) -> Any:
    return sizes(experiment([one], shares, **plan), {one.name: past}, rate)[0]


def test_a_margin_of_three_points_of_thirty_percent_needs_3663_units_an_arm() -> None:
    found = size(metric(kind="proportion", margin=0.03, margin_kind="absolute"), THIRTY, units=7326)
    assert found.units == 2 * 3663
    assert found.found == pytest.approx(0.03, rel=1e-4)


def test_a_relative_margin_counts_the_control_less() -> None:
    found = size(metric(margin=0.1), THIRTY)
    assert found.units == 2 * math.ceil(7.8489 * 0.21 * (1 + 0.9**2) / 0.03**2)
    more = size(metric(margin=0.1, direction="down"), THIRTY)
    assert more.units == 2 * math.ceil(7.8489 * 0.21 * (1 + 1.1**2) / 0.03**2)


def test_a_covariate_of_correlation_half_takes_a_quarter_off() -> None:
    plain, less = (size(metric(margin=0.01), Past(1000, 1.0, 4.0, known)).units for known in (0.0, 0.5))
    assert less == pytest.approx(0.75 * plain, rel=1e-4)


def test_unequal_shares_and_the_smallest_treatment_decide() -> None:
    shares = {"control": Fraction(8, 10), "a": Fraction(1, 10), "b": Fraction(1, 10)}
    found = size(metric(margin=0.1, margin_kind="absolute"), Past(1000, 1.0, 1.0), shares, power=0.9)
    drift = 1.959964 + 1.644854  # two treatments, each with power 95 %, so that both have 90 %
    assert found.units == pytest.approx(drift**2 * (10 + 1 / 0.8) / 0.01, rel=0.01)
    assert "95" in found.why
    assert "2 have 0.9 together" in found.why


def test_goals_share_the_error_and_are_told_what_they_find() -> None:
    goals = [metric(f"goal{n}", role="goal", margin=0.0) for n in range(2)]
    found = sizes(experiment(goals, units=2000), dict.fromkeys(("goal0", "goal1"), Past(1000, 1.0, 1.0)))
    assert [one.units for one in found] == [None, None]
    assert found[0].found == pytest.approx((2.2414 + 0.8416) * math.sqrt(4 / 2000), rel=1e-3)
    assert "shared by 2 goals" in found[0].why


def test_several_looks_ask_for_a_little_more() -> None:
    one, past = metric(margin=0.01), Past(1000, 1.0, 4.0)
    single, several = size(one, past).units, size(one, past, looks=(0.2, 0.4, 0.6, 0.8, 1.0))
    assert 1.02 < several.units / single < 1.03
    assert "5 looks ask for 2.5% more units than one" in several.why


def test_days_are_those_of_the_units_and_of_the_last_window() -> None:
    found = size(metric(margin=0.03, margin_kind="absolute", window_s=7 * DAY), THIRTY, rate=1000)
    assert found.days == pytest.approx(7.326 + 7)
    with pytest.raises(InputError, match="units_a_day"):
        size(metric(), THIRTY, rate=0)


def test_a_small_control_with_a_skewed_metric_needs_more() -> None:
    one, shares = metric(margin=0.15), {"control": Fraction(1, 10), "wide": Fraction(9, 10)}
    plain, skewed = (size(one, Past(1000, 1.65, 4.67, 0.0, skew), shares).units for skew in (0.0, 6.18))
    assert 1.1 < skewed / plain < 2


@pytest.mark.parametrize(
    ("past", "changes", "why"),
    [
        (Past(10, 1.0, 0.0), {}, "the same number"),
        (Past(10, 0.0, 1.0), {}, "absolute margin"),
        (Past(10, -1.0, 1.0), {}, "absolute margin"),
    ],
)
def test_where_no_number_is_enough_it_is_said(past: Past, changes: Any, why: str) -> None:
    found = size(metric(**changes), past)
    assert found.units is None
    assert why in found.why


def test_so_few_units_that_no_margin_is_shown_find_nothing() -> None:
    assert size(metric(), Past(1000, 1.0, 400.0), units=40).found is None


def table(rows: list[tuple[float, str | None, str, float | None]]) -> pa.Table:
    """Rows of time in days, unit, event, value."""
    return pa.Table.from_pylist(
        [
            {"time": datetime.fromtimestamp(day * DAY, UTC), "unit": unit, "event": event, "value": value}
            for day, unit, event, value in rows
        ],
        schema=OUTCOMES,
    )


PAST = [
    (0.0, "a", "view", None), (1.0, "a", "click", 2.0), (1.0, "c", "view", None),
    (8.0, "a", "click", 1.0), (9.0, "a", "click", 4.0), (9.5, "b", "click", None), (9.6, "b", "view", 4.0),
    (9.7, None, "click", 100.0), (10.0, "a", "view", 2.0), (20.0, "a", "click", 50.0),
]  # fmt: skip


def test_the_past_is_the_last_window_of_each_unit() -> None:
    one = experiment([
        metric(window_s=3 * DAY), metric("any", kind="proportion", window_s=3 * DAY),
        metric("share", kind="ratio", per="view", window_s=3 * DAY),
        metric("known", window_s=3 * DAY, covariate_s=7 * DAY),
    ])  # fmt: skip
    past = past_of(one, table(PAST), 10.5 * DAY)
    assert (past["clicks"].units, past["clicks"].mean) == (3, 2.0)  # 5, 1, 0
    assert past["clicks"].variance == pytest.approx(np.var([5, 1, 0], ddof=1))
    assert past["any"].mean == pytest.approx(2 / 3)
    assert past["share"].mean == pytest.approx(6 / 6)
    assert past["share"].variance == pytest.approx(np.var([3, -3, 0], ddof=1) / 4)
    assert past["known"].correlation == pytest.approx(np.corrcoef([2, 0, 0], [5, 1, 0])[0, 1])


@pytest.mark.parametrize(
    ("rows", "until", "message"),
    [
        (PAST, 2.0, "asks for 3 days"),
        (PAST, 0.0, "must have some before"),
        (PAST[7:8], None, "must have some before"),
        (PAST, 19.0, "metric clicks has no such row"),
        ([(0.0, "a", "view", None), (9.0, "a", "click", 1.0)], 9.5, "at least two units"),
        ([(0.0, "a", "view", None), (9.0, "b", "click", 1e200), (9.0, "c", "click", 1.0)], 9.5, "too large"),
    ],
)
def test_a_past_that_does_not_tell_is_refused(rows: Any, until: float | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        past_of(experiment([metric(window_s=3 * DAY)]), table(rows), None if until is None else until * DAY)
