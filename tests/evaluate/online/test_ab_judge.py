"""A look is taken when it is due, spends what it may, and leads to the word that the file asks for."""

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from octorec.evaluate.online.bounds import bounds, planned, spent
from octorec.evaluate.online.design import Experiment
from octorec.evaluate.online.effect import NO_BOUND
from octorec.evaluate.online.joined import IN_TWO, LOST, Column, Joined
from octorec.evaluate.online.judge import judge, shared_by, verdict
from octorec.evaluate.online.results import AbReport, Effect, Look
from tests.evaluate.online.ab_numbers import HALVES, column, experiment, joined, metric, stage

DAY = 86400.0
FOUR = (0.25, 0.5, 0.75, 1.0)


def numbers(units: int, lost: float = 0.0, seed: int = 0) -> Joined:
    """Units that take turns, with numbers around 10, of which the treatment loses a share."""
    variant = np.arange(units) % 2
    y = np.random.default_rng(seed).normal(10, 2, units) * (1 - lost * variant)
    return joined(variant, {"clicks": column(y)})


def report(
    one: Experiment, rows: Joined, looks: Sequence[Look] = (), days: float = 0.0, final: bool = False
) -> AbReport:
    return judge(one, rows, [stage()] * len(rows.assigned), looks, 1.0, 1000 + days * DAY, 1000.0, final)


def taken(one: Experiment, rows: Sequence[Joined]) -> tuple[Look, ...]:
    """The looks that reports over these rows record."""
    looks: tuple[Look, ...] = ()
    for some in rows:
        looks = report(one, some, looks).looks
    return looks


def test_before_the_first_look_nothing_is_judged() -> None:
    result = report(experiment([metric()], looks=FOUR), numbers(249))
    assert (result.outcome, result.exit_code, result.looks, result.next_look) == ("inconclusive", 4, (), 250)
    assert result.power == {}


def test_no_units_at_all_are_inconclusive() -> None:
    for final in (False, True):
        result = report(experiment([metric()]), numbers(0), final=final)
        assert (result.outcome, result.looks, result.broken) == ("inconclusive", (), ())


def test_looks_come_with_their_units_and_spend_the_plan() -> None:
    one = experiment([metric()], looks=FOUR)
    looks = taken(one, [numbers(units) for units in (100, 250, 260, 500, 749, 750, 1000, 1400)])
    assert [look.units for look in looks] == [250, 500, 750, 1000]
    assert [look.bound for look in looks] == pytest.approx(planned(FOUR, 0.025))
    assert [look.alpha_spent for look in looks] == pytest.approx([2 * spent(share, 0.025) for share in FOUR])
    assert [look.final for look in looks] == [False, False, False, True]
    assert report(one, numbers(2000), looks).looks == looks
    assert report(one, numbers(2000), looks, final=True).looks == looks


def test_shares_of_units_that_are_no_whole_numbers_have_no_rounding_of_their_own() -> None:
    one = experiment([metric()], units=30, looks=(0.1, 0.7, 1.0))
    assert report(one, numbers(2)).next_look == 3
    assert [look.units for look in taken(one, [numbers(units) for units in range(1, 31)])] == [3, 21, 30]


def test_a_late_look_stands_for_those_that_it_missed() -> None:
    one = experiment([metric()], looks=FOUR)
    looks = taken(one, [numbers(510)])
    assert looks[0].alpha_spent == pytest.approx(2 * spent(0.51, 0.025))
    assert report(one, numbers(600), looks).next_look == 750


def test_an_early_look_is_taken_by_hand_and_is_the_last() -> None:
    one = experiment([metric()], looks=FOUR)
    first = report(one, numbers(250)).looks
    ended = report(one, numbers(300), first, final=True)
    assert [look.final for look in ended.looks] == [False, True]
    assert ended.looks[1].alpha_spent == pytest.approx(2 * spent(0.3, 0.025))  # not all: it may come from what was seen
    assert ended.looks[1].information == pytest.approx(0.3)
    assert (ended.next_look, ended.power) == (None, {})
    assert report(one, numbers(1000), ended.looks).looks == ended.looks


def test_the_end_of_the_plan_s_days_spends_all_that_is_left() -> None:
    one = experiment([metric()], units=1000, days=10.0, looks=FOUR)
    looks = report(one, numbers(300), days=10.0).looks
    assert [look.final for look in looks] == [True]
    assert looks[0].alpha_spent == pytest.approx(0.05)


def test_one_percent_99_9_percent_100_and_130_percent_are_finite_words_and_spend_once() -> None:
    one = experiment([metric()], units=2000, looks=(0.01, 0.5, 1.0))
    looks = taken(one, [numbers(units) for units in (20, 1998, 2000, 2600)])
    assert [look.units for look in looks] == [20, 1998, 2000]
    assert looks[0].effects[0].why == NO_BOUND
    assert math.isinf(looks[0].bound)
    assert looks[0].alpha_spent <= looks[1].alpha_spent <= looks[2].alpha_spent == pytest.approx(0.05)
    assert all(math.isfinite(look.bound) for look in looks[1:])
    assert taken(one, [numbers(2600)])[0].bound == pytest.approx(1.96, abs=1e-3)


def test_a_report_without_new_units_repeats_the_last_look() -> None:
    one = experiment([metric()], looks=FOUR)
    looks = taken(one, [numbers(250)])
    for final in (False, True):
        assert report(one, numbers(250, lost=0.5), looks, final=final).looks == looks
    assert report(one, numbers(200), looks).looks == looks


def test_only_units_whose_longest_window_has_passed_enter() -> None:
    """All convert on day 6 of 7; half were first seen yesterday."""
    metrics = [metric(kind="proportion", window_s=7 * DAY), metric("fast", window_s=60.0)]
    old = np.arange(400) < 200
    y = old * (np.arange(400) % 10 < 8)  # 80 % of the old ones
    columns = {"clicks": column(y, mature=old), "fast": column(np.arange(400.0))}
    result = report(experiment(metrics, units=200), joined(np.arange(400) % 2, columns))
    assert result.units == 200
    assert result.looks[0].effects[0].control == pytest.approx(0.8)
    assert result.looks[0].effects[1].units == (100, 100)


def test_the_first_interval_leaves_out_the_margin_exactly_when_it_is_rejected() -> None:
    one = experiment([metric()], looks=(0.5, 1.0))
    words = set()
    for lost in np.linspace(-0.1, 0.15, 60):
        for looks in (taken(one, [numbers(500, lost)]), taken(one, [numbers(500, lost), numbers(1000, lost)])):
            effect = looks[-1].effects[0]
            assert (effect.outcome == "not_inferior") == (effect.low > -0.05)
            assert (effect.outcome == "inferior") == (effect.joint_high < -0.05)
            words.add((len(looks), effect.outcome))
    assert len(words) == 6


def test_days_alone_spend_by_time_and_correlate_by_units() -> None:
    one = experiment([metric()], units=None, days=10.0, looks=(0.5, 1.0))
    early = report(one, numbers(400), days=4.9)
    assert (early.looks, early.next_look) == ((), None)
    first = report(one, numbers(400), days=5.0)
    assert first.looks[0].alpha_spent == pytest.approx(2 * spent(0.5, 0.025))
    last = report(one, numbers(410), first.looks, days=12.0)
    assert last.looks[-1].final
    errors = [spent(0.5, 0.025), 0.025]
    assert last.looks[-1].bound == pytest.approx(bounds((400, 410), errors)[-1])
    assert last.looks[-1].bound < bounds((0.5, 1.0), errors)[-1] - 0.005


def test_the_end_by_days_spends_what_units_left() -> None:
    one = experiment([metric()], days=10.0, looks=FOUR)
    result = report(one, numbers(300), report(one, numbers(250)).looks, days=10.0)
    assert (result.looks[-1].final, result.looks[-1].alpha_spent) == (True, pytest.approx(0.05))


def test_several_metrics_and_treatments_share_the_error_of_any() -> None:
    shares = {"control": Fraction(1, 2), "a": Fraction(1, 4), "b": Fraction(1, 4)}
    goals = [metric(f"goal{n}", role="goal", margin=0.0) for n in range(3)]
    one = experiment([metric(), *goals], shares)
    assert (shared_by(one, "guardrail"), shared_by(one, "goal")) == (2, 6)
    variant = np.array([0, 1, 0, 2] * 300)
    y = column(np.random.default_rng(1).normal(10, 1, 1200))
    rows = joined(variant, dict.fromkeys(one.metrics, y))
    effects = judge(one, rows, [stage(shares)], (), 1.0, 0.0, 0.0).looks[0].effects
    assert [(effect.metric, effect.variant) for effect in effects[:3]] == [
        ("clicks", "a"),
        ("clicks", "b"),
        ("goal0", "a"),
    ]
    reach = [(effect.joint_high - effect.value) / (effect.high - effect.value) for effect in (effects[0], effects[2])]
    assert reach == pytest.approx([2.2414 / 1.96, 2.6383 / 1.96], rel=0.01)


def effects(**words: str) -> list[Effect]:
    return [Effect(name, "wide", 1, 1, 0, 0, 0, 0, 0, (9, 9), word) for name, word in words.items()]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"clicks": "not_inferior"}, "not_inferior"),
        ({"clicks": "inconclusive"}, "inconclusive"),
        ({"clicks": "inferior"}, "inferior"),
        ({"clicks": "not_inferior", "goal": "not_inferior"}, "not_inferior"),
        ({"clicks": "not_inferior", "goal": "inconclusive"}, "inconclusive"),
        ({"clicks": "not_inferior", "goal": "inferior"}, "inferior"),
        ({"clicks": "inconclusive", "goal": "not_inferior"}, "inconclusive"),
        ({"clicks": "not_inferior", "goal": "not_inferior", "goal2": "inconclusive"}, "not_inferior"),
        ({"goal": "not_inferior"}, "not_inferior"),
        ({"goal": "inconclusive"}, "inconclusive"),
    ],
)
def test_the_word_of_the_whole_follows_the_guardrails_and_goals(words: dict[str, str], expected: str) -> None:
    one = experiment([metric(name, role="goal" if "goal" in name else "guardrail") for name in words])
    assert verdict(one, effects(**words)) == expected


def test_exit_codes_are_those_of_the_offline_verdict() -> None:
    one = experiment([metric()])
    codes = [report(one, numbers(1000, lost)).exit_code for lost in (0.0, 0.2, 0.05)]
    assert codes == [0, 3, 4]


BROKEN: list[tuple[Any, str]] = [
    (lambda rows: {"assigned": np.array([[600, 400]])}, "other shares of units than planned"),
    (lambda rows: {"assigned": np.array([[1000, 0]])}, "wide has no unit"),
    (lambda rows: {"assigned": np.array([[0, 1000]])}, "control has no unit"),
    (
        lambda rows: {"assigned": rows.assigned + 10, "counts": {IN_TWO: 20}},
        "20 of 1,020 units were seen in two variants",
    ),
    (lambda rows: {"variant": np.zeros(1000, int)}, "wide has no unit whose window has passed"),
    (
        lambda rows: {"counts": {LOST: 30}, "ended": {"control": {"answered": 900}, "wide": {"failed": 100}}},
        "30 of 1,030 exposures were lost",
    ),
]


@pytest.mark.parametrize(("change", "why"), BROKEN)
def test_what_cannot_be_trusted_is_broken_and_spends_nothing(change: Any, why: str) -> None:
    rows = numbers(1000)
    one = experiment([metric()])
    result = report(one, dataclasses.replace(rows, **change(rows)), final=True)
    assert (result.outcome, result.exit_code, result.looks) == ("broken", 5, ())
    assert any(why in line for line in result.broken)


def test_a_little_of_what_breaks_is_borne() -> None:
    rows = numbers(1000)
    rows = dataclasses.replace(rows, assigned=rows.assigned + 5, counts={LOST: 9}, ended={"control": {"answered": 991}})
    result = report(experiment([metric()]), rows)
    assert (result.broken, len(result.looks)) == ((), 1)
    assert dict(result.counts) == {LOST: 9}


def test_a_ratio_that_was_broken_once_stays_broken() -> None:
    rows = numbers(1000)
    assert judge(experiment([metric()]), rows, [stage()], (), 1e-4, 0.0, 0.0).outcome == "broken"


def test_units_of_stages_with_other_shares_are_judged_within_them() -> None:
    tenth = {"control": Fraction(9, 10), "wide": Fraction(1, 10)}
    stages = np.repeat([0, 1], 1000)
    variant = np.where(stages == 0, np.arange(2000) % 10 == 0, np.arange(2000) % 2).astype(int)
    y = np.random.default_rng(3).normal(np.where(stages == 0, 5.0, 10.0), 1)
    rows = joined(variant, {"clicks": column(y)}, stages)
    result = judge(experiment([metric()], units=2000), rows, [stage(tenth), stage(HALVES)], (), 1.0, 0.0, 0.0)
    assert result.outcome == "not_inferior"
    assert result.looks[0].effects[0].value == pytest.approx(0, abs=0.03)


def test_power_left_is_how_often_the_rest_of_the_plan_ends_not_inferior() -> None:
    one = experiment([metric(margin=0.025)], looks=(0.5, 1.0))
    half = numbers(500, seed=5)
    first = report(one, half)
    rng, ended = np.random.default_rng(6), 0
    for _ in range(300):
        y = np.append(half.columns["clicks"].y, rng.normal(10, 2, 500))
        rows = joined(np.arange(1000) % 2, {"clicks": Column(y, np.ones(1000, bool))})
        ended += report(one, rows, first.looks).looks[-1].effects[0].outcome == "not_inferior"
    (power,) = first.power.values()
    assert list(first.power) == ["clicks, wide"]
    assert 0.1 < power < 0.95
    assert ended / 300 == pytest.approx(power, abs=4 * math.sqrt(power * (1 - power) / 300) + 0.02)


def test_power_left_is_of_guardrails_alone_and_of_both_directions() -> None:
    metrics = [
        metric(margin=0.04),
        metric("cost", direction="down", margin=0.04),
        metric("goal", role="goal", margin=0.0),
    ]
    one = experiment(metrics, looks=(0.5, 1.0))
    rows = numbers(500, lost=0.05)
    rows = dataclasses.replace(rows, columns=dict.fromkeys(one.metrics, rows.columns["clicks"]))
    power = report(one, rows).power
    assert list(power) == ["clicks, wide", "cost, wide"]
    assert power["clicks, wide"] < power["cost, wide"]


@pytest.mark.parametrize("seed", range(8))
def test_whatever_comes_is_a_word_and_never_more_error_than_the_plan_has(seed: int) -> None:
    """Numbers of odd kinds, arms that are hardly there, and reports at odd times."""
    rng = np.random.default_rng(seed)
    shapes: list[Any] = [
        lambda n: np.zeros(n), lambda n: rng.random(n) < 0.01, lambda n: rng.lognormal(0, 3, n),
        lambda n: rng.normal(0, 1, n), lambda n: 1e300 * rng.random(n), lambda n: 1e9 + rng.random(n) * 1e-6,
    ]  # fmt: skip
    plan: Any = {"units": 300} if seed % 2 else {"units": None, "days": 5.0}
    metrics = [
        metric(f"m{n}", role="goal" if n % 3 == 2 else "guardrail", margin=0.0 if n % 3 == 2 else 0.05,
               margin_kind="absolute" if n % 3 == 1 else "relative", covariate_s=60.0 if n % 2 else None)
        for n in range(6)
    ]  # fmt: skip
    one = experiment(metrics, **plan, looks=(*sorted(rng.random(3)), 1.0))
    variant = (rng.random(500) < rng.choice([0.5, 0.02])).astype(int)
    stages = np.sort(rng.integers(0, 4, 500))
    columns = {
        name: column(shapes[n](500), x=shapes[(n + seed) % 6](500) * 1.0 if n % 2 else None)
        for n, name in enumerate(one.metrics)
    }
    looks: Sequence[Look] = ()
    for count, days in zip(np.sort(rng.integers(0, 500, 12)), np.sort(rng.random(12) * 7), strict=True):
        parts = {
            name: Column(whole.y[:count], whole.mature[:count], None, None if whole.x is None else whole.x[:count])
            for name, whole in columns.items()
        }
        rows = joined(variant[:count], parts, stages[:count])
        rows = dataclasses.replace(rows, assigned=np.array([[count - count // 2, count // 2]]))
        before = looks
        result = judge(one, rows, [stage()], looks, 1.0, days * DAY, 0.0)
        looks = result.looks
        assert result.outcome in ("not_inferior", "inferior", "inconclusive", "broken")
        assert looks[: len(before)] == before
        assert all(0 <= power <= 1 for power in result.power.values())
    spending = [look.alpha_spent for look in looks]
    assert spending == sorted(spending)
    assert all(error <= 0.05 + 1e-12 for error in spending)
    assert [look.final for look in looks[:-1]] == [False] * (len(looks) - 1)
    for effect in (effect for look in looks for effect in look.effects):
        assert effect.low < effect.high
        assert effect.joint_low <= effect.low
        assert effect.high <= effect.joint_high
        assert math.isfinite(effect.low) or effect.why
