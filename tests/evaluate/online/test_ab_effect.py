"""An effect's interval holds the truth, and where nothing can be told it says so in words."""

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_ind

from octorec.evaluate.online.contrast import Contrast, Incomparable, contrast
from octorec.evaluate.online.design import Metric
from octorec.evaluate.online.effect import (
    MOST_SKEW,
    NO_BOUND,
    NOT_CLEAR,
    TOO_SKEWED,
    Bounds,
    effect,
    ends,
    searched,
    unskewed,
)
from octorec.evaluate.online.joined import Column
from octorec.evaluate.online.results import Effect
from tests.evaluate.online.ab_numbers import column, metric

Z = 1.959964


def compare(one: Metric, control: Column, treatment: Column, stages: Any = None) -> Contrast | Incomparable:
    """The contrast of two columns of units."""
    both = Column(
        **{
            name: np.concatenate([getattr(control, name), getattr(treatment, name)])
            for name in ("y", "mature", "per", "x")
            if getattr(control, name) is not None
        }
    )
    n = len(control.y)
    stage = np.zeros(len(both.y), int) if stages is None else np.concatenate(stages)
    return contrast(one, both, stage, np.arange(n), np.arange(n, len(both.y)))


def effect_of(one: Metric, control: Any, treatment: Any, bound: float = Z, joint: float = Z) -> Effect:
    found = compare(one, column(np.asarray(control)), column(np.asarray(treatment)))
    return effect(one, "wide", found, Bounds(bound, joint))


def both_ends(found: Contrast, bound: float) -> tuple[float, float]:
    return ends(found, [bound])[0]


def sure(one: Metric, control: Column, treatment: Column, stages: Any = None) -> Contrast:
    found = compare(one, control, treatment, stages)
    assert isinstance(found, Contrast), found
    return found


def test_an_absolute_interval_is_welchs() -> None:
    rng = np.random.default_rng(0)
    control, treatment = (5 + width * np.outer([1, -1], rng.normal(0, 1, n)).ravel() for n, width in ((15, 1), (6, 4)))
    found = sure(metric(margin=1.0, margin_kind="absolute"), column(control), column(treatment))
    theirs = ttest_ind(treatment, control, equal_var=False).confidence_interval(0.95)
    assert both_ends(found, Z) == pytest.approx((theirs.low, theirs.high), rel=1e-6)


def test_relative_ends_are_where_t_is_the_bound_away() -> None:
    rng = np.random.default_rng(1)
    x = [rng.normal(10, 2, n) for n in (400, 90)]
    columns = [column(one + rng.exponential(3, len(one)), x=one) for one in x]
    found = sure(metric(covariate_s=60.0), *columns)
    reach = 2.0
    low, high = both_ends(found, reach)
    for end, sign in ((low, 1), (high, -1)):
        steps = found.at(end) / found.varies.error(end)
        assert steps == pytest.approx(
            unskewed(sign * reach, found.varies.at(np.array([end])).skew[0]), rel=0.01
        )  # but for Student's t


def test_the_equation_and_the_search_find_the_same_ends() -> None:
    rng = np.random.default_rng(12)
    for _ in range(20):
        y = [rng.lognormal(0, 0.5, n) for n in rng.integers(300, 4000, 2)]
        for one in (metric(), metric(margin_kind="absolute")):
            found = sure(one, *map(column, y))
            bounds, sides = np.repeat([1.9, 3.0], 2), np.tile([-1.0, 1.0], 2)
            solved = [end for pair in ends(found, [1.9, 3.0]) for end in pair]
            assert searched(found, bounds, sides) == pytest.approx(solved, rel=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["relative", "absolute"])
def test_a_mean_of_1_with_sd_3_is_covered_by_200_units_an_arm(kind: Any) -> None:
    rng, one, runs = np.random.default_rng(2), metric(margin_kind=kind), 2000
    held = 0
    for _ in range(runs):
        low, high = both_ends(sure(one, column(rng.normal(1, 3, 200)), column(rng.normal(1, 3, 200))), Z)
        held += low <= 0 <= high
    assert held / runs == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / runs))


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 0.1])
def test_a_covariate_that_says_nearly_all_leaves_coverage(share: float) -> None:
    """The outcome is the covariate and little noise, far from 0, and half of it more in the treatment."""
    rng, one, runs, truth = np.random.default_rng(3), metric(covariate_s=60.0), 2000, 0.5
    held = 0
    for _ in range(runs):
        columns = []
        for n, more in ((round(400 * (1 - share)), 0.0), (round(400 * share), 10 * truth)):
            x = rng.normal(10, 2, n)
            columns.append(column(x + more + rng.normal(0, 0.1, n), x=x))
        low, high = both_ends(sure(one, *columns), Z)
        held += low <= truth <= high
    assert held / runs >= 0.94


@pytest.mark.slow
@pytest.mark.parametrize(("control", "treatment"), [(500, 4500), (4500, 500)])
def test_skewed_revenue_keeps_its_ends_in_unequal_arms(control: int, treatment: int) -> None:
    rng, one, runs = np.random.default_rng(4), metric(), 2000
    outside = np.zeros(2)
    for _ in range(runs):
        low, high = both_ends(
            sure(one, column(rng.lognormal(0, 1, control)), column(rng.lognormal(0, 1, treatment))), Z
        )
        outside += low > 0, high < 0
    assert (outside / runs).max() <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / runs)


def test_a_covariate_takes_noise_out() -> None:
    rng = np.random.default_rng(5)
    x = [rng.normal(10, 2, 500) for _ in range(2)]
    y = [one + rng.normal(0, 0.5, 500) for one in x]
    with_x = sure(metric(covariate_s=60.0), *(column(a, x=b) for a, b in zip(y, x, strict=True)))
    without = sure(metric(), *(column(a) for a in y))
    assert with_x.varies.error(0) < 0.4 * without.varies.error(0)


def test_a_covariate_that_is_0_for_everybody_changes_nothing() -> None:
    y = [np.arange(50.0), np.arange(50.0) + 1]
    with_x = sure(metric(covariate_s=60.0), *(column(one, x=np.zeros(50)) for one in y))
    without = sure(metric(), *(column(one) for one in y))
    assert both_ends(with_x, Z) == both_ends(without, Z)


def test_stages_of_other_shares_are_compared_within() -> None:
    """The second stage has more of everything and more treatment: without stages the treatment would look better."""
    rng = np.random.default_rng(6)
    stages = [np.repeat([0, 1], [9000, 1000]), np.repeat([0, 1], [1000, 9000])]
    y = [rng.normal(np.where(one == 0, 1.0, 3.0) * np.array([1.0, 0.9])[arm], 1) for arm, one in enumerate(stages)]
    found = sure(metric(), *(column(one) for one in y), stages=stages)
    assert found.value == pytest.approx(-0.1, abs=0.03)
    low, high = both_ends(found, Z)
    assert low < -0.1 < high < 0
    assert sure(metric(), *(column(one) for one in y)).value > 1


def test_a_stage_that_lacks_an_arm_is_left_out() -> None:
    rng = np.random.default_rng(7)
    y = [rng.normal(5, 1, 110), rng.normal(5, 1, 100)]
    stages = [np.repeat([0, 1], [100, 10]), np.zeros(100, int)]
    y[0][100:] = 1e6
    found = sure(metric(), *(column(one) for one in y), stages=stages)
    assert found.units == (100, 100)
    assert found.control == pytest.approx(5, abs=0.5)


def test_a_ratio_counts_units_and_not_what_they_were_shown() -> None:
    rng = np.random.default_rng(8)
    per = 1.0 + rng.geometric(0.05, 3000)
    taste = rng.beta(1, 4, 3000)
    y = rng.binomial(per.astype(int), taste).astype(float)
    one = metric(kind="ratio", per="shown")
    sides = [column(y[part], per=per[part]) for part in (slice(0, 1500), slice(1500, 3000))]
    found = sure(one, *sides)
    assert found.control == pytest.approx(y[:1500].sum() / per[:1500].sum())
    drawn = []
    for _ in range(500):
        places = rng.integers(0, 1500, (2, 1500)) + np.array([[0], [1500]])
        ratios = y[places].sum(1) / per[places].sum(1)
        drawn.append(ratios[1] / ratios[0] - 1)
    low, high = both_ends(found, Z)
    assert (high - low) / (2 * Z) == pytest.approx(np.std(drawn), rel=0.12)


@pytest.mark.parametrize(
    ("control", "treatment", "changes", "why"),
    [
        ([], [1.0] * 50, {}, "fewer than 10 units"),
        (range(50), range(9), {}, "fewer than 10 units"),
        ([0.0] * 50, [0.0] * 50, {"kind": "proportion"}, "no unit had the event click"),
        ([1.0] * 50, [1.0] * 50, {"kind": "proportion"}, "the same number"),
        ([0.1] * 50, [0.1] * 50, {}, "the same number"),
        ([0.0] * 50, [0.0] * 49 + [1.0], {"kind": "proportion"}, NOT_CLEAR),
        (np.linspace(-3, 3.1, 50), np.linspace(-3, 3, 50), {}, NOT_CLEAR),
        (np.linspace(-3, -2, 50), np.linspace(-3, -2, 50), {}, NOT_CLEAR),
        ([1e200, 1e-200] * 25, [1e200, 1e-200] * 25, {}, "too large"),
        ([1.0, 1.1] * 45 + [9.0], [1.0] * 10 + [1.1] * 9 + [9.0], {}, TOO_SKEWED),
    ],
)
def test_what_tells_nothing_is_inconclusive_in_words(control: Any, treatment: Any, changes: Any, why: str) -> None:
    result = effect_of(metric(**changes), control, treatment)
    assert result.outcome == "inconclusive"
    assert why in (result.why or "")
    assert result.low == result.joint_low == -math.inf
    assert min(result.high, result.joint_high) > 3  # that it is not so many times as much can be told of few units too
    assert result.units == (len(control), len(treatment))


def test_nothing_to_divide_by_is_said() -> None:
    one, none = metric(kind="ratio", per="shown"), column(np.arange(20.0), per=np.zeros(20))
    found = compare(one, none, none)
    assert isinstance(found, Incomparable)
    assert "nothing to divide by" in found.why
    assert found.units == (20, 20)
    assert math.isnan(found.control)


def test_a_look_without_a_bound_says_so() -> None:
    result = effect_of(metric(), range(1, 50), range(1, 50), math.inf, math.inf)
    assert (result.low, result.high, result.outcome, result.why) == (-math.inf, math.inf, "inconclusive", NO_BOUND)


def test_a_relative_interval_is_never_the_outside_of_a_gap() -> None:
    """Where the control's mean is hardly clear of 0, Fieller's quadratic has two roots that mean the opposite."""
    rng = np.random.default_rng(9)
    for mean in np.linspace(-0.5, 0.5, 21):
        control, treatment = rng.normal(mean, 1, 40), rng.normal(mean + 1, 1, 40)
        found = sure(metric(), column(control), column(treatment))
        low, high = both_ends(found, Z)
        assert low < high
        assert math.isinf(low) or low <= found.value <= high


def test_a_treatment_without_an_event_is_inferior_where_the_control_has_many() -> None:
    control = np.arange(1000) % 10 == 0
    result = effect_of(metric(kind="proportion"), control, np.zeros(1000))
    assert result.outcome == "inferior"
    assert -1.2 < result.low < -1 < result.high < -0.7
    result = effect_of(metric(kind="proportion"), np.ones(100), np.zeros(100))
    assert result.outcome == "inferior"
    assert result.low < result.high


UNITS = ((1448, 122), (1552, 1))  # of control and treatment, and those with an event


def hits(units: int, times: int, revenue: bool = False) -> np.ndarray:
    """Units, of which `times` have an event, each with a revenue that differs."""
    rng = np.random.default_rng(units + times)
    return (np.arange(units) < times) * (rng.exponential(20, units) if revenue else 1.0)


@pytest.mark.parametrize("kind", ["proportion", "mean", "ratio"])
@pytest.mark.parametrize("margin_kind", ["relative", "absolute"])
def test_few_events_are_enough_to_tell_that_most_are_lost(kind: Any, margin_kind: Any) -> None:
    """One event is too few to tell how much is lost, and plenty to tell that it is more than the margin."""
    margin = 0.05 if margin_kind == "relative" else 0.01
    one = metric(kind=kind, margin=margin, margin_kind=margin_kind, **({"per": "shown"} if kind == "ratio" else {}))
    per = [1.0 + np.arange(n) % 3 if kind == "ratio" else None for n in (1448, 1552)]
    sides = [column(hits(n, times, kind == "mean"), per=by) for (n, times), by in zip(UNITS, per, strict=True)]
    result = effect(one, "wide", compare(one, *sides), Bounds(3.0, 3.5))
    assert (result.outcome, result.why) == ("inferior", None)
    assert result.low <= result.value <= result.high < -margin


@pytest.mark.parametrize("times", [0, 1, 2])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_many_events_beside_a_control_with_hardly_any_are_told(times: int, direction: Any) -> None:
    """Nothing bounds how many times as many they are, and more than the margin they are all the same."""
    result = effect_of(metric(kind="proportion", direction=direction), hits(1552, times), hits(1448, 122), 3.0, 3.5)
    assert result.outcome == ("not_inferior" if direction == "up" else "inferior")
    assert 0.5 < result.low < result.high == math.inf
    same = effect_of(metric(kind="proportion", direction=direction), hits(1552, times), hits(1448, times + 1), 3.0, 3.5)
    assert same.outcome == "inconclusive"


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("role", ["guardrail", "goal"])
def test_a_loss_is_a_rise_where_less_is_better(direction: Any, role: Any) -> None:
    rng = np.random.default_rng(10)
    one = metric(direction=direction, role=role, margin=0.0 if role == "goal" else 0.05)
    y = rng.normal(10, 1, 2000)
    more, less = effect_of(one, y[:1000], 1.1 * y[1000:]), effect_of(one, y[:1000], 0.9 * y[1000:])
    better, worse = (more, less) if direction == "up" else (less, more)
    assert (better.outcome, worse.outcome) == ("not_inferior", "inferior")
    assert more.value > 0 > less.value
    same = effect_of(one, y[:1000], y[1000:])
    assert same.outcome == ("not_inferior" if role == "guardrail" else "inconclusive")


def test_each_word_needs_its_own_ends() -> None:
    rng = np.random.default_rng(11)
    y = rng.normal(10, 1, 2000)
    apart = effect_of(metric(), y[:1000], y[1000:] * 0.952)
    assert apart.low < -0.05 < apart.joint_high
    guardrail, goal = metric(margin=0.03), metric(role="goal", margin=0.0)
    loses = effect_of(guardrail, y[:1000], y[1000:] * 0.96, Z, 9.0)
    assert loses.high < -0.03 < loses.joint_high
    assert loses.outcome == "inconclusive"
    keeps = effect_of(guardrail, y[:1000], y[1000:], Z, 30.0)
    assert (keeps.outcome, keeps.joint_low < -0.03) == ("not_inferior", True)
    wins = effect_of(goal, y[:1000], y[1000:] * 1.02, Z, 30.0)
    assert (wins.low > 0, wins.outcome) == (True, "inconclusive")


def test_halls_transformation_is_undone() -> None:
    for skew in (-MOST_SKEW, -0.1, 1e-12, 0.2, MOST_SKEW):
        for x in (-5.0, -2.0, 0.7, 2.0, 5.0):
            t = unskewed(x, skew)
            assert t + skew * t**2 / 3 + skew**2 * t**3 / 27 + skew / 6 == pytest.approx(x)
