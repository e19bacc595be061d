"""Plans and looks say what is really reached: by days, by the longest window, with alike numbers, with many metrics."""

import time

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binom

from octorec.evaluate.online.contrast import Incomparable, contrast
from octorec.evaluate.online.describe import described
from octorec.evaluate.online.effect import NO_BOUND, NOTHING_BELOW, Bounds, effect
from octorec.evaluate.online.judge import judge
from octorec.evaluate.online.past import Past, past_of
from octorec.evaluate.online.planning import curves, reach
from octorec.evaluate.online.rows import OUTCOMES
from octorec.evaluate.online.size import sizes
from tests.evaluate.online.ab_numbers import column, experiment, joined, metric, stage
from tests.evaluate.online.ab_reports import experiment as read

DAY = 86400.0


@pytest.mark.parametrize("number", [0.1, 1 / 3, 19.99])
def test_a_long_column_of_one_number_has_no_variance(number: float) -> None:
    """A sum of 200,000 tenths is not 20,000 to the last digit, which is no difference between units."""
    y, places = np.full(200_000, number), np.arange(200_000)
    stages = np.zeros(200_000, int)
    found = contrast(metric(), column(y), stages, places[::2], places[1::2])
    assert isinstance(found, Incomparable)
    assert "same number" in found.why


def test_a_metric_that_is_decided_needs_no_excuse() -> None:
    """Ten guardrails share an error so small that `inferior` has no bound yet, while `not inferior` has."""
    y = np.random.default_rng(0).normal(100, 5, 1400)
    metrics = [metric(f"m{number}", event=f"e{number}") for number in range(10)]
    rows = joined(np.arange(1400) % 2, {one.name: column(y) for one in metrics})
    by = experiment(metrics, units=10_000, looks=(0.14, 1.0))
    first = judge(by, rows, [stage()], (), 1.0, 0.0, 0.0).looks[0].effects[0]
    assert (first.outcome, first.joint_high, first.why) == ("not_inferior", np.inf, None)


def test_a_goal_without_a_joint_bound_says_so() -> None:
    places = np.arange(400)
    y = column(np.random.default_rng(0).normal(100, 5, 400))
    goal = metric(role="goal", margin=0.0)
    found = effect(goal, "wide", contrast(goal, y, 0 * places, places[::2], places[1::2]), Bounds(6.0, np.inf))
    assert (found.outcome, found.why) == ("inconclusive", NO_BOUND)


def test_a_ratio_whose_divisor_may_be_nothing_says_that() -> None:
    per = np.zeros(400)
    per[:6] = 1.0
    ratio = metric(kind="ratio", per="view", margin=0.2, margin_kind="absolute")
    places = np.arange(400)
    found = effect(
        ratio,
        "wide",
        contrast(ratio, column(per * np.arange(400), per=per), 0 * places, places[::2], places[1::2]),
        Bounds(2, 2),
    )
    assert found.why == NOTHING_BELOW


def test_the_smallest_difference_is_that_of_the_units_that_come_in_time() -> None:
    """A plan has at most 20,000 units; its 20 days of 500 bring 6,500 whose week has passed."""
    one, past = metric(window_s=7 * DAY), {"clicks": Past(1000, 3.0, 9.0)}
    both = experiment([one], units=20_000, days=20.0)
    by_units, by_days = experiment([one], units=6_500), experiment([one], units=None, days=20.0)
    assert sizes(both, past, 500.0)[0].found == sizes(by_units, past)[0].found == sizes(by_days, past, 500.0)[0].found
    assert sizes(by_days, past)[0].found is None


def test_the_fewest_units_of_a_plan_are_enough_for_each_variant() -> None:
    """Chance gives a variant fewer than its share: of 20 units in halves, one has less than ten most often."""
    units = sizes(experiment([metric(margin=0.5)]), {"clicks": Past(1000, 10.0, 1e-4)})[0].units
    assert units is not None
    assert binom.cdf(9, units, 0.5) < 0.001


def test_days_wait_for_the_longest_window() -> None:
    """A unit is judged once all of its windows have passed."""
    metrics = [metric("day", event="order", window_s=DAY), metric("month", window_s=28 * DAY)]
    found = sizes(experiment(metrics, units=1000), dict.fromkeys(("day", "month"), Past(1000, 3.0, 9.0)), 100.0)
    assert found[0].units is not None
    assert found[0].days == found[0].units / 100 + 28


def test_a_curve_of_very_unlike_metrics_is_drawn_at_once() -> None:
    metrics = [metric("few", margin=0.9), metric("many", event="order", margin=1e-5)]
    past = {"few": Past(1000, 1.0, 0.5), "many": Past(1000, 1.0, 30.0)}
    by = experiment(metrics, units=10**12, looks=(0.05, 1.0))
    since = time.process_time()
    drawn = curves(by, reach(by, past, None))
    assert time.process_time() - since < 20
    assert drawn["few"][1][-1] == pytest.approx(1.0)


def test_the_past_of_a_proportion_counts_values_above_0_as_the_experiment_does() -> None:
    units = [str(number) for number in range(10)]
    values = [0.0, -1.0, 0.0, 2.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    times = [(1_790_000_000 + 10 * number) * 10**6 for number in range(10)]
    rows = pa.table(
        {"time": times, "unit": units, "event": ["click"] * 10, "value": values}
        | {name: pa.nulls(10, pa.string()) for name in ("request_id", "item", "id")}
    )
    rows = rows.select(OUTCOMES.names).cast(OUTCOMES)
    by = experiment([metric(kind="proportion", window_s=95.0)])
    assert past_of(by, rows)["clicks"].mean == pytest.approx(0.2)


def test_power_left_of_days_counts_the_units_that_are_still_to_pass() -> None:
    """After 15 of 30 days 8 days' units have passed a week's window; 23 days' will have at the end."""
    one = metric(window_s=7 * DAY, margin=0.05)
    y = column(np.random.default_rng(0).normal(10, 10, 800))
    rows = joined(np.arange(800) % 2, {"clicks": y})
    by_days = experiment([one], units=None, days=30.0, looks=(0.5, 1.0))
    by_units = experiment([one], units=2300, looks=(8 / 23, 1.0))
    (days,) = judge(by_days, rows, [stage()], (), 1.0, 15 * DAY, 0.0).power.values()
    (units,) = judge(by_units, rows, [stage()], (), 1.0, 15 * DAY, 0.0).power.values()
    assert days == pytest.approx(units, abs=0.03)  # the looks spend otherwise


def test_of_several_treatments_one_has_to_reach_a_goal() -> None:
    variants = {"control": {"share": "1/3"}, "a": {"share": "1/3"}, "b": {"share": "1/3"}}
    said = dict(described(read(variants=variants)))
    assert "clear of its margin in each treatment and a goal became better in one;" in said["verdict"]
