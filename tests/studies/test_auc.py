"""AUC against scikit-learn and against pairs counted one by one; intervals that cover what they should."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from octorec.errors import InputError
from studies.families.auc import _weighted, auc, auc_intervals


def data(n: int = 400, seed: int = 0, signal: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    clicks = (rng.random(n) < 0.4).astype(float)
    return np.round(rng.normal(size=n) + signal * clicks, 1), clicks, rng.integers(40, size=n)


def test_auc_with_ties_is_scikit_learns() -> None:
    scores, clicks, _ = data()
    assert auc(scores, clicks) == pytest.approx(roc_auc_score(clicks, scores), abs=1e-12)
    assert auc(np.zeros(400), clicks) == 0.5


def test_weights_count_examples_several_times() -> None:
    scores, clicks, _ = data()
    weights = np.random.default_rng(1).integers(0, 4, size=(3, 400)).astype(float)
    for row, value in zip(weights, _weighted(scores, clicks, weights), strict=True):
        assert value == pytest.approx(roc_auc_score(clicks, scores, sample_weight=row), abs=1e-12)


def test_intervals_are_paired_and_by_user() -> None:
    scores, clicks, users = data(2000)
    noisy = scores + np.random.default_rng(2).normal(size=len(scores))
    found = auc_intervals({"a": scores, "same": scores + 1.0, "noisy": noisy}, clicks, users, "a")
    assert found["a"]["low"] < found["a"]["auc"] < found["a"]["high"]
    assert found["same"]["difference_low"] == found["same"]["difference_high"] == 0.0
    assert found["noisy"]["difference_high"] < 0
    alone = np.arange(2000)
    one_each = auc_intervals({"a": scores}, clicks, alone, "a")["a"]
    twice = auc_intervals({"a": np.tile(scores, 2)}, np.tile(clicks, 2), np.tile(alone, 2), "a")["a"]
    assert twice["high"] - twice["low"] == pytest.approx(one_each["high"] - one_each["low"], rel=0.01)


def test_one_kind_of_example_has_no_auc() -> None:
    with pytest.raises(InputError, match="clicks"):
        auc_intervals({"a": np.arange(3.0)}, np.ones(3), np.arange(3), "a")
