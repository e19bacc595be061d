"""Bounds keep the level whenever the looks come, and are those that were published."""

import math
import time

import numpy as np
import pytest

from octorec.evaluate.online.bounds import bounds, crossing, drift_needed, planned, spent

FIVE = (0.2, 0.4, 0.6, 0.8, 1.0)


@pytest.mark.parametrize(
    ("looks", "published"),
    [
        (1, (1.95996,)),
        (2, (2.9626, 1.9686)),
        (3, (3.7103, 2.5114, 1.9930)),
        (4, (4.3326, 2.9631, 2.3590, 2.0141)),
        (5, (4.8769, 3.3569, 2.6803, 2.2898, 2.0310)),
    ],
)
def test_equal_looks_have_the_published_bounds(looks: int, published: tuple[float, ...]) -> None:
    """One-sided 0.025, as gsDesign and Lan and DeMets' own program print them."""
    assert planned([(look + 1) / looks for look in range(looks)], 0.025) == pytest.approx(published, abs=1.5e-4)


@pytest.mark.parametrize(
    "information", [FIVE, (0.1, 0.15, 0.9, 1.3), (0.3, 0.999, 1.0), (0.5, 0.5001, 1.0), (0.01, 1.0)]
)
def test_the_error_of_all_looks_is_the_level_in_a_monte_carlo(information: tuple[float, ...]) -> None:
    rng = np.random.default_rng(0)
    limits = bounds(information, [spent(share, 0.025) for share in information])
    steps = np.diff([0.0, *information])
    paths = (rng.normal(size=(200_000, len(steps))) * np.sqrt(steps)).cumsum(1) / np.sqrt(information)
    assert (paths > limits).any(1).mean() == pytest.approx(0.025, abs=4 * math.sqrt(0.025 / 200_000))


def test_what_is_crossed_is_what_was_spent() -> None:
    limits = planned(FIVE, 0.025)
    assert np.cumsum(crossing(FIVE, limits)) == pytest.approx([spent(share, 0.025) for share in FIVE], abs=1e-10)


def test_the_error_that_is_spent_rises_to_the_level_and_no_further() -> None:
    shares = [0.0, 1e-9, 0.01, 0.3, 0.999, 1.0, 1.3, 1e9]
    errors = [spent(share, 0.025) for share in shares]
    assert errors == sorted(errors)
    assert errors[0] == 0
    assert errors[-1] == errors[-2] == errors[-3] == pytest.approx(0.025)


def test_looks_that_are_far_too_early_have_no_bound_and_leave_their_error() -> None:
    shares = (0.01, 0.999, 1.0, 1.3)
    limits = bounds(shares, [spent(share, 0.025) for share in shares])
    assert limits[0] == math.inf
    assert limits[1] == pytest.approx(1.9612, abs=1e-3)
    assert limits[2] > limits[1]
    assert limits[3] == math.inf  # nothing is left
    assert sum(crossing(shares, limits)) <= 0.025 + 1e-9


def test_the_last_look_spends_what_missed_looks_left() -> None:
    missed = bounds((0.2, 1.0), [spent(0.2, 0.025), 0.025])
    assert missed[1] == pytest.approx(1.96, abs=1e-3)
    early = bounds((0.2, 0.4, 0.7), [spent(0.2, 0.025), spent(0.4, 0.025), 0.025])
    assert sum(crossing((0.2, 0.4, 0.7), early)) == pytest.approx(0.025, abs=1e-9)


def test_an_overrun_counts_with_the_units_really_reached() -> None:
    errors = [spent(share, 0.025) for share in FIVE]
    planned_end, overrun = bounds(FIVE, errors)[-1], bounds((*FIVE[:-1], 1.3), errors)[-1]
    assert overrun > planned_end  # it is less alike to the looks before, and what crosses it crossed none of them
    assert sum(crossing((*FIVE[:-1], 1.3), bounds((*FIVE[:-1], 1.3), errors))) == pytest.approx(0.025, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_no_looks_whatsoever_err_more_than_the_level(seed: int) -> None:
    rng = np.random.default_rng(seed)
    information = np.unique(rng.random(rng.integers(1, 12)) * 10 ** rng.integers(0, 4)) + 1e-9
    shares = np.append(np.sort(rng.random(len(information) - 1)), 1.0)
    level = float(rng.choice([0.25, 0.025, 0.001]))
    limits = bounds(tuple(information), [spent(share, level) for share in shares])
    assert all(limit > 0 for limit in limits)
    assert sum(crossing(tuple(information), limits)) <= level * (1 + 1e-6)


def test_twenty_looks_take_no_time_to_speak_of() -> None:
    start = time.process_time()
    planned([(look + 1) / 20 for look in range(20)], 0.0123)
    assert time.process_time() - start < 5


def test_several_looks_need_a_few_percent_more_units() -> None:
    single = drift_needed((1.0,), 0.025, 0.9)
    assert single == pytest.approx(1.959964 + 1.281552, abs=1e-5)

    drift, rng = drift_needed(FIVE, 0.025, 0.9), np.random.default_rng(1)
    steps = drift * 0.2 + rng.normal(size=(200_000, 5)) * np.sqrt(0.2)
    crossed = (steps.cumsum(1) / np.sqrt(FIVE) > planned(FIVE, 0.025)).any(1).mean()
    assert crossed == pytest.approx(0.9, abs=4 * math.sqrt(0.09 / 200_000))
    assert 1.02 < (drift / single) ** 2 < 1.026  # of O'Brien and Fleming's own bounds it is 1.026
