import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from octorec.errors import InputError
from octorec.evaluate.paired import JOINT, estimate, mean, relative
from octorec.evaluate.verdict import decide


def one(user_ids, metric, **options):
    return estimate(np.asarray(user_ids, dtype=object), {"m": metric}, **options)["m"]


def recall(baseline, candidate):
    return relative(np.asarray(baseline, float), np.asarray(candidate, float))


def flips(rng, users, targets, loss, gain):
    """Hits of two systems: user ids, baseline, candidate, each [users * targets]."""
    baseline = rng.random(users * targets) < np.repeat(rng.beta(1, 6, users), targets)
    chance = rng.random(users * targets)
    candidate = np.where(baseline, chance >= loss, chance < gain)
    return np.repeat(np.arange(users), targets), baseline.astype(float), candidate.astype(float)


def test_values_by_hand():
    result = one(["a", "a", "b"], recall([1, 0, 1], [1, 1, 0]))
    assert result.value == 0
    assert (result.users, result.discordant) == (2, 2)
    assert one(["a", "a", "b"], recall([1, 0, 1], [1, 1, 1])).value == pytest.approx(0.5)
    assert one(["a", "b"], mean(np.array([1.0, np.nan]), np.array([3.0, 5.0]))).value == 2


def test_the_interval_agrees_with_the_delta_method_where_many_differ():
    users, baseline, candidate = flips(np.random.default_rng(0), 30_000, 2, loss=0.1, gain=0.01)
    result = one(users, recall(baseline, candidate))
    a, d = np.bincount(users, baseline), np.bincount(users, candidate - baseline)
    residual = d - result.value * a
    half = norm.ppf(0.975) * residual.std() / math.sqrt(len(a)) / a.mean()
    assert result.value == pytest.approx(candidate.mean() / baseline.mean() - 1)
    assert result.low == pytest.approx(result.value - half, abs=0.06 * half)
    assert result.high == pytest.approx(result.value + half, abs=0.06 * half)
    joint = norm.isf(0.025 / JOINT) / norm.ppf(0.975) * half
    assert result.joint_high == pytest.approx(result.value + joint, abs=0.06 * half)


def test_the_interval_of_a_mean_agrees_with_the_normal_one():
    rng = np.random.default_rng(1)
    nll = rng.normal(10, 2, 2000)
    worse = nll + rng.normal(0.02, 0.3, 2000)
    result = one(np.arange(2000), mean(nll, worse))
    half = norm.ppf(0.975) * (worse - nll).std() / math.sqrt(2000)
    assert result.low == pytest.approx(result.value - half, abs=0.08 * half)
    assert result.high == pytest.approx(result.value + half, abs=0.08 * half)


def test_users_not_targets_are_the_units():
    """Every target written down four times brings no new user, so the interval stays what it was."""
    users, baseline, candidate = flips(np.random.default_rng(2), 500, 1, loss=0.3, gain=0.02)
    once = one(users, recall(baseline, candidate))
    again = one(np.repeat(users, 4), recall(np.repeat(baseline, 4), np.repeat(candidate, 4)))
    assert (again.low, again.high) == pytest.approx((once.low, once.high))
    as_units = one(np.arange(2000), recall(np.repeat(baseline, 4), np.repeat(candidate, 4)))
    assert as_units.high - as_units.low < 0.6 * (once.high - once.low)


def test_nobody_who_differs_is_bounded_about_by_the_rule_of_three():
    baseline = np.repeat([1.0, 0.0], [200, 800])
    result = one(np.arange(1000), recall(baseline, baseline))
    assert (result.value, result.discordant) == (0, 0)
    assert -5 / 200 < result.low < -(1 - 0.025 ** (1 / 200))  # 3.7 / 200 is exact
    assert 3 / 200 < result.high < 8 / 200


@pytest.mark.parametrize("lost", [0, 1, 4, 9, 10, 25, 60])
def test_hits_lost_one_a_user_are_bounded_as_clopper_and_pearson_do(lost):
    """Never nearer than the exact bound of a binomial share, and by no more than a tenth of its reach farther."""
    baseline = np.repeat([1.0, 0.0], [100, 300])
    candidate = baseline.copy()
    candidate[:lost] = 0
    result = one(np.arange(400), recall(baseline, candidate))
    exact = -binomtest(lost, 100).proportion_ci(0.95, method="exact").high
    assert exact + 0.002 >= result.low >= result.value + 1.25 * (exact - result.value)


def test_a_user_who_loses_one_target_and_gains_another_is_not_discordant():
    assert one(["a", "a"], recall([1, 0], [0, 1])).discordant == 0


def test_rounding_makes_no_discordant_user():
    values = np.array([0.1, 0.7, 0.3])
    changed = values[[1, 2, 0]]
    assert (changed - values).sum() != 0
    assert one(["a"] * 3, relative(values, changed)).discordant == 0


def test_who_can_lose_more_widens_the_interval():
    single = one(np.repeat(np.arange(400), 2), recall(np.tile([1, 0], 400), np.tile([1, 0], 400)))
    baseline = np.repeat([1.0, 0.0], 400)  # as many hits, two each of half as many users
    double = one(np.repeat(np.arange(400), 2), recall(baseline, baseline))
    assert double.low < 1.9 * single.low


def test_a_clear_loss_of_few_users_is_seen():
    baseline, candidate = np.ones(12), np.repeat([0.0, 1.0], [9, 3])
    result = one(np.arange(12), recall(baseline, candidate))
    assert result.low < -0.75 < result.high < 0


def test_identical_answers_have_no_loss_of_an_unbounded_metric():
    nll = np.linspace(1, 9, 500)
    result = one(np.arange(500), mean(nll, nll))
    assert (result.value, result.low, result.high) == (0, pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9))


def test_one_user_bounds_nothing():
    result = one(["a", "a"], recall([1, 1], [1, 0]))
    assert (result.value, result.low, result.high) == (-0.5, -1, math.inf)
    unbounded = one(["a", "a"], mean(np.array([1.0, 2.0]), np.array([2.0, 2.0])))
    assert (unbounded.low, unbounded.high) == (-math.inf, math.inf)
    assert unbounded.to_dict()["low"] is None


def test_a_baseline_without_a_hit_has_no_relative_difference():
    result = one(np.arange(50), recall(np.zeros(50), np.repeat([1.0, 0.0], [30, 20])))
    assert math.isnan(result.value)
    assert (result.low, result.high) == (-math.inf, math.inf)


def test_every_hit_lost_is_a_loss_of_everything():
    result = one(np.arange(50), recall(np.ones(50), np.zeros(50)))
    assert (result.value, result.low) == (-1, -1)
    assert -1 <= result.high < -0.8


@pytest.mark.timeout(300)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_no_number_is_refused_and_its_user_named(value):
    with pytest.raises(InputError, match="m: got 'NaN or infinity for user b'"):
        one(["a", "b"], recall([1, 1], [1, value]))
    if not math.isnan(value):  # which a mean leaves out
        for baseline in (0.0, value):
            with pytest.raises(InputError, match="user b"):
                one(["a", "b"], mean(np.array([1.0, baseline]), np.array([1.0, value])))


def test_users_without_a_scored_target_are_no_users_of_an_unbounded_metric():
    scored = np.where(np.arange(50) < 20, 1.0, np.nan)
    assert one(np.arange(50), mean(scored, scored + 1)).users == 20
    assert one(np.arange(50), recall(np.zeros(50), np.zeros(50))).users == 50


@pytest.mark.parametrize("value", [1.0, 0.0])
def test_bad_confidence(value):
    with pytest.raises(InputError, match="confidence"):
        one(["a"], recall([1], [1]), confidence=value)


ORDER = {"inferior": 0, "inconclusive": 1, "not_inferior": 2}


def losing(seed, users, targets, steps):
    """A candidate that loses hits one by one: how many, and the estimates of recall and NDCG."""
    rng = np.random.default_rng(seed)
    ids = np.repeat(np.arange(users), targets)
    hit = rng.random(users * targets) < np.repeat(rng.beta(1, 4, users), targets)
    kept = np.where(rng.random(len(hit)) < 0.1, rng.random(len(hit)) < hit.mean(), hit)  # some noise to begin with
    gain = 1 / np.log2(rng.integers(0, 10, (2, len(hit))) + 2.0)
    gain[1] = np.where(rng.random(len(hit)) < 0.3, gain[1], gain[0])  # other ranks
    order = rng.permutation(np.flatnonzero(kept))
    for stop in np.unique(np.linspace(0, len(order), min(len(order), steps) + 1).astype(int)):
        left = kept.copy()
        left[order[:stop]] = False
        pairs = {"recall": relative(hit * 1.0, left * 1.0), "ndcg": relative(hit * gain[0], left * gain[1])}
        yield int(stop), estimate(ids, pairs)


ANY_USERS = st.one_of(st.integers(5, 60), st.integers(5, 5000))
MARGINS = st.sampled_from([0.01, 0.05, 0.2])


def assert_never_better(seed, users, targets, margin, steps):
    before = None
    for _, found in losing(seed, users, targets, steps):
        outcome = ORDER[decide(found, margin).outcome]
        if before is not None:
            for name, now in found.items():
                assert now.low <= before[0][name].low + 1e-9
                assert now.high <= before[0][name].high + 1e-9 * max(1, before[0][name].high)
            assert outcome <= before[1]
        before = found, outcome


@pytest.mark.slow
@given(st.integers(0, 10**6), ANY_USERS, st.integers(1, 10), MARGINS)
@settings(max_examples=8, deadline=None)
def test_who_loses_one_more_hit_is_never_judged_better(seed, users, targets, margin):
    assert_never_better(seed, users, targets, margin, steps=12)


@pytest.mark.slow
@given(st.integers(0, 10**6), ANY_USERS, st.integers(1, 10), MARGINS)
@settings(max_examples=60, deadline=None)
def test_hits_lost_one_by_one_never_help(seed, users, targets, margin):
    assert_never_better(seed, users, targets, margin, steps=60)


def test_no_jump_where_ten_users_differ():
    """943 users with 10 targets, 2 of them hits: the low end falls by about one hit of 1,886 for each that is lost."""
    baseline = np.zeros((943, 10))
    baseline[:, :2] = 1
    ids, ends = np.repeat(np.arange(943), 10), []
    for lost in range(30):
        candidate = baseline.copy()
        candidate[:lost, 0] = 0
        ends.append(one(ids, recall(baseline.ravel(), candidate.ravel())).low)
    steps = -np.diff(ends) * 1886
    assert ends[0] > -0.005
    assert (steps > 1).all()
    assert (steps < 1.5).all()


@pytest.mark.slow
def test_a_million_users_take_seconds():
    rng = np.random.default_rng(5)
    values = rng.choice(1 / np.log2(np.arange(2, 12)), 10**6) * (rng.random(10**6) < 0.1)
    result = one(np.arange(10**6), relative(values, np.where(rng.random(10**6) < 0.02, 0.0, values)))
    assert result.low < -0.02 < result.high
