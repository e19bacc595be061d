import math
import tracemalloc

import numpy as np
import pytest
from scipy.stats import binom, binomtest, norm

from octorec.errors import InputError
from octorec.evaluate import paired
from octorec.evaluate.paired import Estimate, estimate, mean, relative, resample


def one(user_ids, metric, **options):
    return estimate(np.asarray(user_ids, dtype=object), {"m": metric}, **options)["m"]


def recall(baseline, candidate):
    return relative(np.asarray(baseline, float), np.asarray(candidate, float), least=1.0, step=1.0)


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


def test_bootstrap_agrees_with_the_delta_method():
    users, baseline, candidate = flips(np.random.default_rng(0), 3000, 2, loss=0.1, gain=0.01)
    result = one(users, recall(baseline, candidate))
    a, d = np.bincount(users, baseline), np.bincount(users, candidate - baseline)
    residual = d - result.value * a
    half = norm.ppf(0.975) * residual.std() / math.sqrt(len(a)) / a.mean()
    assert result.method == "bootstrap"
    assert result.value == pytest.approx(candidate.mean() / baseline.mean() - 1)
    assert result.low == pytest.approx(result.value - half, abs=0.08 * half)
    assert result.high == pytest.approx(result.value + half, abs=0.08 * half)


def test_mean_interval_agrees_with_the_normal_one():
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


def test_metrics_together_are_what_each_is_alone():
    users, baseline, candidate = flips(np.random.default_rng(3), 300, 2, loss=0.3, gain=0.02)
    metrics = {
        "recall": recall(baseline, candidate),
        "nll": mean(baseline * 3, candidate * 2),
        "none": recall(baseline, baseline),
    }
    together = estimate(users, metrics)
    assert list(together) == list(metrics)
    for name, metric in metrics.items():
        alone, beside = one(users, metric).to_dict(), together[name].to_dict()
        assert {**alone, "method": 0} == pytest.approx({**beside, "method": 0})


def test_the_seed_decides():
    users, baseline, candidate = flips(np.random.default_rng(4), 300, 1, loss=0.3, gain=0.02)
    metric = recall(baseline, candidate)
    assert one(users, metric, seed=1) == one(users, metric, seed=1)
    assert one(users, metric, seed=1) != one(users, metric, seed=2)


def test_resamples_draw_as_many_users_in_bounded_pieces(monkeypatch):
    monkeypatch.setattr(paired, "CHUNK_ENTRIES", 100)
    columns = np.stack([np.ones(30), np.arange(30.0)], 1)
    totals = resample(columns, 1000, seed=0)
    assert (totals[:, 0] == 30).all()
    assert totals[:, 1].mean() == pytest.approx(30 * 14.5, rel=0.02)
    assert totals[:, 1].std() == pytest.approx(math.sqrt(30) * np.arange(30).std(), rel=0.1)


def test_no_discordant_user_is_bounded_by_the_rule_of_three():
    baseline = np.repeat([1.0, 0.0], [200, 800])
    result = one(np.arange(1000), recall(baseline, baseline))
    assert (result.value, result.method, result.discordant) == (0, "exact", 0)
    assert result.low == pytest.approx(-(1 - 0.025 ** (1 / 200)))  # 3.7 / 200: only hits can be lost
    assert 3 / 200 < result.high < 8 / 200


@pytest.mark.parametrize("lost", [1, 4, 9])
def test_few_discordant_users_give_the_exact_bound_of_the_share_of_hits_lost(lost):
    baseline = np.repeat([1.0, 0.0], [100, 300])
    candidate = baseline.copy()
    candidate[:lost] = 0
    result = one(np.arange(400), recall(baseline, candidate))
    clopper_pearson = binomtest(lost, 100).proportion_ci(0.95, method="exact")
    assert result.method == "exact"
    assert result.low == pytest.approx(-clopper_pearson.high)
    assert binom.cdf(lost, 100, -result.low) == pytest.approx(0.025)


def test_ten_discordant_users_are_enough_for_the_bootstrap():
    baseline = np.ones(100)
    candidate = baseline.copy()
    candidate[:10] = 0
    assert one(np.arange(100), recall(baseline, candidate)).method == "bootstrap"
    candidate[0] = 1
    assert one(np.arange(100), recall(baseline, candidate)).method == "exact"


def test_a_user_who_loses_one_target_and_gains_another_is_not_discordant():
    result = one(["a", "a"], recall([1, 0], [0, 1]))
    assert result.discordant == 0


def test_rounding_makes_no_discordant_user():
    values = np.array([0.1, 0.7, 0.3])
    changed = values[[1, 2, 0]]
    assert (changed - values).sum() != 0
    assert one(["a"] * 3, relative(values, changed, least=0.1)).discordant == 0


def test_more_targets_a_user_widen_the_exact_interval():
    single = one(np.arange(400), recall(np.ones(400), np.ones(400)))
    baseline = np.tile([1.0, 0.0], 400)  # each user's one hit of two targets
    double = one(np.repeat(np.arange(400), 2), recall(baseline, baseline))
    assert double.low < 1.9 * single.low


def test_a_clear_loss_of_few_users_is_seen_exactly():
    baseline, candidate = np.ones(12), np.repeat([0.0, 1.0], [9, 3])
    result = one(np.arange(12), recall(baseline, candidate))
    assert result.method == "exact"
    assert result.low < -0.75 < result.high < 0


def test_nothing_bounds_an_unbounded_metric_that_never_differed():
    nll = np.linspace(1, 9, 500)
    result = one(np.arange(500), mean(nll, nll))
    assert (result.value, result.low, result.high) == (0, -math.inf, math.inf)
    assert result.to_dict()["low"] is None


def test_a_baseline_without_a_hit_has_no_relative_difference():
    result = one(np.arange(50), recall(np.zeros(50), np.repeat([1.0, 0.0], [5, 45])))
    assert math.isnan(result.value)
    assert (result.low, result.high) == (-math.inf, math.inf)
    many = one(np.arange(50), recall(np.zeros(50), np.repeat([1.0, 0.0], [30, 20])))
    assert (many.low, many.high) == (-1, math.inf)


@pytest.mark.parametrize(("option", "value"), [("confidence", 1.0), ("confidence", 0.0), ("resamples", 10)])
def test_bad_options(option, value):
    with pytest.raises(InputError, match=option):
        one(["a"], recall([1], [1]), **{option: value})


def covered(draw, truth, trials, **options):
    """Shares of trials whose interval is exact, and whose interval holds `truth`."""
    rng = np.random.default_rng(5)
    results: list[Estimate] = [one(*draw(rng), seed=trial, **options) for trial in range(trials)]
    exact = np.mean([result.method == "exact" for result in results])
    return exact, np.mean([result.low <= truth <= result.high for result in results])


def hits_at_risk(loss):
    """100 users with a hit each, of which `loss` are lost on average."""
    return lambda rng: (np.arange(100), recall(np.ones(100), rng.random(100) >= loss))


@pytest.mark.parametrize("loss", [0.005, 0.03, 0.05])
def test_exact_interval_covers(loss):
    exact, coverage = covered(hits_at_risk(loss), -loss, 400)
    assert exact > 0.9
    assert coverage >= 0.95


def test_the_bootstrap_does_not_cover_where_little_differs(monkeypatch):
    """Why there is an exact interval: 60 % of these bootstraps give [0, 0]."""
    monkeypatch.setattr(paired, "EXACT_BELOW", 0)
    exact, coverage = covered(hits_at_risk(0.005), -0.005, 400, resamples=200)
    assert exact == 0
    assert coverage < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("weigh", [False, True])
@pytest.mark.parametrize(("users", "targets"), [(300, 2), (100, 5)])
def test_exact_interval_covers_in_its_worst_case(users, targets, weigh):
    """Rare users lose or gain everything they can; each hit counts 1, or something from 0.3 to 1."""

    def draw(rng, users=users):
        count = users * targets
        users_of = np.repeat(np.arange(users), targets)
        weight = rng.choice([0.3, 0.5, 1.0], count) if weigh else np.ones(count)
        hit = rng.random(count) < np.repeat(rng.beta(2, 5, users), targets)
        chance = np.repeat(rng.random(users), targets)
        kept = np.where(chance < 0.008, False, np.where(chance > 0.996, True, hit))
        return users_of, relative(hit * weight, kept * weight, 0.3 if weigh else 1.0, 0.0 if weigh else 1.0)

    _, many = draw(np.random.default_rng(7), 200_000)
    exact, coverage = covered(draw, many.difference.sum() / many.weight.sum(), 1000)
    assert exact > 0.9
    assert coverage >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("users", [1500, 4000])
def test_bootstrap_covers_about_as_promised(users):
    def draw(rng):
        users_of, baseline, candidate = flips(rng, users, 2, loss=0.05, gain=0.004)
        return users_of, recall(baseline, candidate)

    truth = -0.05 + 0.004 * 6  # misses are 6 times the hits: Beta(1, 6)
    exact, coverage = covered(draw, truth, 500, resamples=300)
    assert exact < 0.05
    assert 0.91 <= coverage <= 0.985


def test_memory_at_the_largest_set_we_judge():
    """77,373 users: all 200 resamples at once would take 124 MB an array, and three arrays are alive."""
    columns = np.random.default_rng(8).random((77_373, 6))
    tracemalloc.start()
    totals = resample(columns, 200, seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3.2 * 8 * paired.CHUNK_ENTRIES
    assert totals.std(0) == pytest.approx(columns.std(0) * math.sqrt(77_373), rel=0.3)
