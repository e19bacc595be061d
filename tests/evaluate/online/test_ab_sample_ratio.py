"""The sample-ratio check may be looked at at any time."""

from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import betabinom, binom

from octorec.evaluate.online.sample_ratio import LEVEL, expected_shares, log_bayes_factor, sample_ratio
from tests.evaluate.online.ab_numbers import HALVES

NAMES = ("control", "wide")


def found(share: float, units: int, runs: int = 4000) -> float:
    treated = np.random.default_rng(1).binomial(units, share, runs)
    factors = log_bayes_factor(np.stack([units - treated, treated], 1), np.array([0.5, 0.5]))
    return float((factors > -np.log(LEVEL)).mean())


def test_the_bayes_factor_is_a_ratio_of_two_likelihoods() -> None:
    counts = np.array([7, 12])
    wide, narrow = (betabinom.pmf(7, 19, a / 2, a / 2) for a in (2.0, 1000.0))
    expected = (wide + narrow) / 2 / binom.pmf(7, 19, 0.5)
    assert np.exp(log_bayes_factor(counts, np.array([0.5, 0.5]))) == pytest.approx(expected)


def test_an_imbalance_of_one_percent_is_found_in_100_000_units() -> None:
    assert found(0.51, 100_000) > 0.94
    assert 0.68 < found(0.508, 100_000) < 0.78
    assert found(0.5, 100_000) <= LEVEL


def test_a_sound_experiment_looked_at_all_the_time_is_hardly_ever_broken() -> None:
    steps = np.random.default_rng(2).multinomial(50, [0.5, 0.5], size=(4000, 200)).cumsum(1)
    assert (log_bayes_factor(steps, np.array([0.5, 0.5])).max(1) > -np.log(LEVEL)).mean() <= LEVEL + 3 * 0.0005


def test_a_variant_that_gets_nothing_is_found_after_twenty_units() -> None:
    assert sample_ratio(NAMES, np.array([[20, 0]]), [HALVES]).broken
    assert not sample_ratio(NAMES, np.array([[3, 0]]), [HALVES]).broken


def test_no_units_are_no_evidence() -> None:
    result = sample_ratio(NAMES, np.zeros((1, 2), int), [HALVES])
    assert (result.p, result.broken) == (1.0, False)


def test_units_where_a_share_is_0_break_the_experiment() -> None:
    none = {"control": Fraction(1), "wide": Fraction(0)}
    assert sample_ratio(NAMES, np.array([[1000, 1]]), [none]).broken
    assert not sample_ratio(NAMES, np.array([[1000, 0]]), [none]).broken


def test_each_stage_is_held_to_its_own_shares() -> None:
    tenth = {"control": Fraction(9, 10), "wide": Fraction(1, 10)}
    assigned = np.array([[9000, 1000], [5000, 5000]])
    result = sample_ratio(NAMES, assigned, [tenth, HALVES])
    assert not result.broken
    assert result.expected == {"control": 14000, "wide": 6000}
    assert sample_ratio(NAMES, assigned, [HALVES, HALVES]).broken


def test_small_imbalances_of_several_stages_add_up() -> None:
    one = sample_ratio(NAMES, np.array([[5170, 4830]]), [HALVES])
    three = sample_ratio(NAMES, np.array([[5170, 4830]] * 3), [HALVES] * 3)
    assert not one.broken
    assert three.broken
    assert three.p == pytest.approx(one.p**3)


def test_a_low_p_is_never_forgotten() -> None:
    even = np.array([[5000, 5000]])
    assert sample_ratio(NAMES, even, [HALVES], lowest_p=0.0005).broken
    assert sample_ratio(NAMES, even, [HALVES], lowest_p=0.5).p == 0.5


def test_thirds_are_expected_as_whole_buckets() -> None:
    assert expected_shares([Fraction(1, 3)] * 3).tolist() == [0.3334, 0.3333, 0.3333]
    thirds = {name: Fraction(1, 3) for name in ("control", "a", "b")}
    billions = np.array([[3334, 3333, 3333]]) * 10**7
    assert not sample_ratio(tuple(thirds), billions, [thirds]).broken
