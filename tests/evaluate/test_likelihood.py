"""Empirical likelihood by hand, against scipy, and the property that the verdict rests on: it is monotone."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import t

from octorec.evaluate.likelihood import evidence, threshold


def slow_evidence(z, counts, worst):
    """The same maximum by a general optimiser."""
    z, counts = np.append(z, -worst), np.append(counts, 1.0)
    found = minimize_scalar(
        lambda lam: -float(counts @ np.log1p(lam * z)), bounds=(0, -1 / z.min() * (1 - 1e-12)), method="bounded",
        options={"xatol": 1e-13, "maxiter": 2000},
    )  # fmt: skip
    return max(0.0, -found.fun)


VALUE = st.integers(-100, 100).map(lambda hundredths: hundredths / 100)


@given(st.lists(st.tuples(VALUE, st.integers(1, 500)), min_size=1, max_size=8), VALUE.map(abs))
@settings(max_examples=200, deadline=None)
def test_evidence_is_the_maximum(rows, more):
    z, counts = (np.array(column, float) for column in zip(*rows, strict=True))
    worst = max(0.0, float((-z).max())) + more
    found = evidence(z, counts, worst)
    if (z < 0).any() or worst > 0:
        assert found == pytest.approx(slow_evidence(z, counts, worst), rel=1e-6, abs=1e-6)


def test_two_values_by_hand():
    """One user of value a beside the worst, -b: the maximum is log((a + b)^2 / (4 a b)) where a > b."""
    assert evidence(np.array([3.0]), np.ones(1), 1.0) == pytest.approx(math.log(16 / 12))
    assert evidence(np.array([1.0]), np.ones(1), 1.0) == 0
    assert evidence(np.array([1.0, 2.0]), np.ones(2), 0.0) == np.inf
    assert evidence(np.zeros(2), np.ones(2), 0.0) == 0


def test_the_threshold_is_that_of_student():
    assert 2 * threshold(7, 0.025) == pytest.approx(t.isf(0.025, 6) ** 2)
    assert threshold(10**9, 0.025) == pytest.approx(1.9207, abs=1e-3)
    assert threshold(1, 0.025) == np.inf


@given(
    st.lists(st.tuples(VALUE, st.integers(1, 50)), min_size=1, max_size=8),
    st.integers(0, 7), VALUE.map(abs),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_a_lower_value_never_adds_evidence(rows, which, less):
    z, counts = (np.array(column, float) for column in zip(*rows, strict=True))
    lower = z.copy()
    lower[which % len(z)] -= less
    assert evidence(lower, counts, 2.0) <= evidence(z, counts, 2.0) * (1 + 1e-9)
